"""The steps of discrete diffusions: the published schedules, and one smooth curve through them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scoreode.process import Discrete
from scoreode.steps import Steps

KINDS = {
    "linear": Steps(),
    "scaled_linear": Steps("scaled_linear", 1000, 0.00085, 0.012),
    "squaredcos_cap_v2": Steps("squaredcos_cap_v2"),
    "few": Steps(n=7, beta_0=0.01, beta_1=0.5),
}


@pytest.fixture(params=KINDS)
def steps(request):
    return KINDS[request.param]


def betas(steps):
    """Step by step, from the schedules' definitions."""
    n, low, high = steps.n, steps.beta_0, steps.beta_1
    if steps.schedule == "linear":
        return [low + (high - low) * i / (n - 1) for i in range(n)]
    if steps.schedule == "scaled_linear":
        low, high = math.sqrt(low), math.sqrt(high)
        return [(low + (high - low) * i / (n - 1)) ** 2 for i in range(n)]
    curve = lambda s: math.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    return [min(1 - curve((i + 1) / n) / curve(i / n), 0.999) for i in range(n)]


@pytest.mark.usefixtures("x64")
def test_at_the_steps_it_is_the_schedule(steps):
    alpha_bar, product = [], 1.0
    for beta in betas(steps):
        product *= 1 - beta
        alpha_bar.append(product)
    np.testing.assert_allclose(steps.alpha_bar(), alpha_bar, rtol=1e-10)
    t = jnp.arange(steps.n, dtype=jnp.float64) / (steps.n - 1)
    process = Discrete(steps=steps)
    np.testing.assert_allclose(jax.vmap(process.alpha)(t) ** 2, alpha_bar, rtol=1e-8)
    variance = 1 - np.array(alpha_bar)
    np.testing.assert_allclose(jax.vmap(process.sigma)(t) ** 2, variance, rtol=1e-8)


def test_the_index_inverts_the_curve(steps, dtype):
    index = np.linspace(0, steps.n - 1, 1501)
    index = jnp.asarray(np.concatenate([index, np.arange(steps.n)]), dtype)
    log_snr, rate = jax.jit(jax.vmap(jax.value_and_grad(steps.log_snr)))(index)
    found, slope = jax.jit(jax.vmap(jax.value_and_grad(steps.index)))(log_snr)
    assert np.all(rate < 0)
    # The log-SNR, its steps and the index are rounded.
    spacing = 4 * jnp.finfo(dtype).eps
    error = np.abs(found - index)
    assert np.all(error <= spacing * (index + 1 + (1 + np.abs(log_snr)) / np.abs(rate)))
    inner = (index > 0) & (index < steps.n - 1)
    rtol = 1e-2 if dtype == jnp.float32 else 1e-6
    np.testing.assert_allclose((slope * rate)[inner], 1, rtol=rtol)


def test_it_is_clipped_beyond_the_steps(steps):
    ends = [steps.index(jnp.asarray(log_snr)) for log_snr in (40.0, -40.0)]
    np.testing.assert_array_equal(ends, [0, steps.n - 1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("quadratic",), "linear, scaled_linear"),
        (("linear", 1), "two steps"),
        (("linear", 10, 0.0), "beta_0"),
        (("linear", 10, 0.1, 1.0), "beta_1"),
    ],
)
def test_what_is_no_schedule_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Steps(*arguments)
