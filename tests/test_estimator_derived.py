"""What is derived from a fitted density: typicality, Laplacians; and what others make of it."""

import numpy as np
import pytest
from gaussian import gaussian
from scipy import stats
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoreode import ScoreODE
from scoreode.network import MLP

D = 6
SIGMA = 0.01 * 1000**0.7  # of the default process at t = 0.7, in whitened units


def small(**options):
    tiny = {"order": 1, "steps": 20, "network": MLP(width=16, depth=1), "batch_size": 32}
    return ScoreODE(**tiny | options)


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, D)) @ rng.normal(size=(D, D)) + 5


@pytest.fixture(scope="module")
def normal(X):
    return gaussian(X)


def test_the_model_is_the_gaussian(normal, X):
    truth = stats.multivariate_normal(X.mean(0), np.cov(X.T, bias=True)).logpdf(X)
    np.testing.assert_allclose(normal.score_samples(X), truth, atol=2e-3)


def test_laplacians_of_a_gaussian(normal, X):
    precision = np.linalg.inv(np.cov(X.T, bias=True))
    for t, variance in ((0.0, 1 + 1e-4), (0.7, 1 + SIGMA**2)):
        values, errors = normal.laplacian(X, t)
        np.testing.assert_allclose(values, -np.trace(precision) / variance, rtol=1e-3)
        assert (errors == 0).all(), "six dimensions: the trace is exact"
    values, errors = normal.laplacian(X, n_probes=4)
    wrong = values + np.trace(precision) / (1 + 1e-4)
    assert errors.min() > 0
    assert abs(wrong.mean()) < 4 * wrong.std() / np.sqrt(len(X))
    # Spreads of four have a chance of their own: of 120 together, 10 %.
    assert np.sqrt(np.mean(wrong**2)) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.4)
    with pytest.raises(ValueError, match="n_probes 0"):
        normal.laplacian(X, n_probes=0)


def test_the_mode_is_not_typical(normal, X):
    """A Gaussian's log-density at its mode is d/2 above its mean."""
    mode = X.mean(0, keepdims=True)
    error = 4 * np.sqrt(D / 2 / 512)  # of a mean over 512 draws; log p has variance d/2
    assert normal.typicality(mode) == pytest.approx(D / 2, abs=error)
    # Over the rows whose moments they are, the mean is exact.
    assert normal.typicality(mode, reference=X) == pytest.approx(D / 2, abs=5e-3)
    far = normal.typicality(X.mean(0, keepdims=True) + 10 * np.ptp(X, 0))
    assert far > normal.typicality(X).max()


def test_in_pipelines_and_searches(X):
    """A scaled table has the density of the table, but for the scale."""
    columns = X[:60, :2]
    scaled = make_pipeline(StandardScaler(), small()).fit(columns)
    plain = small().fit(columns)
    difference = scaled.score_samples(columns) - plain.score_samples(columns)
    np.testing.assert_allclose(difference, np.log(columns.std(0)).sum(), atol=2e-3)
    scores = cross_val_score(small(), columns, cv=2)
    halves = columns[:30], columns[30:]
    assert scores[1] == small().fit(halves[0]).score(halves[1])
    search = GridSearchCV(small(), {"learning_rate": [1e-12, 1e-3]}, cv=2, refit=False).fit(columns)
    assert search.cv_results_["mean_test_score"][1] == scores.mean()
    assert search.best_params_ == {
        "learning_rate": (1e-12, 1e-3)[np.argmax(search.cv_results_["mean_test_score"])]
    }
