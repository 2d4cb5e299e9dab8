"""Likelihoods of correlated data, the calibration of their error bars, and the bound."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROBES, PROCESSES, gaussian, mixture
from scipy import stats
from standard_errors import assert_mean

from scoreode.calculus import Basis
from scoreode.flow import Likelihood, Solver, map_rows, nll_bound

RANDOM = [name for name, make in PROBES.items() if not make().exact]
MEAN = np.array([0.3, -0.5, 0.1])
COVARIANCE = np.array([[1.0, 0.6, -0.2], [0.6, 0.5, 0.1], [-0.2, 0.1, 0.8]])


def transported(process, x_0):
    """x_T and log p_0 of the linear ODE whose marginals are N(α m, C_t), C_t = α² Σ + σ² I.

    Along every eigenvector of Σ the ODE scales deviations from α m by √c_t, c_t an eigenvalue of
    C_t: so x_T = α_T m + Q √(c_T / c_0) Qᵀ (x_0 − α_0 m), and the Jacobian is the product.
    """
    values, Q = np.linalg.eigh(COVARIANCE)
    ends = [jnp.asarray(t) for t in (process.t_min, process.t_max)]
    (a_0, s_0), (a_T, s_T) = ((float(process.alpha(t)), float(process.sigma(t))) for t in ends)
    stretch = np.sqrt((a_T**2 * values + s_T**2) / (a_0**2 * values + s_0**2))
    x_T = a_T * MEAN + (x_0 - a_0 * MEAN) @ Q * stretch @ Q.T
    prior = stats.norm(scale=np.hypot(a_T, s_T))
    return x_T, prior.logpdf(x_T).sum(1) + np.log(stretch).sum()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", ["ve", "new"], indirect=True)
def test_correlated_gaussian_data(process):
    x_0 = np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, 32)
    how = Likelihood(solver=Solver(1e-9, 1e-9))
    shared = gaussian(process, MEAN, COVARIANCE), process, jr.key(0)
    found = map_rows(how, shared, (x_0,), chunk=32)
    latent, nats = transported(process, x_0)
    np.testing.assert_allclose(found.nats, nats, atol=1e-6)
    np.testing.assert_allclose(found.latent, latent, atol=1e-6 * float(process.prior_scale()))


@pytest.fixture(scope="module")
def mixed():
    """A mixture in five dimensions, examples of it, and their exact log-densities."""
    process = PROCESSES["vp"]()
    oracle = mixture(process, 5)
    x = oracle.sample(jr.key(1), 400)
    shared = oracle, process, jr.key(2)
    return shared, x, map_rows(Likelihood(Basis()), shared, (x,), chunk=400)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("name", RANDOM)
def test_error_bars_are_calibrated(mixed, name):
    """Over many examples: estimates are unbiased and their errors are as large as they say."""
    shared, x, exact = mixed
    k = 16 if name != "hadamard" else 7  # of 8, which were exact
    record = map_rows(Likelihood(PROBES[name](), n_probes=k), shared, (x,), chunk=400)
    assert record.converged.all()
    assert_mean(record.nats - exact.nats, 0)
    z = (record.nats - exact.nats) / record.stderr
    # Of Student's t with k − 1 degrees of freedom.
    assert z.std() == pytest.approx(np.sqrt((k - 1) / (k - 3)), abs=0.2)


def test_the_ode_of_a_mixtures_score_has_the_mixtures_density(mixed):
    """p_0 is q at t_min, up to the mismatch of the prior with q_T and the solver's tolerance."""
    (oracle, process, _), x, exact = mixed
    t = jnp.asarray(process.t_min)
    truth = jax.jit(jax.vmap(lambda x: oracle.log_density(x, t)))(x)
    np.testing.assert_allclose(exact.nats, truth, atol=2e-3)
    assert np.all(exact.stderr == 0)


@pytest.mark.slow
def test_the_bound_is_above_the_likelihood(mixed):
    (oracle, process, _), x, exact = mixed
    keys = jr.split(jr.key(3), 400)
    bound = map_rows(nll_bound, (oracle, process), (keys, x), chunk=400)
    # With the exact score the SDE's density is the ODE's, and the bound is tight.
    assert_mean(bound + exact.nats, 0)
    worse = map_rows(nll_bound, (lambda x, t: 0.8 * oracle(x, t), process), (keys, x), chunk=400)
    excess = worse - bound  # the same noise in both
    assert np.mean(excess) > 4 * np.std(excess) / 20
