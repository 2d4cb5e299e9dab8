"""Rows beyond the training range: `nll` says how many, in which columns, and counts them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from scoreode import ScoreODE


@pytest.fixture
def tails(trained, tmp_path):
    """Two rows within, one at the greatest weight, one beyond it, one below the least length."""
    (low, _), (_, high) = json.loads((trained / "config.json").read_text())["data"]["train_range"]
    beyond = [0, np.nextafter(high, 1e9)], [low - 1, 300]
    rows = np.array([[0, 300], [0.1, 310], [0, high], *beyond])
    path = tmp_path / "tails.csv"
    np.savetxt(path, rows, "%.17g", delimiter=",", header="length,weight", comments="")
    return path


NOTE = "2 rows lie beyond the range of the training rows, in length, weight: tails beyond the data"


def test_nll_says_how_many_rows_lie_beyond(cli, trained, tails):
    found = cli("nll", trained, tails, "--json")
    assert found.err.count(NOTE) == 1
    summary = json.loads(found.out)
    assert summary["beyond_training"] == 2
    assert summary["beyond_training_columns"] == ["length", "weight"]
    assert NOTE not in cli("nll", trained, tails, "--quiet").err
    x = pd.read_csv(tails)
    expected = np.zeros((5, 2), bool)
    expected[3, 1] = expected[4, 0] = True
    np.testing.assert_array_equal(ScoreODE.load(trained).beyond_training(x), expected)


def test_rows_within_are_not_spoken_of(cli, trained, tails):
    lines = tails.read_text().splitlines()
    tails.write_text("\n".join(lines[:4]) + "\n")
    found = cli("nll", trained, tails, "--json")
    assert "beyond" not in found.err
    assert json.loads(found.out)["beyond_training"] == 0


def test_a_run_that_does_not_know_its_range_says_nothing(cli, trained, tails, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["data"]["train_range"], config["data"]["conditions_range"]
    (run / "config.json").write_text(json.dumps(config))
    found = cli("nll", run, tails, "--json")
    assert found.code == 0
    assert "beyond" not in found.err
    assert json.loads(found.out)["beyond_training"] is None
    with pytest.raises(ValueError, match="saved without the ranges"):
        ScoreODE.load(run).beyond_training(pd.read_csv(tails))


@pytest.mark.slow
def test_conditions_beyond_theirs(cli, table, tiny, tails, tmp_path):
    run = tmp_path / "run"
    assert cli("fit", table, *tiny, "--steps", 5, "--given", "weight", "--out", run).code == 0
    found = cli("nll", run, tails, "--json")
    assert NOTE in found.err
    assert json.loads(found.out)["beyond_training_columns"] == ["length", "weight"]
