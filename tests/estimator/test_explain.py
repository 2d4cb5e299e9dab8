"""`explain`: a fit in words, and beside simple densities of the same rows."""

import re

import numpy as np
import pandas as pd
import pytest
from untrained import untrained

from scoreode import ScoreODE
from scoreode.network import MLP
from scoreode.train import trainer

LINES, COLUMNS = 24, 80


def small(**options):
    """A fit whose weights stay as they begin: its density is the Gaussian of whitened rows."""
    tiny = {"order": 1, "steps": 1, "network": MLP(width=16, depth=1), "batch_size": 32}
    return ScoreODE(**tiny | {"standardise": "whiten", "validation_fraction": 0.2} | options)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(300, 3)) @ np.diag([1.0, 20.0, 300.0])


@pytest.fixture(scope="module")
def fitted(X):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "train", untrained)
        return small().fit(X)


def test_a_gaussian_equals_a_gaussian(fitted, X):
    said = fitted.explain(X)
    assert "240 to train, 60 to validate" in said
    assert "numbers         x0, x1, x2" in said
    gain = re.search(r"([\d.]+) ± [\d.]+ (?:above|below) that of a Gaussian", said)
    assert gain, said
    assert float(gain[1]) < 0.02, "shrinkage and ridge move the moments by less than a hundredth"
    mean = re.search(r"log-density\s+(-[\d.]+)", said)
    assert mean, said
    # The entropy of the law; 60 rows tell it to √(3/2/60) = .16.
    truth = -(1.5 * np.log(2 * np.pi * np.e) + np.log(6000))
    assert float(mean[1]) == pytest.approx(truth, abs=4 * 0.16)
    assert "60 validation rows: what they choose, and these figures, are uncertain" in " ".join(
        said.split()
    )


def test_it_fits_a_screen(fitted, X):
    lines = fitted.explain(X).splitlines()
    assert len(lines) < LINES
    assert max(map(len, lines)) < COLUMNS


def test_without_rows_it_says_what_is_known(fitted):
    said = fitted.explain()
    assert said.startswith("rows            240 to train\n")
    assert "coordinates     columns scaled and decorrelated" in said
    assert "Gaussian" not in said


def test_other_rows_are_refused(fitted, X):
    with pytest.raises(ValueError, match="other rows than those fitted"):
        fitted.explain(X[::-1])


def test_every_kind_of_column_has_its_line(monkeypatch):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "city": rng.choice(["Bonn", "Ulm"], 100),
            "visits": rng.poisson(4, 100),
            "day": pd.date_range("2020-01-01", periods=100),
            "x": rng.normal(size=100),
        }
    )
    monkeypatch.setattr(trainer, "train", untrained)
    est = small(discrete=["visits"], standardise="scale").fit(frame[["city", "visits", "x", "day"]])
    said = est.explain(frame[["city", "visits", "x", "day"]])
    for kind, names in (
        ("numbers", "x"),
        ("counts", "visits"),
        ("dates", "day"),
        ("categories", "city (2 levels)"),
    ):
        assert f"{kind:16}{names}\n" in said


def test_it_ends_a_verbose_fit(X, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "train", untrained)
    small(verbose=True).fit(X)
    assert "that of a Gaussian" in capsys.readouterr().err


def test_absurd_values_are_what_to_look_at(X, monkeypatch):
    monkeypatch.setattr(trainer, "train", untrained)
    wrong = X.copy()
    wrong[:2, 1] = 1e9
    with pytest.warns(UserWarning, match="far from all other values"):
        est = small().fit(wrong)
    assert "- column x1: 1e+09 (row 1), 1e+09 (row 2) far from" in est.explain(wrong)
