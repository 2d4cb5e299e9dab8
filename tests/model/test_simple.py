"""Densities in closed form, against SciPy's and scikit-learn's, and their fits on known laws."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from scoreode.model.simple import SimpleDensity, fit_kernels, fit_mixture, fit_tail
from scoreode.model.standardise import Chain, Scaling

IDENTITY = Chain(())
RNG = np.random.default_rng(3)
MEANS = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]])
FACTORS = np.array([[[1.0, 0, 0], [0.5, 0.7, 0], [0.2, -0.3, 0.4]], np.diag([0.3, 1.2, 0.8])])
WEIGHTS = np.array([0.3, 0.7])
X = RNG.normal(size=(20, 3)) * 2


def mixture(df=np.inf, bijection=IDENTITY):
    A = np.linalg.inv(FACTORS)
    return SimpleDensity(bijection, np.log(WEIGHTS), MEANS, A, np.array(df))


def closed_form(df):
    laws = [
        stats.multivariate_t(m, L @ L.T, df=df)
        if np.isfinite(df)
        else stats.multivariate_normal(m, L @ L.T)
        for m, L in zip(MEANS, FACTORS, strict=True)
    ]
    return np.log(sum(w * law.pdf(X) for w, law in zip(WEIGHTS, laws, strict=True)))


@pytest.mark.parametrize("df", [np.inf, 1.0, 3.5])
def test_the_log_density_is_that_of_scipy(df):
    np.testing.assert_allclose(mixture(df).log_likelihood(X), closed_form(df), rtol=1e-11)


@pytest.mark.parametrize("df", [np.inf, 2.0])
def test_derivatives_are_differences(df):
    scales = np.array([2.0, 0.1, 30.0])
    law = mixture(df, Chain((Scaling(np.ones(3), scales),)))
    x, v, h = X * scales, RNG.normal(size=X.shape) * scales, 1e-5
    slope = (law.log_likelihood(x + h * v) - law.log_likelihood(x - h * v)) / (2 * h)
    np.testing.assert_allclose(np.sum(law.score(x) * v, 1), slope, rtol=1e-6, atol=1e-7)
    slope = (law.score(x + h * v) - law.score(x - h * v)) / (2 * h)
    np.testing.assert_allclose(law.hessian_product(x, v), slope, rtol=1e-5, atol=1e-6)
    unit = np.eye(3)
    trace = sum(law.hessian_product(x, np.tile(e, (len(x), 1))) @ e for e in unit)
    np.testing.assert_allclose(law.laplacian(x), trace, rtol=1e-10)


def test_far_rows_keep_their_derivatives():
    tail = mixture(2.0)
    far = np.full((1, 3), 1e8)
    assert np.isfinite(tail.log_likelihood(far)).all()
    np.testing.assert_allclose(tail.score(far) @ far[0], -(2 + 3), rtol=1e-6)  # of ‖x‖^−(ν+d)


@pytest.mark.parametrize("df", [np.inf, 3.0])
def test_draws_have_the_law(df):
    law = mixture(df, Chain((Scaling(np.ones(3), np.array([2.0, 0.1, 30.0])),)))
    n = 20_000
    with jax.enable_x64(True):
        keys = jr.split(jr.key(0), n)
    x = law.draws(keys, 3)
    z = law.bijection.forward(x)[0]
    for j in range(3):
        scale = np.linalg.norm(FACTORS[:, j], axis=1)
        law_j = stats.norm if np.isinf(df) else stats.t(df)
        parts = [(w, law_j.cdf, m, s) for w, m, s in zip(WEIGHTS, MEANS[:, j], scale, strict=True)]
        cdf = lambda q, p=parts: sum(w * F((q - m) / s) for w, F, m, s in p)  # noqa: E731
        assert stats.kstest(z[:, j], cdf).pvalue > 1e-4


def test_a_mixture_of_a_known_law_is_found():
    rng = np.random.default_rng(0)
    k = rng.choice(2, 3000, p=WEIGHTS)
    x = MEANS[k] + np.einsum("nij,nj->ni", FACTORS[k], rng.normal(size=(3000, 3)))
    fresh = X
    law = fit_mixture(IDENTITY, x)
    new = MEANS[k] + np.einsum("nij,nj->ni", FACTORS[k], rng.normal(size=(3000, 3)))
    gap = mixture().log_likelihood(new) - law.log_likelihood(new)
    # A mixture of k parameters is k / 2n nats behind the truth.
    assert gap.mean() > -4 * gap.std() / np.sqrt(3000)
    assert gap.mean() < 2 * 19 / (2 * 3000)
    assert np.isfinite(law.log_likelihood(fresh)).all()


def test_few_rows_get_few_components():
    law = fit_mixture(IDENTITY, RNG.normal(size=(8, 2)))
    assert len(law.means) == 1


def test_kernels_are_those_of_scikit_learn():
    z = RNG.normal(size=(50, 2))
    law = fit_kernels(IDENTITY, z)
    h = 1 / law.A[0, 0, 0]
    expected = KernelDensity(bandwidth=h).fit(z).score_samples(X[:, :2])
    np.testing.assert_allclose(law.log_likelihood(X[:, :2]), expected, rtol=1e-10)


def rows_of_t(df, n, seed):
    rng, L = np.random.default_rng(seed), FACTORS[0]
    return rng.normal(size=(n, 3)) @ L.T / np.sqrt(rng.chisquare(df, (n, 1)) / df)


def test_a_tail_finds_its_degrees_of_freedom():
    x = rows_of_t(2.5, 5000, 1)
    law = fit_tail(Chain((Scaling.of_quartiles(x),)), x)
    assert law.df == pytest.approx(2.5, abs=0.15)
    np.testing.assert_allclose(law.bijection.inverse(law.means[0]), 0, atol=0.1)


def test_absurd_values_cost_a_tail_little():
    """The KL of the clean law is below a tenth of a nat with one row in a hundred far off."""
    x, new = rows_of_t(2.5, 5000, 1), rows_of_t(2.5, 5000, 2)
    x[::100] *= 1e6
    law = fit_tail(Chain((Scaling.of_quartiles(x),)), x)
    truth = stats.multivariate_t(np.zeros(3), FACTORS[0] @ FACTORS[0].T, df=2.5)
    assert 0 < np.mean(truth.logpdf(new) - law.log_likelihood(new)) < 0.1


@pytest.mark.parametrize("light", [True, False])
def test_degrees_of_freedom_stay_heavy(light):
    x = RNG.normal(size=(500, 2)) if light else RNG.standard_cauchy((500, 2)) ** 3
    law = fit_tail(Chain((Scaling.of_quartiles(x),)), x)
    assert law.df == pytest.approx(4 if light else 1, rel=1e-3)


def test_a_traced_density_is_the_same():
    law = mixture(3.0)
    found = jax.jit(jax.vmap(law.log_density))(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(found, law.log_likelihood(X), rtol=1e-5)
