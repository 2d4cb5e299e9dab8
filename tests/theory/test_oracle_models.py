"""The Gaussian mixture's closed forms, against automatic differentiation and SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES, Snapshot, mixture
from scipy import stats
from standard_errors import assert_covariance, assert_mean

from scoreode.process import VE

pytestmark = pytest.mark.usefixtures("x64")

TIMES = 5
POINTS = 8


@eqx.filter_jit
def levels(process):
    """α and σ at times equally spaced in the log-SNR, from t_min to T."""
    low, high = process.log_snr_range()
    t = jax.vmap(process.t_of_log_snr)(jnp.linspace(high, low, TIMES))
    return jax.vmap(process.alpha)(t), jax.vmap(process.sigma)(t)


@pytest.fixture(scope="module", params=[1, 2, 5])
def evaluated(request):
    """Points x ~ q_t under every process, with closed forms and automatic derivatives there."""
    with jax.enable_x64(True):
        oracle = mixture(VE(), request.param)
        pairs = [levels(make()) for make in PROCESSES.values()]
        alpha, sigma = (jnp.concatenate(parts) for parts in zip(*pairs, strict=True))
        return oracle, alpha, sigma, *derivatives_at(oracle, alpha, sigma)


@eqx.filter_jit
def derivatives_at(oracle, alpha, sigma):
    def at_level(alpha, sigma, key):
        key_x, key_eps = jr.split(key)
        process, t = Snapshot(alpha, sigma), jnp.ones(())
        q = eqx.tree_at(lambda oracle: oracle.process, oracle, process)
        x_0 = oracle.sample(key_x, POINTS)
        x = alpha * x_0 + sigma * jr.normal(key_eps, x_0.shape)

        def log_density(x):
            return q.log_density(x, t)

        hessian = jax.hessian(log_density)

        def at_point(x):
            closed = q(x, t), q.hessian(x, t), q.grad_trace_hessian(x, t)
            third = jax.grad(lambda x: jnp.trace(hessian(x)))(x)
            automatic = jax.grad(log_density)(x), hessian(x), third
            return x, log_density(x), closed, automatic

        return jax.vmap(at_point)(x)

    return jax.vmap(at_level)(alpha, sigma, jr.split(jr.key(1), alpha.size))


@pytest.mark.slow
def test_closed_forms_are_the_derivatives(evaluated):
    *_, closed, automatic = evaluated
    each_level = [tuple(range(1, a.ndim)) for a in automatic]
    size = [np.abs(a).max(axes) for a, axes in zip(automatic, each_level, strict=True)]
    # An inverse length, whose powers are what rounding is relative to; close to T the third
    # derivative is a small difference of terms of that size.
    inverse_length = size[0] + np.sqrt(size[1])
    for k in range(3):
        error = np.abs(closed[k] - automatic[k]).max(each_level[k])
        natural = inverse_length ** (k + 1)
        assert np.all(error < 1e-10 * natural)
        sizable = size[k] > 1e-2 * natural
        assert sizable.sum() > len(sizable) / 3
        assert np.all((error < 1e-10 * size[k])[sizable])


@pytest.mark.slow
def test_log_density_is_the_mixtures(evaluated):
    oracle, alpha, sigma, x, log_density, *_ = evaluated
    eye = np.eye(x.shape[-1])
    for i in range(len(alpha)):
        p = sum(
            w
            * stats.multivariate_normal(alpha[i] * m, alpha[i] ** 2 * C + sigma[i] ** 2 * eye).pdf(
                x[i]
            )
            for w, m, C in zip(oracle.weights, oracle.means, oracle.covariances, strict=True)
        )
        np.testing.assert_allclose(log_density[i], np.log(p), rtol=1e-8, atol=1e-9)


def test_a_process_enters_by_its_curves(process):
    t, x = jnp.asarray(0.4), jnp.array([0.3, -1.0])
    oracle = mixture(process, 2)
    stopped = mixture(Snapshot(process.alpha(t), process.sigma(t)), 2)
    at = eqx.filter_jit(lambda oracle: (oracle.log_density(x, t), oracle(x, t)))
    for a, b in zip(at(oracle), at(stopped), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_samples_have_the_mixtures_moments(d):
    oracle = mixture(VE(), d)  # of mean 0 and covariance I
    x_0 = np.asarray(eqx.filter_jit(oracle.sample)(jr.key(3), 20_000))
    assert_mean(x_0, 0)
    assert_covariance(x_0, np.eye(d))
    if d == 1:
        scales = np.sqrt(np.asarray(oracle.covariances)[:, 0])
        means, weights = np.asarray(oracle.means), np.asarray(oracle.weights)
        cdf = lambda x: weights @ stats.norm.cdf((x - means) / scales)  # noqa: E731
        assert stats.kstest(x_0[:, 0], cdf).pvalue > 1e-3
