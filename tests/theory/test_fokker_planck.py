"""The ScoreSDE's density on a grid: it conserves, converges, and is not the ScoreODE's."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import mixture

from scoreode.calculus import Basis
from scoreode.flow import EulerMaruyama, Likelihood, Solver, map_rows
from scoreode.process import VE, VP
from scoreode.theory import MixtureOracle, Wrong, sde_density

pytestmark = pytest.mark.usefixtures("x64")

makes = pytest.mark.parametrize("make", [VE, VP])


def log_q(oracle, x):
    t = jnp.asarray(oracle.process.t_min)
    return np.asarray(jax.jit(jax.vmap(lambda x: oracle.log_density(x, t)))(x[:, None]))


def ode_log_density(score, process, x):
    how = Likelihood(Basis(), solver=Solver(1e-7, 1e-7))
    found = map_rows(how, (score, process, jr.key(0)), (x[:, None],), chunk=len(x))
    assert found.converged.all()
    return found.nats


def wrong_score(oracle, size=0.1):
    return Wrong.random(oracle, oracle.process, jnp.asarray(size), 1, jr.key(0))


@pytest.mark.slow
@makes
def test_the_exact_score_gives_the_data_back_and_errors_fall_as_the_grid(make):
    oracle = mixture(make(), 1)
    kls, gaps = [], []
    for refine in (1, 2, 4):
        found = sde_density(oracle, oracle.process, 400 * refine, 100 * refine)
        assert found.mass == pytest.approx(1, abs=1e-9)
        assert np.all(found.density >= 0)
        truth = log_q(oracle, found.x)
        kls.append(found.kl_from(truth))
        gaps.append(np.sum(np.abs(np.exp(truth) - found.density)) * (found.x[1] - found.x[0]))
    # The steps' error, of first order, is halved with them; KL is of its second order.
    ratios = np.array(gaps[:-1]) / gaps[1:]
    assert np.all((ratios > 1.6) & (ratios < 2.6)), gaps
    assert kls[-1] < 0.1 * kls[0]
    assert gaps[-1] < 0.02


@pytest.mark.slow
@makes
def test_at_any_time_the_exact_score_gives_q_t(make):
    oracle = mixture(make(), 1)
    low, high = oracle.process.t_min, oracle.process.t_max
    at_t_min = sde_density(oracle, oracle.process, 400, 100)
    for part in (0.3, 0.7):
        t = low + part * (high - low)
        found = sde_density(oracle, oracle.process, 1600, 400, t=t)
        q_t = jnp.exp(jax.vmap(oracle.log_density, (0, None))(found.x[:, None], jnp.asarray(t)))
        gap = np.sum(np.abs(np.asarray(q_t) - found.density)) * (found.x[1] - found.x[0])
        assert gap < 0.02
        assert not np.allclose(at_t_min.density[::4], found.density[::16], rtol=0.1)


@pytest.mark.slow
@makes
def test_for_gaussian_data_sde_and_ode_are_one(make):
    """Proposition 1's exception, up to the prior's mismatch."""
    process = make()
    oracle = MixtureOracle(process, jnp.ones(1), jnp.full((1, 1), 0.2), jnp.full((1, 1, 1), 0.5))
    found = sde_density(oracle, process, 1000, 1000)
    near = np.abs(found.x - 0.2) < 2
    x = found.x[near][::20]
    difference = found.log_density(x) - ode_log_density(oracle, process, x)
    assert np.abs(difference).max() < 0.03


@pytest.mark.slow
def test_for_a_mixture_and_a_wrong_score_they_are_two():
    oracle = mixture(VE(), 1)
    score = wrong_score(oracle)
    found = sde_density(score, oracle.process, 1000, 1000)
    x = found.x[np.abs(found.x) < 1.5][::10]
    difference = found.log_density(x) - ode_log_density(score, oracle.process, x)
    assert np.abs(difference).max() > 0.1


@pytest.mark.slow
def test_samples_of_the_sde_have_the_density():
    oracle = mixture(VP(), 1)
    score = wrong_score(oracle, 0.3)
    found = sde_density(score, oracle.process, 1000, 1000)
    keys = jr.split(jr.key(1), 4000)
    x = map_rows(EulerMaruyama(500), (score, oracle.process, (1,)), (keys,), chunk=4000)[:, 0]
    cdf = np.cumsum(found.density) * (found.x[1] - found.x[0])
    u = np.interp(x, found.x + (found.x[1] - found.x[0]) / 2, cdf)
    # Kolmogorov's distance, at 2/√n for chance and Euler's steps.
    assert np.abs(np.sort(u) - (np.arange(4000) + 0.5) / 4000).max() < 2 / 4000**0.5
    exact = sde_density(oracle, oracle.process, 1000, 1000)
    off = np.interp(x, exact.x, np.cumsum(exact.density) * (exact.x[1] - exact.x[0]))
    assert np.abs(np.sort(off) - (np.arange(4000) + 0.5) / 4000).max() > 2 / 4000**0.5


@pytest.mark.slow
@makes
def test_the_sde_is_bounded_by_score_matching(make):
    """KL(q_0 ‖ p_0^SDE) ≤ KL(q_T ‖ p_T) + J_SM, by quadrature in x and in log-SNR."""
    oracle = mixture(make(), 1)
    process, score = oracle.process, wrong_score(oracle)
    found = sde_density(score, process, 2000, 1000)
    kl = found.kl_from(log_q(oracle, found.x))

    low, high = process.log_snr_range()
    log_snr, y = jnp.linspace(low, high, 200), jnp.linspace(-6, 6, 400)

    @jax.jit
    @jax.vmap
    def integrand(log_snr):
        t = process.t_of_log_snr(log_snr)
        S = jnp.hypot(process.alpha(t), process.sigma(t))
        at = jax.vmap(lambda y: (oracle.log_density(y, t), score(y, t) - oracle(y, t)))
        log_density, error = at(S * y[:, None])
        q = S * jnp.exp(log_density)
        return 0.5 * process.sigma(t) ** 2 * jnp.trapezoid(q * error[:, 0] ** 2, y)

    J_SM = float(jnp.trapezoid(integrand(log_snr), log_snr))
    # For VP and VE here KL(q_T ‖ p_T) is below 1e-5.
    assert 0.2 * J_SM < kl < J_SM + 1e-3
