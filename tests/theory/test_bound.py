"""Theorem 2: the model score's error stays below the bound, and meets it where nothing is lost."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import mixture

from scoreode.flow import Solver, map_rows
from scoreode.process import VE
from scoreode.theory import DataPath, MixtureOracle, Wrong

pytestmark = pytest.mark.usefixtures("x64")

PATHS, TIMES = 8, 64
DISCRETISATION = 0.02  # (Δλ)²/12 = 0.006 per unit of the coefficients' second derivatives


def along_paths(oracle, score):
    x_0 = np.asarray(oracle.sample(jr.key(1), PATHS))
    found = map_rows(DataPath(TIMES, Solver(1e-6, 1e-6)), (oracle, score), (x_0,), chunk=PATHS)
    assert found.converged.all()
    return found


@pytest.fixture(scope="module", params=[1, 2])
def measured(request):
    with jax.enable_x64(True):
        oracle = mixture(VE(), request.param)
        score = Wrong.random(oracle, oracle.process, 0.1, request.param, jr.key(0))
        return oracle, score, along_paths(oracle, score)


@pytest.mark.slow
def test_the_error_is_below_the_bound_everywhere(measured):
    *_, found = measured
    u, sharp = found.bound(), found.bound(sharp=True)
    assert np.all(found.r <= sharp * (1 + DISCRETISATION))
    assert np.all(sharp <= u)
    np.testing.assert_array_equal(found.r[:, 0], u[:, 0])  # at T they start equal
    assert np.all(found.bound(C=found.p_curvature.max()) >= u)


@pytest.mark.slow
def test_the_errors_make_the_bound(measured):
    """Without them u is what the prior's mismatch grows to, and r is above."""
    *_, found = measured
    deltas = lambda found: (found.delta1, found.delta2, found.delta3)  # noqa: E731
    without = eqx.tree_at(deltas, found, 3 * [np.zeros_like(found.delta1)])
    assert np.all(found.r[:, TIMES // 2] > 10 * without.bound()[:, TIMES // 2])
    for i in range(3):
        less = eqx.tree_at(lambda found: deltas(found)[i], found, np.zeros_like(found.delta1))  # noqa: B023
        assert np.all(less.bound()[:, -1] < 0.99 * found.bound()[:, -1])


@pytest.mark.parametrize(
    ("size", "frequency", "phase"),
    [(0.1, 0.0, np.pi / 2), (300.0, 1e-3, np.pi)],
    ids=["constant", "linear"],
)
def test_the_bound_is_met_where_no_triangle_is_lost(size, frequency, phase):
    """Gaussian data in one dimension and an error of the score that keeps its sign.

    A constant error leaves δ2 = δ3 = 0; one that makes the score steeper has δ3 = 0, and a model
    narrower than the data: m is longer than ∇log q by r. All terms of dr/dt agree in sign.
    """
    process = VE()
    # Three times the same component, and not one: the shapes of the mixture that is compiled.
    same = np.full(3, 1 / 3), np.zeros((3, 1)), np.ones((3, 1, 1))
    oracle = MixtureOracle(process, *map(jnp.asarray, same))
    W, phase = jnp.asarray(np.full((1, 1), frequency)), jnp.asarray(np.full(1, phase))
    found = along_paths(oracle, Wrong(oracle, process, jnp.asarray(size), W, phase))
    u = found.bound(sharp=True)
    np.testing.assert_allclose(found.r, u, rtol=DISCRETISATION, atol=1e-3 * u.max())
    assert u.max() > 0.1


@pytest.mark.parametrize("measured", [2], indirect=True)
def test_errors_are_of_automatic_derivatives(measured):
    oracle, score, found = measured
    x, t = jnp.asarray(found.x[0, 20]), jnp.asarray(found.t[0, 20])
    error = lambda x: score(x, t) - oracle(x, t)  # noqa: E731
    jacobian = jax.jacfwd(error)
    third = jax.grad(lambda x: jnp.trace(jacobian(x)))
    exact = eqx.filter_jit(lambda x: (error(x), jacobian(x), third(x)))(x)
    for delta, value in zip((found.delta1, found.delta2, found.delta3), exact, strict=True):
        np.testing.assert_allclose(delta[0, 20], jnp.linalg.norm(value), rtol=1e-8)


def test_paths_follow_the_data(measured):
    """Along the data ODE d log q / dt = −∇·h_q: from T to t_min it adds up to log q there."""
    oracle, _, found = measured
    process = oracle.process

    @eqx.filter_jit
    @jax.vmap
    def along(x, t):
        trace = jnp.trace(oracle.hessian(x, t))
        divergence = x.size * process.drift_rate(t) - 0.5 * process.g2(t) * trace
        return oracle.log_density(x, t), divergence * process.sigma(t) ** 2 / process.g2(t)

    log_q, rate = along(jnp.asarray(found.x[0]), jnp.asarray(found.t[0]))
    change = np.trapezoid(rate, found.log_snr[0])
    np.testing.assert_allclose(log_q[-1] - log_q[0], change, rtol=0.01)
