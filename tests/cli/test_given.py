"""Columns on which the others are conditioned, from the file to samples."""

import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
from environment import TINY

from scoreode.train import saved


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """x = 2 dose + noise of 0.5, in the middle of the columns, and a column of noise."""
    rng = np.random.default_rng(0)
    dose, age = rng.normal(size=(2, 400))
    columns = {"dose": dose, "x": 2 * dose + 0.5 * rng.normal(size=400), "age": age}
    path = tmp_path_factory.mktemp("conditional") / "table.csv"
    pl.DataFrame(columns | {"y": rng.normal(size=400)}).write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(cli, table):
    path = table.parent / "run"
    options = (*TINY, "--steps", 300, "--learning-rate", 0.01, "--out", path)
    result = cli("fit", table, "--given", "age,dose", *options)
    assert result.code == 0, result.err
    return path


@pytest.mark.slow
def test_a_run_knows_its_conditions(run):
    data = saved.load(run).data
    assert (data.columns, data.conditions) == (("x", "y"), ("age", "dose"))


def test_log_densities_take_the_same_columns_from_a_file(cli, run, table, tmp_path):
    frame = pl.read_csv(table)
    rows = tmp_path / "rows.npz"
    shuffled = tmp_path / "shuffled.csv"
    frame[:50].select("age", "x", "y", "dose").write_csv(shuffled)
    assert cli("nll", run, shuffled, "--out", rows).code == 0
    x, c = (frame[:50].select(names).to_numpy() for names in (["x", "y"], ["age", "dose"]))
    expected = saved.load(run).log_likelihood(x, c=c).nats
    np.testing.assert_array_equal(np.load(rows)["nats"], expected)
    other = frame.with_columns(dose=-pl.col("dose"))
    other.write_csv(tmp_path / "other.csv")
    means = [
        json.loads(cli("nll", run, path, "--json").out)["nats_mean"]
        for path in (table, tmp_path / "other.csv")
    ]
    assert means[0] > means[1] + 1, "with each dose of another sign"
    assert "has no column dose" in cli("nll", run, _without(frame, "dose", tmp_path)).said
    assert "2 (x, y)" in cli("nll", run, _without(frame, "y", tmp_path)).said


def _without(frame, column, tmp_path):
    path = tmp_path / f"no-{column}.csv"
    frame.drop(column).write_csv(path)
    return path


def test_samples_stand_beside_what_they_are_given(cli, run, tmp_path):
    given, out = tmp_path / "given.csv", tmp_path / "samples.csv"
    pl.DataFrame({"age": [0.0, 1.0], "dose": [-1.0, 1.0], "name": [1, 2]}).write_csv(given)
    assert cli("sample", run, "--given", given, "-n", 200, "--out", out).code == 0
    drawn = pl.read_csv(out)
    assert drawn.columns == ["x", "y", "age", "dose"]
    assert drawn["dose"].to_list() == [-1.0] * 200 + [1.0] * 200
    means = drawn.group_by("dose", maintain_order=True).agg(pl.col("x").mean())["x"]
    np.testing.assert_allclose(means, [-2, 2], atol=0.5)
    assert cli("sample", run, "--given", given, "--out", out, "--force").code == 0
    assert len(pl.read_csv(out)) == 2, "one for every row"


def test_the_report_draws_given_held_out_rows(cli, run, table, tmp_path):
    page = tmp_path / "page.html"
    few = ("--samples", 60, "--rows", 20)
    result = cli("report", run, "--out", page, *few)
    assert result.code == 0, result.err
    text = " ".join(re.sub(r"<[^>]*>", " ", page.read_text()).split())
    assert "columns in pairs, given age, dose of the data" in text
    assert "columns 2 given age, dose grid" in text
    # Without the data there is nothing to draw given.
    moved = shutil.copytree(run, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    config["data"] |= {"name": "gone.csv", "path": None}
    (moved / "config.json").write_text(json.dumps(config))
    page.unlink()
    result = cli("report", moved, "--out", page)
    assert result.code == 2
    assert "conditional on age, dose: give rows with --data" in result.said
    assert cli("report", moved, "--data", table, "--out", page, *few).code == 0


@pytest.mark.slow
def test_runs_are_compared_given_the_same_conditions(cli, run, table, tmp_path):
    other, rows = tmp_path / "other", tmp_path / "rows.npz"
    options = (*TINY, "--steps", 5, "--out", other)
    assert cli("fit", table, "--given", "age,dose", *options).code == 0
    result = cli("compare", run, other, "--data", table, "--to", "first", "--json")
    assert result.code == 0, result.err
    difference = json.loads(result.out)["runs"][1]["difference"]
    nats = []
    for model in (run, other):
        assert cli("nll", model, table, "--out", rows).code == 0
        nats.append(np.load(rows)["nats"])
        rows.unlink()
    assert difference == pytest.approx(np.mean(nats[1] - nats[0]), rel=1e-6)
    assert difference != 0
    assert cli("compare", run, other).code == 0, "by the rows that both held out"


@pytest.mark.slow
def test_what_a_model_betrays_depends_on_the_conditions(cli, run, table, tmp_path):
    other = tmp_path / "other.csv"
    pl.read_csv(table).with_columns(dose=-pl.col("dose")).write_csv(other)
    found = []
    for path in (table, other):
        result = cli("verify", run, path, "-n", 64, "--json")
        assert result.code == 0, result.err
        found.append(json.loads(result.out))
    true, wrong = found
    assert true["itself"]["unconverged"] == 0
    assert true["itself"]["round_trip_distance"][0] < 1e-2
    apart = wrong["objectives"]["first"][0] - true["objectives"]["first"][0]
    assert apart > 3 * np.hypot(*(each["objectives"]["first"][1] for each in found))


def test_what_a_conditional_run_cannot_do_is_said(cli, run, table, tmp_path):
    refused = {
        ("sample", run, "--out", tmp_path / "x.csv"): "conditional on age, dose; give --given FILE",
        ("fit", table, "--given", "age,weight"): "has no column weight to condition on",
        ("fit", table, "--given", "age,age"): "name every column once",
        ("fit", table, "--given", "dose,x,age,y"): "leave one to model",
        ("fit", "checkerboard", "--given", "x0"): "give a table",
        ("fit", table, "--init-from", run): "add --given age,dose",
    }
    for command, message in refused.items():
        result = cli(*command)
        assert result.code == 2
        assert message in result.said


def test_a_run_goes_on_with_the_conditions_that_it_had(cli, run, table, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    assert cli("fit", "--resume", moved).code == 0
    frame = pl.read_csv(table)
    frame.with_columns(age=pl.col("age") + 1).write_csv(table)
    try:
        assert "has changed since the run began" in cli("fit", "--resume", moved).said
    finally:
        frame.write_csv(table)
