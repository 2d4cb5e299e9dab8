"""Absurd values are told from heavy tails."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.data import from_rows, outliers
from scoreode.errors import OutlierWarning
from scoreode.network import MLP

RNG = np.random.default_rng(0)


def test_slips_are_found_where_they_are():
    x = RNG.normal(5, 2, (500, 2))
    x[[3, 77], 1] = [5e4, -9e5]
    (message,) = outliers.messages(x, ["height", "price"])
    assert message.startswith("column price: 50000 (row 4), -900000 (row 78) far from all other")
    np.testing.assert_array_equal(np.flatnonzero(outliers.is_absurd(x[:, 1])), [3, 77])
    (unnumbered,) = outliers.messages(x, ["height", "price"], numbered=False)
    assert "row" not in unnumbered.partition("far")[0]


@pytest.mark.parametrize("law", [stats.norm(), stats.expon(), stats.t(3), stats.lognorm(1.2)])
def test_tails_are_no_slips(law):
    for seed in range(200):
        assert not outliers.is_absurd(law.rvs(2000, random_state=seed)).any()


def test_few_cauchy_samples_have_one():
    """The largest is ten times the second with probability .1, the second the third with .01."""
    draws = (stats.cauchy.rvs(size=500, random_state=seed) for seed in range(200))
    share = np.mean([outliers.is_absurd(x).any() for x in draws])
    assert share < 0.11 + 4 * np.sqrt(0.11 * 0.89 / 200)


def test_what_is_no_slip():
    code = np.where(RNG.random(1000) < 0.05, -999.0, RNG.normal(size=1000))
    assert not outliers.is_absurd(code).any(), "a twentieth of the rows are a part of the law"
    counts = np.r_[np.zeros(900), np.ones(100)]
    assert not outliers.is_absurd(counts).any()
    assert not outliers.is_absurd(np.full(10, 3.0)).any()
    data = from_rows("rows", np.r_[RNG.normal(size=(99, 1)), [[1e6]]], ("a",), 0, 0.0)
    assert len(outliers.of_data(data)) == 1


def test_the_estimator_warns_of_them():
    x = RNG.normal(size=(200, 2))
    x[9, 0] = 1e5
    with pytest.warns(OutlierWarning, match=r"column x0: 100000 \(row 10\)"):
        ScoreODE(steps=5, network=MLP(4, 1), order=1).fit(x)


def test_columns_of_text_beside_them_do_not_count():
    x = pd.DataFrame({"city": ["Bonn", "Ulm"] * 60, "rent": RNG.normal(600, 90, 120)})
    x.loc[4, "rent"] = 6e7
    with pytest.warns(OutlierWarning, match=r"column rent: 6e\+07 \(row 5\)"):
        ScoreODE(steps=5, network=MLP(4, 1), order=1).fit(x)
