"""A file with text, booleans and dates: fit, resume, nll, sample, report, compare, export."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from scoreode.evaluate import table
from scoreode.train import saved

MEANS = {"Bonn": 0.0, "Kiel": 5.0, "Ulm": -5.0}


def frame_of(n, seed):
    rng = np.random.default_rng(seed)
    city = rng.choice(list(MEANS), n, p=[0.5, 0.3, 0.2])
    x = np.array([MEANS[c] for c in city]) + rng.normal(size=n)
    columns = {
        "city": city,
        "x": x,
        "member": rng.random(n) < np.where(city == "Ulm", 0.9, 0.2),
        "opened": np.rint(10_000 + 300 * rng.normal(size=n)).astype("datetime64[D]"),
        "zip": rng.choice(["01067", "80331", "20095"], n),
        "weight": rng.normal(70, 9, n),
    }
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    frame_of(400, 0).write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(cli, file, tiny):
    path = file.parent / "run"
    options = ("--steps", 200, "--learning-rate", 0.01, "--categories", "zip")
    result = cli("fit", file, *tiny, *options, "--out", path)
    assert result.code == 0, result.err
    assert (
        "categories and their levels: city (3), member (2), zip (3); dates, since 1970-01-01:"
        " opened (days)" in result.said
    )
    return path


def test_a_run_knows_its_columns(run, file):
    fitted = saved.load(run)
    data = fitted.data
    assert data.columns == ("x", "opened", "weight")
    assert data.categories == ("city", "member", "zip")
    assert data.modelled == tuple(pl.read_csv(file).columns)
    assert data.kinds["zip"].levels == ("01067", "20095", "80331")
    assert data.kinds["opened"].unit == "day"


def test_log_densities_are_of_whole_rows(cli, run, tmp_path):
    frame = frame_of(60, 1)
    frame.write_csv(tmp_path / "new.csv")
    rows = tmp_path / "rows.npz"
    result = cli("nll", run, tmp_path / "new.csv", "--out", rows, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["d"] == 6
    fitted = saved.load(run)
    codes = [fitted.data.kinds[n].encode(frame[n].to_list(), n) for n in fitted.data.categories]
    c = np.stack(codes, axis=1)
    days = frame["opened"].cast(pl.Int32).to_numpy().astype(float)
    x = np.stack([frame["x"].to_numpy(), days, frame["weight"].to_numpy()], axis=1)
    expected = fitted.log_likelihood(x, c=c).nats
    np.testing.assert_array_equal(np.load(rows)["nats"], expected)
    alone = fitted.density.log_likelihood(x, c=fitted.coded(c)).nats
    np.testing.assert_allclose(expected - alone, fitted.law.log_mass(c), atol=1e-5)
    frame.select(reversed(frame.columns)).write_csv(tmp_path / "other.csv")
    other = cli("nll", run, tmp_path / "other.csv", "--json")
    assert json.loads(other.out)["nats_mean"] == json.loads(result.out)["nats_mean"]
    shuffled = frame.with_columns(city=pl.col("city").shuffle(0))
    shuffled.write_csv(tmp_path / "shuffled.csv")
    mean = json.loads(cli("nll", run, tmp_path / "shuffled.csv", "--json").out)["nats_mean"]
    assert mean < expected.mean() - 1, "the city says much about x"


def test_rows_of_training_are_counted(cli, run, file):
    found = json.loads(cli("nll", run, file, "--json").out)
    assert found["trained_on"] == 360


def test_rows_that_cannot_be_evaluated(cli, run, tmp_path):
    frame, path = frame_of(20, 1), tmp_path / "bad.csv"
    frame.with_columns(city=pl.Series(["Ulm"] * 16 + ["Rom"] * 4)).write_csv(path)
    said = cli("nll", run, path).said
    assert "column city, row 17 holds 'Rom', which training did not have; drop the row" in said
    frame.drop("member").write_csv(path)
    assert "has no column member; the run was trained on city, x" in cli("nll", run, path).said
    frame.with_columns(opened=pl.lit("soon")).write_csv(path)
    assert "column opened: row 1 holds 'soon', which is no date" in cli("nll", run, path).said
    np.save(tmp_path / "array.npy", np.zeros((3, 6)))
    assert "an array has numbers only" in cli("nll", run, tmp_path / "array.npy").said


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_samples_are_of_the_kinds_that_came_in(cli, run, file, tmp_path, suffix):
    out = tmp_path / f"samples{suffix}"
    result = cli("sample", run, "-n", 300, "--out", out)
    assert result.code == 0, result.err
    drawn = pl.read_csv(out, schema_overrides={"zip": pl.String}) if suffix == ".csv" else None
    drawn = pl.read_parquet(out) if drawn is None else drawn
    assert drawn.columns == pl.read_csv(file).columns
    assert set(drawn["city"]) == set(MEANS)
    assert set(drawn["zip"]) == {"01067", "80331", "20095"}
    assert drawn["member"].dtype == pl.Boolean
    assert drawn["opened"].str.to_date("%Y-%m-%d").dt.year().is_between(1900, 2100).all()
    kiel = drawn.filter(pl.col("city") == "Kiel")["x"]
    assert kiel.mean() == pytest.approx(5, abs=1)
    assert cli("nll", run, out).code == 0
    refused = cli("sample", run, "-n", 3, "--out", tmp_path / "x.npy")
    assert "an array has no place for city, member, opened, zip; use .csv" in refused.said


@pytest.mark.slow
def test_the_report_and_the_comparison(cli, run, file, tiny, tmp_path):
    page = tmp_path / "page.html"
    assert cli("report", run, "--out", page, "--samples", 50, "--rows", 40).code == 0
    text = page.read_text()
    for word in ("city (3), member (2), zip (3)", "opened (days)", "law of the categories"):
        assert word in text
    options = (*tiny, "--steps", 5, "--categories", "zip", "--out", tmp_path / "other")
    assert cli("fit", file, *options).code == 0
    result = cli("compare", run, tmp_path / "other", "--data", file, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["runs"][1]["difference"] < 0
    assert cli("verify", run, file, "-n", 16).code == 0
    assert cli("export", run, "--out", tmp_path / "copy").code == 0
    a, b = (cli("nll", path, file, "--json").out for path in (run, tmp_path / "copy"))
    assert json.loads(a)["nats_mean"] == json.loads(b)["nats_mean"]


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_a_run_that_was_stopped_goes_on(cli, file, tiny, on_call, same, tmp_path, monkeypatch):
    from scoreode import progress

    def interrupt(*_):
        raise KeyboardInterrupt

    fit = ("fit", file, *tiny, "--steps", 40)
    assert cli(*fit, "--out", tmp_path / "whole").code == 0
    on_call(monkeypatch, progress.PlainLines, "__call__", 2, interrupt)
    assert cli(*fit, "--out", tmp_path / "run").code == 130
    from scoreode import ScoreODE

    frame = frame_of(9, 1).with_columns(pl.col("zip").cast(pl.Int64))
    assert ScoreODE.from_run(tmp_path / "run").score_samples(frame).shape == (9,)
    assert cli("fit", "--resume", tmp_path / "run").code == 0
    same(tmp_path / "run", tmp_path / "whole")
    law = "categories.safetensors"
    assert (tmp_path / "run" / law).read_bytes() == (tmp_path / "whole" / law).read_bytes()


@pytest.mark.slow
def test_text_as_a_condition(cli, file, tiny, tmp_path):
    run, given, out = (tmp_path / name for name in ("run", "given.csv", "out.csv"))
    options = ("--columns", "x", "--given", "city", "--steps", 200, "--learning-rate", 0.01)
    assert cli("fit", file, *tiny, *options, "--out", run).code == 0
    given.write_text("city\nKiel\nUlm\n")
    assert cli("sample", run, "--given", given, "-n", 200, "--out", out).code == 0
    means = pl.read_csv(out).group_by("city", maintain_order=True).agg(pl.col("x").mean())
    np.testing.assert_allclose(means["x"], [5, -5], atol=0.8)
    assert "city" in cli("sample", run, "-n", 3, "--out", out, "--force").said


@pytest.mark.slow
def test_a_run_starts_from_another_of_the_same_categories(cli, run, tmp_path):
    frame_of(100, 5).write_csv(tmp_path / "more.csv")
    options = ("--init-from", run, "--steps", 5, "--out", tmp_path / "next", "--batch-size", 16)
    result = cli("fit", tmp_path / "more.csv", *options)
    assert result.code == 0, result.err
    assert saved.load(tmp_path / "next").data.kinds == saved.load(run).data.kinds
    frame_of(100, 5).drop("city").write_csv(tmp_path / "less.csv")
    shutil.rmtree(tmp_path / "next")
    assert (
        "which has the categories city, member, zip"
        in cli("fit", tmp_path / "less.csv", *options).said
    )


def test_options_that_are_not_for_categories(cli, file, tiny, tmp_path):
    def said(*options):
        return cli("fit", file, *tiny, "--steps", 2, *options, "--out", tmp_path / "no").said

    assert "--discrete is for numbers, and city is a category" in said("--discrete", "city,x")
    assert "has no column town to take as a category" in said("--categories", "town")
    assert "bin width 'city=1': unknown column 'city'" in said("--bin-width", "city=1")
    checkerboard = cli("fit", "checkerboard", *tiny, "--categories", "x0", "--steps", 2)
    assert "leave --categories out" in checkerboard.said


@pytest.mark.slow
def test_a_file_of_categories_only(cli, tiny, tmp_path):
    path, run = tmp_path / "codes.csv", tmp_path / "run"
    frame_of(400, 0).select("city", "member").write_csv(path)
    result = cli("fit", path, *tiny, "--steps", 5, "--out", run)
    assert result.code == 0, result.err
    mean = json.loads(cli("nll", run, path, "--json").out)["nats_mean"]
    counts = frame_of(400, 0).group_by("city", "member").len()["len"].to_numpy() / 400
    assert mean == pytest.approx(counts @ np.log(counts), abs=0.01)
    assert cli("sample", run, "-n", 5, "--out", tmp_path / "drawn.csv").code == 0
    assert cli("report", run, "--out", tmp_path / "page.html").code == 0
    other = tmp_path / "other"
    frame_of(400, 1).select("city", "member").write_csv(tmp_path / "others.csv")
    assert cli("fit", tmp_path / "others.csv", *tiny, "--steps", 5, "--out", other).code == 0
    models = [(folder / "model.safetensors").read_bytes() for folder in (run, other)]
    assert models[0] == models[1], "no network is trained"
    identities = [table.identity(folder, str(path), {}) for folder in (run, other)]
    assert identities[0] != identities[1], "journals tell the laws apart"
