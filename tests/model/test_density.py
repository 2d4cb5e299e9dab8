"""A density in the units of its data: the standardisation's Jacobian, scores, samples."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES
from scipy import stats
from standard_errors import assert_covariance, assert_mean

from scoreode.model.config import STANDARDISATIONS
from scoreode.model.density import Density
from scoreode.model.standardise import Chain, Whitening
from scoreode.score import ScoreModel, Velocity

MEAN = np.array([3.0, -200.0])
COVARIANCE = np.array([[0.25, 3.0], [3.0, 100.0]])


def rows(n, seed=0):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, n)


def untrained(families, x):
    """Velocity zero: in standardised units the density is N(0, (1 + σ²(t_min)) I), almost."""
    model = ScoreModel(PROCESSES["ve"](), Velocity(), lambda x, _: jnp.zeros_like(x))
    return Density(Chain.fit(families, x), model)


@pytest.mark.slow
def test_log_likelihood_and_samples_are_in_the_units_of_the_data():
    x = rows(2000)
    density = untrained((Whitening,), x)
    found = density.log_likelihood(x[:100])
    truth = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True))
    # σ_min = 0.01 widens it by 1e-4 of its variance, and float32 is solved to 1e-5 a step.
    np.testing.assert_allclose(found.nats, truth.logpdf(x[:100]), atol=5e-3)
    assert found.converged.all()
    samples = density.sample(4000, 2)
    assert samples.dtype == np.float64
    assert_mean(samples, truth.mean)
    assert_covariance(samples, truth.cov)


def test_first_samples_do_not_depend_on_how_many_are_drawn():
    density = untrained((Whitening,), rows(500))
    np.testing.assert_array_equal(density.sample(600, 2)[:7], density.sample(7, 2))
    assert not np.array_equal(density.sample(7, 2), density.sample(7, 2, seed=1))


@pytest.mark.parametrize("name", STANDARDISATIONS)
def test_the_density_integrates_to_one_in_the_units_of_the_data(name):
    x = np.exp(0.5 * np.random.default_rng(1).normal(size=(3000, 1)))
    density = untrained(STANDARDISATIONS[name], x)
    edges = density.bijection.inverse(np.linspace(-5, 5, 1000)[:, None])
    total = np.trapezoid(np.exp(density.log_likelihood(edges).nats), edges[:, 0])
    np.testing.assert_allclose(total, 1, atol=1e-3)


def test_score_and_hessian_are_derivatives_of_the_log_density():
    """Of N(0, 1 + σ²) in standardised units, which velocity zero means."""
    x = rows(500)
    density = untrained((Whitening,), x)
    variance = float(1 + PROCESSES["ve"]().sigma(jnp.asarray(0.5)) ** 2)
    precision = np.linalg.inv(np.cov(x.T, bias=True)) / variance
    centred, v = x[:20] - x.mean(0), np.asarray(jr.normal(jr.key(0), (20, 2)), np.float64)
    scale = x.std(0)
    score = density.score(x[:20], 0.5)
    np.testing.assert_allclose(score * scale, -centred @ precision * scale, atol=1e-4)
    product = density.hessian_product(x[:20], v * scale, 0.5)
    np.testing.assert_allclose(product * scale, -(v * scale) @ precision * scale, atol=1e-4)


def test_score_of_a_power_transform_is_a_gradient():
    """Against finite differences of log q_t(T(x)) + log |det ∂T/∂x|, a Gaussian and a Jacobian."""
    x = np.exp(0.5 * np.random.default_rng(2).normal(size=(400, 2)))
    density = untrained(STANDARDISATIONS["power"], x)
    variance = float(1 + PROCESSES["ve"]().sigma(jnp.asarray(0.5)) ** 2)

    def log_density(x):
        z, log_det = density.bijection.forward(x)
        return -0.5 * np.sum(z**2, 1) / variance + log_det

    h = 1e-5 * np.eye(2)
    differences = [(log_density(x[:30] + e) - log_density(x[:30] - e)) / 2e-5 for e in h]
    np.testing.assert_allclose(density.score(x[:30], 0.5), np.stack(differences, 1), atol=2e-3)
