"""With the exact score both samplers draw from the data's distribution."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES, mixture
from scipy import stats
from standard_errors import assert_covariance, assert_mean

from scoreode.flow import EulerMaruyama, ODESampler, map_rows

N = 4000
SAMPLERS = {"ode": ODESampler(), "sde": EulerMaruyama(1000)}


def sampled(how, process, d, n=N):
    keys = jr.split(jr.key(0), n)
    shared = mixture(process, d), process, (d,)
    return map_rows(how, shared, (keys,), chunk=2000)


def marginal(process, oracle):
    """Means and variances of the components of q at t_min, in one dimension."""
    t = jnp.asarray(process.t_min)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    means, variances = np.asarray(oracle.means)[:, 0], np.asarray(oracle.covariances)[:, 0, 0]
    return alpha * means, alpha**2 * variances + sigma**2


def check_line(how, process):
    """Kolmogorov–Smirnov, and the moments, of a mixture of mean 0 and variance 1."""
    oracle, x = mixture(process, 1), sampled(how, process, 1)
    means, variances = marginal(process, oracle)
    weights = np.asarray(oracle.weights)

    def cdf(x):
        return weights @ stats.norm.cdf((x - means[:, None]) / np.sqrt(variances)[:, None])

    assert stats.kstest(x[:, 0], cdf).pvalue > 1e-3
    assert_mean(x, weights @ means)
    assert_covariance(x, [[weights @ (variances + (means - weights @ means) ** 2)]])


@pytest.mark.parametrize("process", ["ve", "subvp", "new"], indirect=True)
def test_ode_samples_are_of_the_data(process):
    check_line(SAMPLERS["ode"], process)


def test_sde_samples_are_of_the_data(process):
    check_line(SAMPLERS["sde"], process)


@pytest.mark.parametrize("name", SAMPLERS)
def test_dimensions_keep_their_covariance(name):
    process = PROCESSES["vp"]()
    x = sampled(SAMPLERS[name], process, 3)
    assert_mean(x, 0)
    assert_covariance(x, np.eye(3))
