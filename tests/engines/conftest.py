"""A run of a table of all kinds of columns, rows for it, and what one process makes of them."""

import numpy as np
import pandas as pd
import pytest
from environment import ENVIRONMENT
from pandas.testing import assert_frame_equal

from scoreode import ScoreODE
from scoreode.adapters.engines import Scorer
from scoreode.network import MLP

TINY = {"order": 1, "steps": 2, "network": MLP(16, 1), "stack": False, "standardise": "whiten"}


def table(n, seed):
    """A number, counts, text, dates, a condition, and columns that no model knows, in any order."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "note": rng.choice(["kept", "as it is"], n),
            "c": rng.normal(size=n),
            "n": rng.poisson(3, n),
            "id": np.arange(n),
            "city": rng.choice(["Bonn", "Kiel", "Ulm"], n),
            "x": rng.normal(size=n),
            "day": np.datetime64("2024-01-01", "us") + 86_400_000_000 * rng.integers(0, 99, n),
        }
    )


@pytest.fixture(scope="session", autouse=True)
def _workers_compile_as_this_process():
    """Values are compared to the last bit."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    path, rows = tmp_path_factory.mktemp("engines") / "run", table(200, 0)
    est = ScoreODE(**TINY, discrete=["n", "day"])
    est.fit(rows[["x", "n", "city", "day"]], C=rows[["c"]]).save(path)
    return path


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def rows():
    return table(400, 1)


@pytest.fixture(scope="session")
def score(run):
    return Scorer(run, number="id")


@pytest.fixture(scope="session")
def expected(score, rows):
    """The rows as one process scores them at once."""
    return score(rows)


@pytest.fixture(scope="session")
def same(expected):
    """Asserts that rows in any order are some of those of one process, to the last bit."""

    def same(found, some=slice(None)):
        found = found.sort_values("id", ignore_index=True)
        wanted = expected[some].reset_index(drop=True)
        assert_frame_equal(found, wanted, check_exact=True, check_dtype=False)

    return same
