"""What follows from the two curves of a process, by independent routes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from standard_errors import assert_covariance, assert_mean

pytestmark = pytest.mark.usefixtures("strict")


@eqx.filter_jit
def curves(process, t):
    """α, σ, d log α/dt, g², log-SNR and its derivative, and how t's rounding is magnified."""
    alpha, sigma, g2 = process.alpha(t), process.sigma(t), process.g2(t)
    log_snr, log_snr_rate = jax.value_and_grad(process.log_snr)(t)
    rate = process.drift_rate(t)
    condition = 1 + jnp.abs(t * rate) + jnp.abs(t * g2 / sigma**2)
    return {
        "alpha": alpha,
        "sigma": sigma,
        "rate": rate,
        "g2": g2,
        "log_snr": log_snr,
        "log_snr_rate": log_snr_rate,
        "condition": condition,
    }


@eqx.filter_jit
def on_grid(process, t):
    return jax.vmap(lambda t: curves(process, t))(t)


@eqx.filter_jit
def inverse(process, log_snr):
    return jax.value_and_grad(process.t_of_log_snr)(log_snr)


def grid(process, n, dtype):
    return jnp.asarray(np.linspace(process.t_min, process.t_max, n), dtype)


@pytest.mark.usefixtures("x64")
def test_the_sde_has_the_marginals_of_the_curves(process):
    """dx = f dt + g dw, started at t_min, has the mean α x_0 and the variance σ²."""

    def moments(t, y):
        c = curves(process, jnp.asarray(t))
        return [float(c["rate"]) * y[0], 2 * float(c["rate"]) * y[1] + float(c["g2"])]

    t = np.asarray(grid(process, 12, jnp.float64))
    c = on_grid(process, jnp.asarray(t))
    start = [float(c["alpha"][0]), float(c["sigma"][0]) ** 2]
    solution = integrate.solve_ivp(
        moments, (t[0], t[-1]), start, "DOP853", t, rtol=1e-10, atol=1e-14
    )
    np.testing.assert_allclose(solution.y[0], c["alpha"], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(solution.y[1], c["sigma"] ** 2, rtol=1e-7, atol=1e-10)


def test_drift_is_linear(process, dtype):
    x, t = jnp.arange(6, dtype=dtype).reshape(2, 3), jnp.asarray(0.4, dtype)
    expected = curves(process, t)["rate"] * x
    np.testing.assert_allclose(process.drift(x, t), expected, rtol=8 * jnp.finfo(dtype).eps)


def test_diffuse_is_the_two_curves(process, dtype):
    t = jnp.asarray(0.3, dtype)
    x_0, eps = jr.normal(jr.key(0), (2, 4, 3), dtype)
    c = curves(process, t)
    expected = c["alpha"] * x_0 + c["sigma"] * eps
    np.testing.assert_allclose(process.diffuse(x_0, eps, t), expected, rtol=1e-5)


def test_log_snr_falls_at_the_rate_g2_over_sigma2(process, dtype):
    c = on_grid(process, grid(process, 200, dtype))
    error = np.abs(c["log_snr_rate"] * c["sigma"] ** 2 / c["g2"] + 1)
    assert np.all(error < 16 * jnp.finfo(dtype).eps * c["condition"])


def test_log_snr_is_that_of_the_curves_and_falls_strictly(process, dtype):
    c = on_grid(process, grid(process, 500, dtype))
    assert np.all(np.diff(c["log_snr"]) < 0)
    snr = np.asarray(c["alpha"], np.float64) ** 2 / np.asarray(c["sigma"], np.float64) ** 2
    np.testing.assert_allclose(c["log_snr"], np.log(snr), rtol=1e-5, atol=1e-5)
    low, high = process.log_snr_range(dtype)
    assert low.dtype == high.dtype == dtype
    np.testing.assert_allclose([low, high], [c["log_snr"][-1], c["log_snr"][0]], rtol=1e-5)


def test_float32_is_float64_up_to_the_rounding_of_t(process):
    """No cancellation: the error is that of t, times the curves' own conditioning."""
    t = np.asarray(grid(process, 200, jnp.float32))
    single = jax.tree.map(np.asarray, on_grid(process, jnp.asarray(t)))
    with jax.enable_x64(True):
        double = jax.tree.map(np.asarray, on_grid(process, jnp.asarray(t, jnp.float64)))
    for name in ("alpha", "sigma", "rate", "g2"):
        assert single[name].dtype == jnp.float32
        scale = np.maximum(np.abs(double[name]), 1e-30)
        error = np.abs(single[name] - double[name]) / scale
        assert np.all(error < 16 * jnp.finfo(jnp.float32).eps * double["condition"]), name


@pytest.mark.slow
@settings(max_examples=40)
@given(u=st.floats(0, 1))
def test_t_of_log_snr_inverts_log_snr(process, dtype, u):
    t = jnp.asarray(process.t_min + u * (process.t_max - process.t_min), dtype)
    c = curves(process, t)
    found, slope = inverse(process, c["log_snr"])
    assert found.dtype == dtype
    assert process.t_min <= float(found) * (1 + 1e-6)
    assert float(found) <= process.t_max * (1 + 1e-6)
    # log_snr itself is rounded, and the curves' conditioning magnifies that.
    rounding = jnp.finfo(dtype).eps * (jnp.abs(c["log_snr"]) + c["condition"])
    spacing = jnp.finfo(dtype).eps * t
    assert abs(found - t) <= 8 * (spacing + rounding / jnp.abs(c["log_snr_rate"]))
    if 0.01 < u < 0.99:  # at the ends, where it is clipped, it has no derivative
        rtol = 1e-3 if dtype == jnp.float32 else 1e-9
        np.testing.assert_allclose(slope * curves(process, found)["log_snr_rate"], 1, rtol=rtol)


def test_t_of_log_snr_stays_in_range(process, dtype):
    low, high = process.log_snr_range(dtype)
    ends = jnp.asarray([process.t_max, process.t_min], dtype)
    beyond = [inverse(process, low - 5)[0], inverse(process, high + 5)[0]]
    np.testing.assert_allclose(beyond, ends, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 1)])
def test_prior_density(process, dtype, shape):
    T = jnp.asarray(process.t_max, dtype)
    scale = float(jnp.sqrt(process.alpha(T) ** 2 + process.sigma(T) ** 2))
    x = 2 * scale * jr.normal(jr.key(1), shape, dtype)
    expected = stats.norm(scale=scale).logpdf(np.asarray(x, np.float64)).sum()
    found = process.prior_log_density(x)
    assert found.shape == ()
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=100 * jnp.finfo(dtype).eps)
    np.testing.assert_allclose(process.prior_scale(dtype), scale, rtol=8 * jnp.finfo(dtype).eps)


def test_prior_samples(process):
    x = np.asarray(process.prior_sample(jr.key(2), (3000, 2)))
    scale = float(process.prior_scale())
    assert_mean(x, 0)
    assert_covariance(x, scale**2 * np.eye(2))
    assert stats.kstest(x.ravel() / scale, "norm").pvalue > 1e-3


def test_new_process_is_in_the_tests():
    assert type(PROCESSES["new"]()).__module__ == "catalogue"
