"""A file with bounded columns and angles: fit, stop, resume, nll, sample, report."""

import json

import numpy as np
import polars as pl
import pytest

from scoreode.data import Circle, Interval
from scoreode.train import saved

DECLARED = ("--bounds", "share=0:1", "price=0:", "--period", "wind=360")


def frame_of(n, seed):
    rng = np.random.default_rng(seed)
    columns = {
        "share": rng.beta(0.5, 2, n),
        "wind": 360 * rng.random(n),
        "price": rng.gamma(0.7, size=n),
    }
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bounds") / "bounds.csv"
    frame_of(200, 0).write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(cli, file, tiny):
    path = file.parent / "run"
    result = cli("fit", file, *tiny, "--steps", 20, *DECLARED, "--out", path)
    assert result.code == 0, result.err
    return path


def test_a_run_knows_its_support(run):
    fitted = saved.load(run)
    assert fitted.data.support == {
        "share": Interval(0.0, 1.0),
        "price": Interval(0.0, None),
        "wind": Circle(360.0, 0.0),
    }
    document = json.loads((run / "config.json").read_text())
    assert "--bounds share=0:1 price=0: --period wind=360" in document["command"]
    assert document["data"]["support"]["price"] == {"low": 0.0, "high": None}


def test_densities_and_samples_are_on_the_support(cli, run, tmp_path):
    frame_of(40, 1).write_csv(tmp_path / "new.csv")
    result = cli("nll", run, tmp_path / "new.csv", "--json")
    assert result.code == 0, result.err
    turned = frame_of(40, 1).with_columns(wind=pl.col("wind") - 360)
    turned.write_csv(tmp_path / "turned.csv")
    again = json.loads(cli("nll", run, tmp_path / "turned.csv", "--json").out)
    assert again["nats_mean"] == pytest.approx(json.loads(result.out)["nats_mean"], abs=1e-4)
    assert "wind" not in again["beyond_training_columns"]
    result = cli("sample", run, "-n", 200, "--out", tmp_path / "drawn.csv")
    assert result.code == 0, result.err
    drawn = pl.read_csv(tmp_path / "drawn.csv")
    assert drawn["share"].is_between(0, 1, closed="none").all()
    assert drawn["wind"].is_between(0, 360, closed="left").all()
    assert drawn["price"].min() > 0


def test_rows_outside_stop_an_evaluation(cli, run, tmp_path):
    frame = frame_of(9, 1)
    frame[6, "share"] = 1.5
    frame.write_csv(tmp_path / "new.csv")
    result = cli("nll", run, tmp_path / "new.csv")
    assert result.code == 2
    assert "row 7, column share holds 1.5, outside its bounds 0:1" in result.said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bounds", "share=0.5:1"], "column share holds"),
        (["--bounds", "share"], "give NAME=LOW:HIGH, NAME=LOW: or NAME=:HIGH"),
        (["--bounds", "shares=0:1"], "no column 'shares' among share, wind, price"),
        (["--period", "wind=6.283185307179586"], "degrees seem meant, a period of 360"),
        (["--given", "wind", "--period", "wind=360"], "column wind is a condition"),
    ],
)
def test_what_is_no_support_is_said(cli, file, options, message):
    result = cli("fit", file, *options)
    assert result.code == 2
    assert message in result.said


def test_values_at_a_bound_are_said_before_training(cli, tmp_path):
    frame = frame_of(100, 2).with_columns(price=pl.col("price").clip(0.5))
    frame.write_csv(tmp_path / "clipped.csv")
    result = cli("fit", tmp_path / "clipped.csv", "--bounds", "price=0.5:")
    assert result.code == 2
    count = (frame["price"] == 0.5).sum()
    assert f"column price: {count} of 100 values lie exactly at a bound (0.5 in row" in result.said


def test_toys_have_no_bounds(cli):
    result = cli("fit", "moons", "--bounds", "x0=-9:9")
    assert result.code == 2
    assert "bounds and periods are for the columns of tables" in result.said


def test_options_that_are_printed_are_read_again(cli, file, tmp_path):
    result = cli("fit", file, *DECLARED, "--print-config")
    assert 'bounds = ["share=0:1", "price=0:"]' in result.out
    (tmp_path / "options.toml").write_text(result.out)
    again = cli("fit", "--config", tmp_path / "options.toml", "--print-config")
    assert again.out == result.out


@pytest.mark.slow
def test_a_run_goes_on_and_starts_others_on_its_support(cli, run, file, tiny, on_call, tmp_path):
    from scoreode import progress
    from scoreode.train import loop

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK", 10)
        on_call(patch, progress.PlainLines, "__call__", 1, interrupt)
        stopped = cli("fit", file, *tiny, "--steps", 20, *DECLARED, "--out", path)
        assert stopped.code == 130, stopped.err
        assert cli("fit", "--resume", path).code == 0
    whole, resumed = saved.load(run), saved.load(path)
    assert resumed.data.support == whole.data.support
    np.testing.assert_array_equal(
        resumed.density.bijection.support[0].low, whole.density.bijection.support[0].low
    )
    more = tmp_path / "more"
    result = cli("fit", file, *tiny[:2], "--steps", 10, "--init-from", run, "--out", more)
    assert result.code == 0, result.err
    assert saved.load(more).data.support == whole.data.support
    other = cli("fit", file, "--init-from", run, "--bounds", "share=0:2")
    assert other.code == 2
    assert "--init-from keeps the model" in other.said


@pytest.mark.slow
def test_a_report_shows_samples_on_the_support(cli, run):
    result = cli("report", run, "--rows", 32, "--samples", 64)
    assert result.code == 0, result.err
