"""Parametrisations: a network that predicts its target perfectly gives the exact score."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PARAMETRISATIONS, Posterior, random_model

from scoreode.score import ScoreModel

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture(params=PARAMETRISATIONS)
def parametrised(request):
    return PARAMETRISATIONS[request.param]


class Perfect(eqx.Module):
    """Of data N(0, variance), from the normalised input and the log-SNR alone."""

    process: eqx.Module
    target: object
    variance: float

    def __call__(self, u, log_snr):
        t = self.process.t_of_log_snr(log_snr)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        scale = jnp.hypot(alpha, sigma)
        x = u * scale
        precision = 1 / (alpha**2 * self.variance + sigma**2)
        return self.target(
            Posterior(
                x_0=alpha * self.variance * precision * x,
                eps=sigma * precision * x,
                score=-precision * x,
                alpha_bar=alpha / scale,
                sigma_bar=sigma / scale,
            )
        )


@eqx.filter_jit
def variances(process, t, variance):
    """Of x_t, from data N(0, variance)."""
    return jax.vmap(lambda t: process.alpha(t) ** 2 * variance + process.sigma(t) ** 2)(t)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("variance", [1.0, 0.25])
def test_perfect_network_gives_the_exact_score(parametrised, process, variance):
    network = Perfect(process, parametrised.target, variance)
    model = ScoreModel(process, parametrised.make(), network)
    t = jnp.linspace(process.t_min, process.t_max, 9)[1:-1]
    x = jr.normal(jr.key(0), (7, 2, 3))
    scores = np.asarray(jax.jit(jax.vmap(model))(x, t))
    total = np.asarray(variances(process, t, variance))[:, None, None]
    expected = -np.asarray(x) / total
    # x_0 and ε nearly cancel at low noise, where 1/σ² magnifies the rounding of t.
    np.testing.assert_allclose(scores, expected, rtol=1e-7)


@pytest.mark.slow
def test_velocity_of_zero_is_the_score_of_unit_gaussian_data(process, dtype):
    model = ScoreModel(process, PARAMETRISATIONS["velocity"].make(), lambda x, _: jnp.zeros_like(x))
    t = jnp.linspace(process.t_min, process.t_max, 5, dtype=dtype)
    x = jr.normal(jr.key(0), (5, 3), dtype)
    expected = -np.asarray(x) / np.asarray(variances(process, t, 1.0))[:, None]
    scores = jax.jit(jax.vmap(model))(x, t)
    np.testing.assert_allclose(scores, expected, rtol=16 * jnp.finfo(dtype).eps)


@pytest.mark.slow
def test_score_is_finite_at_both_ends_of_time_in_float32(parametrised, process):
    model = random_model(process, 3, 1.0)
    model = ScoreModel(process, parametrised.make(), model.network)
    t = jnp.array([process.t_min, process.t_max])
    scores = jax.jit(jax.vmap(model))(5 * jr.normal(jr.key(0), (2, 3)), t)
    assert scores.dtype == jnp.float32
    assert np.all(np.isfinite(scores))
