"""A file with missing values: fit, resume, nll, sample, report."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from scoreode import ScoreODE
from scoreode.train import saved


def frame_of(n, seed):
    rng = np.random.default_rng(seed)
    columns = {
        "city": rng.choice(["Bonn", "Kiel", "Ulm"], n),
        "x": rng.normal(size=n),
        "visits": rng.poisson(3, n),
        "opened": np.rint(10_000 + 300 * rng.normal(size=n)).astype("datetime64[D]"),
        "weight": rng.normal(70, 9, n),
    }
    gaps = {name: pl.Series(rng.random(n) < 0.2) for name in list(columns)[:4]}
    whole = pl.DataFrame(columns)
    return whole.with_columns(
        pl.when(~gap).then(pl.col(name)).alias(name) for name, gap in gaps.items()
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Empty cells, and NA among numbers."""
    path = tmp_path_factory.mktemp("gaps") / "gaps.csv"
    text = frame_of(300, 0).with_columns(pl.col("x").cast(pl.String).fill_null("NA"))
    text.write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(cli, file, tiny):
    path = file.parent / "run"
    options = ("--steps", 60, "--discrete", "visits", "--subsets")
    result = cli("fit", file, *tiny, *options, "--out", path)
    assert result.code == 0, result.err
    assert "missing values: x (" in result.said
    assert "city (" in result.said
    return path


def test_numbers_alone_have_a_run_that_goes_on(cli, tiny, tmp_path):
    frame_of(60, 0).select("x", "weight").write_csv(tmp_path / "t.csv")
    words = ("fit", tmp_path / "t.csv", *tiny, "--steps", 2, "--out", tmp_path / "run")
    assert cli(*words).code == 0
    result = cli("fit", "--resume", tmp_path / "run")
    assert result.code == 0, result.err
    assert ScoreODE.load(tmp_path / "run").fitted_.steps == 2


@pytest.mark.slow
def test_nll_is_that_of_the_estimator(cli, run, tmp_path):
    frame = frame_of(40, 1)
    frame.write_csv(tmp_path / "new.csv")
    out = tmp_path / "rows.csv"
    result = cli("nll", run, tmp_path / "new.csv", "--out", out, "--json")
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert summary["unconverged"] == 0
    assert summary["d"] == 5
    expected = ScoreODE.load(run).log_likelihood(frame, samples=1).nats
    np.testing.assert_allclose(pl.read_csv(out)["nats"], expected, rtol=1e-12)
    shuffled = frame.with_columns(weight=pl.lit(None, pl.Float64))
    shuffled.write_csv(tmp_path / "without.csv")
    assert cli("nll", run, tmp_path / "without.csv").code == 0, "a set of columns"


@pytest.mark.slow
def test_samples_lack_values(cli, run, file, tmp_path):
    out = tmp_path / "samples.csv"
    assert cli("sample", run, "-n", 200, "--out", out).code == 0
    drawn = pl.read_csv(out)
    assert drawn.columns == pl.read_csv(file).columns
    lacking = drawn.null_count().row(0)
    assert lacking[-1] == 0
    assert all(10 < n < 90 for n in lacking[:4])
    assert drawn["visits"].dtype == pl.Int64
    result = cli("nll", run, out, "--json")
    assert np.isfinite(json.loads(result.out)["nats_mean"])


@pytest.mark.slow
def test_a_report_of_rows_with_gaps(cli, run, tmp_path):
    page = tmp_path / "page.html"
    result = cli("report", run, "--rows", 40, "--samples", 60, "--out", page)
    assert result.code == 0, result.err
    text = page.read_text()
    assert "missing values" in text
    assert "in x, visits, opened, city" in text


@pytest.mark.slow
def test_a_run_with_gaps_is_resumed_bit_for_bit(cli, file, tiny, tmp_path):
    half, whole = tmp_path / "half", tmp_path / "whole"
    options = (*tiny, "--steps", 300, "--discrete", "visits")
    assert cli("fit", file, *options, "--out", whole).code == 0
    shutil.copytree(whole, half)
    for later in ("model.safetensors", "summary.json"):
        (half / later).unlink()
    newest = max((half / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    assert cli("fit", "--resume", half).code == 0
    models = [(path / "model.safetensors").read_bytes() for path in (half, whole)]
    assert models[0] == models[1]
    assert not saved.load(whole).data.subsets


@pytest.mark.slow
def test_what_a_run_does_not_know(cli, tiny, tmp_path):
    frame = frame_of(40, 1)
    one = frame.filter(pl.col("x").is_not_null()).select("x", "weight")
    one.write_csv(tmp_path / "whole.csv")
    plain = tmp_path / "plain"
    assert cli("fit", tmp_path / "whole.csv", *tiny, "--steps", 3, "--out", plain).code == 0
    (tmp_path / "gap.csv").write_text("x,weight\n1,2\n,3\n")
    said = cli("nll", plain, tmp_path / "gap.csv").said
    assert "gap.csv: missing, infinite or huge values in row 2, column x" in said
    options = ("--init-from", plain, "--subsets", "--steps", 3, "--out", tmp_path / "more")
    said = cli("fit", tmp_path / "whole.csv", *options).said
    assert f"--subsets: {plain} was trained without" in said
