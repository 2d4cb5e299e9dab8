"""`compare` against the rows that `nll` writes for each run, and what it refuses."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from scoreode.evaluate import compare
from scoreode.model.fitted import Fitted


@pytest.fixture(scope="module")
def other(cli, table, tiny, tmp_path_factory):
    """A run that was trained for fewer steps on the same split."""
    run = tmp_path_factory.mktemp("other") / "shorter"
    result = cli("fit", table, *tiny, "--steps", 5, "--out", run)
    assert result.code == 0, result.err
    return run


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of a run with an entry of its configuration changed."""

    def copied(*path, to):
        run = shutil.copytree(trained, tmp_path / "copy")
        config = json.loads((run / "config.json").read_text())
        inner = config
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        (run / "config.json").write_text(json.dumps(config))
        return run

    return copied


@pytest.mark.slow
def test_differences_are_those_of_the_rows_that_nll_writes(cli, trained, other, table, tmp_path):
    result = cli("compare", other, trained, "--data", table, "--json", "--quiet")
    assert result.code == 0, result.err
    assert result.err == ""
    found = json.loads(result.out)
    nats = {}
    for run in (trained, other):
        out = tmp_path / f"{run.name}.csv"
        assert cli("nll", run, table, "--out", out).code == 0
        nats[run] = pl.read_csv(out)["nats"].to_numpy()
    shorter, longer = found["runs"]
    assert (found["rows"], found["of"]) == (200, 200)
    assert longer["nats_mean"] == pytest.approx(nats[trained].mean(), rel=1e-12)
    assert shorter["nats_stderr"] == pytest.approx(nats[other].std(ddof=1) / 200**0.5)

    best = max(nats, key=lambda run: nats[run].mean())
    assert found["reference"] == next(
        run["label"] for run in found["runs"] if run["run"] == str(best)
    )
    worse = next(run for run in found["runs"] if run["run"] != str(best))
    paired = np.subtract(*(nats[run] for run in sorted(nats, key=lambda run: run == best)))
    assert worse["difference"] == pytest.approx(paired.mean())
    assert worse["difference_stderr"] == pytest.approx(paired.std(ddof=1) / 200**0.5)
    assert worse["significant"] is (worse["p"] < 0.05)


def test_the_runs_own_rows_and_the_first_for_reference(cli, trained, other):
    result = cli("compare", other, trained, "--to", "first")
    assert result.code == 0, result.err
    head, first, second, rows = result.out.splitlines()
    assert f"difference from {first.split()[0]}, nats" in head
    assert "reference" in first
    assert "significant" in second
    assert "rows: all of validation rows of" in rows, "a tenth of a file is held out"


def test_a_run_does_not_differ_from_itself(cli, trained, table, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    found = json.loads(cli("compare", trained, copy, "--data", table, "--json").out)
    assert found["runs"][1] | {"difference": 0, "p": 1, "significant": False} == found["runs"][1]


def test_holm_corrects_for_the_number_of_differences():
    # 0.005 · 4 and 0.01 · 3 are below 0.05, 0.03 · 2 is not, and what comes after is not either.
    assert compare._holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert compare._holm([0.02, 0.03]) == [True, True]
    assert compare._holm([]) == []


def test_ctrl_c_leaves_what_is_done(cli, trained, other, table, monkeypatch):
    whole, calls = Fitted.log_likelihood, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(Fitted, "log_likelihood", interrupted)
    result = cli("compare", other, trained, "--data", table, "--json", "--quiet")
    assert result.code == 130
    assert result.err == "interrupted; 1 of 2 runs compared\n"
    assert [run["run"] for run in json.loads(result.out)["runs"]] == [str(other)]


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("data", "columns"), ["weight", "length"], "other columns"),
        (("data", "bin_width"), 0.5, "another grid"),
    ],
)
def test_runs_that_cannot_be_compared(cli, trained, table, copied, path, to, message):
    copy = copied(*path, to=to)
    result = cli("compare", trained, copy, "--data", table)
    assert result.code == 2
    assert f"{copy}: has {message}" in result.err


def test_runs_of_other_data(cli, trained, table, copied, tmp_path):
    elsewhere = shutil.copy(table, tmp_path / "elsewhere.csv")
    result = cli("compare", trained, copied("data", "name", to=str(elsewhere)))
    assert result.code == 2
    assert "no held-out rows in common" in result.err
    assert "--data" in result.err


def test_too_few_runs_or_rows_and_runs_that_are_not_finished(cli, trained, stopped, tmp_path):
    assert "give two runs or more" in cli("compare", trained).err
    assert "give two runs or more" in cli("compare", trained, trained).err
    assert f"{stopped}: its training is not finished" in cli("compare", trained, stopped).err
    assert "--rows 1" in cli("compare", trained, trained, "--rows", 1).err
    assert "neither a run nor" in cli("compare", trained, tmp_path / "none").err
    assert cli("compare").code == 2
