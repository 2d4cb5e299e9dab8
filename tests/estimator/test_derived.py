"""What is derived from a fitted density: typicality, Laplacians; and what others make of it."""

import numpy as np
import pytest
from gaussian import gaussian
from scipy import stats
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoreode import ScoreODE
from scoreode.model.anomaly import NoisyDensity
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


@pytest.mark.slow
def test_the_model_is_the_gaussian(normal, X):
    truth = stats.multivariate_normal(X.mean(0), np.cov(X.T, bias=True)).logpdf(X)
    np.testing.assert_allclose(normal.score_samples(X), truth, atol=2e-3)


@pytest.mark.slow
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


def test_anomaly_scores_are_those_of_a_gaussian_with_noise(normal, X):
    """m rows estimate E K(x − x'); with K² in place of K, a known Gaussian has its error."""
    rng, m = np.random.default_rng(1), 100_000
    mean, cov = X[:, :2].mean(0), np.cov(X[:, :2].T)
    drawn = rng.multivariate_normal(mean, cov, m)
    x = rng.multivariate_normal(mean, 2 * cov, 200)
    noise = 0.3**2 * np.diag(np.diag(cov))
    truth = stats.multivariate_normal(mean, cov + noise).logpdf(x)
    square = stats.multivariate_normal(mean, cov + noise / 2).pdf(x)
    square /= np.sqrt(np.linalg.det(4 * np.pi * noise))
    stderr = np.sqrt((square / np.exp(2 * truth) - 1) / m)
    score = NoisyDensity.of(drawn).nats(x)
    known = stderr < 0.1  # the logarithm is straight there
    assert known.mean() > 0.9
    assert np.all(np.abs(score - truth)[known] < 5 * stderr[known] + 0.01)
    assert stats.spearmanr(score, truth).statistic > 0.99
    # All columns; and by default the rows are those that the model keeps.
    h, odd = 0.3 * X.std(0), X[:5] + 3 * X.std(0)
    kernels = stats.norm(X, h).logpdf(odd[:, None]).sum(2)
    found = normal.anomaly_score(odd, reference=X)
    np.testing.assert_allclose(found, np.log(len(X)) - logsumexp(kernels, axis=1), rtol=1e-9)
    np.testing.assert_allclose(normal.anomaly_score(odd), found, rtol=1e-9)
    with pytest.raises(ValueError, match="reference: a column has one value only"):
        normal.anomaly_score(odd, reference=X[:1])


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def learnt():
    """Of a skew table in unlike units, learnt a little: the network's score at t_min is rough."""
    rng = np.random.default_rng(1)
    table = np.array([1.7e9, 0.0]) + np.array([1.0, 1e-9]) * rng.gamma(3.0, size=(300, 2))
    est = small(steps=300, learning_rate=1e-2, standardise="whiten", validation_fraction=0.0)
    return est.fit(table), table


def differences(function, x, v, h=1e-2):
    near, far = (function(x + k * h * v) - function(x - k * h * v) for k in (1, 2))
    return (8 * near - far) / (12 * h)


@pytest.mark.slow
def test_score_function_is_the_gradient_of_score_samples(learnt):
    est, table = learnt
    x, scale = table[:30], table.std(0)
    slopes = np.stack([differences(est.score_samples, x, e) for e in np.diag(scale)], 1)
    found = est.score_function(x) * scale
    assert np.sqrt(np.mean((found - slopes) ** 2)) < 0.01
    network = est.network_score(x, 0.0) * scale
    assert np.sqrt(np.mean((network - slopes) ** 2)) > 0.1, "which is another function"
    np.testing.assert_array_equal(est.score_function(x[5:6]), est.score_function(x)[5:6])
    np.testing.assert_array_equal(est.score_function(x, 0.3), est.network_score(x, 0.3))


@pytest.mark.slow
def test_hessians_are_of_score_samples(learnt):
    est, table = learnt
    x, scale = table[:30], table.std(0)
    columns = [est.hessian_product(x, np.tile(e, (30, 1))) * scale for e in np.diag(scale)]
    hessian = np.stack(columns, 2)
    np.testing.assert_allclose(hessian, hessian.transpose(0, 2, 1), atol=1e-2)
    slopes = [differences(est.score_function, x, e) * scale for e in np.diag(scale)]
    np.testing.assert_allclose(hessian, np.stack(slopes, 2), atol=2e-2)
    trace = np.sum(np.diagonal(hessian, axis1=1, axis2=2) / scale**2, 1)
    np.testing.assert_allclose(est.laplacian(x)[0], trace, rtol=1e-3)


@pytest.mark.slow
def test_images_are_their_rows():
    images = np.random.default_rng(0).normal(size=(40, 2, 2, 1))
    est = small(network=MLP(16, 1)).fit(images)
    np.testing.assert_array_equal(
        est.score_function(images), est.score_function(images.reshape(40, 4))
    )


def test_times_outside_the_diffusion(normal, X):
    for call in (
        lambda t: normal.score_function(X, t),
        lambda t: normal.network_score(X, t),
        lambda t: normal.hessian_product(X, X, t),
        lambda t: normal.laplacian(X, t),
    ):
        for t in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match=f"t {t}: must be between 0, the data, and T"):
                call(t)
