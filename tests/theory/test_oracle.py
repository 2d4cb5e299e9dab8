"""The oracle's posterior by Bayes' rule, its marginal draws, scores wrong by a given size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import mixture
from scipy import stats
from scipy.special import ndtri
from standard_errors import assert_covariance, assert_mean

from scoreode.process import VE, VP
from scoreode.theory import Wrong, spread_points

pytestmark = pytest.mark.usefixtures("x64")

ends_and_middle = pytest.mark.parametrize("t", [1e-5, 0.4, 0.7, 1.0])


def density(weights, means, covariances, x):
    return sum(
        w * stats.multivariate_normal(m, C).pdf(x)
        for w, m, C in zip(weights, means, covariances, strict=True)
    )


@pytest.mark.slow
@ends_and_middle
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("make", [VE, VP])
def test_posterior_is_bayes_rule(make, d, t):
    """q(x_0 | x_t) q(x_t) = q(x_t | x_0) q(x_0), for any x_0."""
    process, t = make(), jnp.asarray(t)
    oracle = mixture(process, d)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    rng = np.random.default_rng(0)
    x_0 = np.asarray(oracle.sample(jr.key(0), 1))[0]
    x_t = alpha * x_0 + sigma * rng.normal(size=d)
    posterior = oracle.posterior(jnp.asarray(x_t), t)
    # Near where the posterior's mass is, on the scale of its width.
    for near in x_0 + min(sigma, 1.0) * rng.normal(size=(5, d)):
        found = density(posterior.weights, posterior.means, posterior.covariances, near)
        prior = density(oracle.weights, oracle.means, oracle.covariances, near)
        noise = density([1.0], [alpha * near], [sigma**2 * np.eye(d)], x_t)
        evidence = np.exp(float(oracle.log_density(jnp.asarray(x_t), t)))
        np.testing.assert_allclose(found * evidence, noise * prior, rtol=1e-6)


def test_posterior_samples_have_its_moments():
    oracle, t = mixture(VP(), 2), jnp.asarray(0.3)
    posterior = oracle.posterior(jnp.array([0.4, -0.2]), t)
    x_0 = np.asarray(posterior.sample(jr.key(1), 20_000))
    w, m, C = (np.asarray(a) for a in (posterior.weights, posterior.means, posterior.covariances))
    mean = w @ m
    assert_mean(x_0, mean)
    second = np.einsum("k,kij->ij", w, C + np.einsum("ki,kj->kij", m, m))
    assert_covariance(x_0, second - np.outer(mean, mean))


def test_the_posterior_mean_is_tweedies():
    """E[x_0 | x_t] = (x_t + σ² ∇log q_t) / α."""
    process, x, t = VE(), jnp.array([0.3, -1.0]), jnp.asarray(0.5)
    oracle = mixture(process, 2)
    posterior = oracle.posterior(x, t)
    tweedie = (x + process.sigma(t) ** 2 * oracle(x, t)) / process.alpha(t)
    np.testing.assert_allclose(posterior.weights @ posterior.means, tweedie, rtol=1e-9)


@ends_and_middle
def test_marginal_draws_have_the_marginal(t):
    oracle, t = mixture(VP(), 1), jnp.asarray(t)
    points = spread_points(jr.key(2), 1, 4000, 2)[0]
    draw = eqx.filter_jit(jax.vmap(lambda u, z: oracle.from_noise(u, z, t)))
    x = np.asarray(draw(points[:, 0], ndtri(points[:, 1:])))[:, 0]
    alpha, sigma = oracle.process.alpha(t), oracle.process.sigma(t)
    means = np.asarray(alpha * oracle.means)[:, 0]
    scales = np.sqrt(np.asarray(alpha**2 * oracle.covariances)[:, 0, 0] + float(sigma) ** 2)
    cdf = stats.norm.cdf((np.sort(x)[:, None] - means) / scales) @ np.asarray(oracle.weights)
    # Evenly spread points are closer to the law than independent ones, at 1.36/√n.
    assert np.abs(cdf - (np.arange(4000) + 0.5) / 4000).max() < 0.5 / 4000**0.5


@pytest.mark.slow
@pytest.mark.parametrize("make", [VE, VP])
def test_wrong_scores_are_wrong_by_their_size(make):
    process, d = make(), 5
    oracle = mixture(process, d)
    score = Wrong.random(oracle, process, 0.2, d, jr.key(3), frequency=20.0)
    x = oracle.sample(jr.key(4), 1000)
    for t in jnp.array([1e-3, 0.5, 1.0]):
        error = eqx.filter_jit(jax.vmap(lambda x: score(x, t) - oracle(x, t)))  # noqa: B023
        scaled = process.sigma(t) * error(x * jnp.hypot(process.alpha(t), process.sigma(t)))
        assert np.abs(scaled).max() <= 0.2 + 1e-9
        # At high frequency the sine's phase is uniform over the points.
        assert_mean(np.mean(scaled**2, 1), 0.02, within=5)
