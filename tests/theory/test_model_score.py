"""The model's density and score at any time: two methods, a closed form, finite differences."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import gaussian, mixture
from scipy import stats

from scoreode.flow import Solver, map_rows
from scoreode.process import VE, VP
from scoreode.theory import AugmentedODE, LikelihoodGradient, Wrong

pytestmark = pytest.mark.usefixtures("x64")

TOLERANCE = 1e-9
MEAN = np.array([0.3, -0.5])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])


def tight():
    return Solver(jnp.asarray(TOLERANCE), jnp.asarray(TOLERANCE), max_steps=1024)


def points(oracle, t, n):
    """x_t ~ q_t, at times t."""
    x_0, eps = oracle.sample(jr.key(1), n), jr.normal(jr.key(2), (n, oracle.means.shape[1]))
    return np.asarray(jax.vmap(oracle.process.diffuse)(x_0, eps, jnp.asarray(t)))


def evaluated(how, score, process, x, t):
    found = map_rows(how, (score, process), (x, t), chunk=len(x))
    assert found.converged.all()
    return found


@pytest.fixture(scope="module")
def wrong():
    """A wrong score of a two-dimensional mixture, points at all times, and what is found there."""
    with jax.enable_x64(True):
        process = VE()
        oracle = mixture(process, 2)
        score = Wrong.random(oracle, process, 0.3, 2, jr.key(0))
        t = np.tile([process.t_min, 0.2, 0.6, 0.9, process.t_max], 8)
        x = points(oracle, t, len(t))
        found = evaluated(AugmentedODE(tight(), hessian=True), score, process, x, t)
        return score, process, x, t, found


@pytest.mark.slow
def test_the_augmented_ode_is_the_gradient_of_the_likelihood(wrong):
    score, process, x, t, found = wrong
    gradient = evaluated(LikelihoodGradient(tight()), score, process, x, t)
    # A thousand steps, each within the tolerance, relative to the size of the state.
    np.testing.assert_allclose(found.log_density, gradient.log_density, atol=1e3 * TOLERANCE)
    np.testing.assert_allclose(found.score, gradient.score, rtol=1e3 * TOLERANCE, atol=1e-5)
    np.testing.assert_allclose(found.latent, gradient.latent, rtol=1e-6, atol=1e-6)
    assert np.abs(found.score - jax.vmap(score)(x, jnp.asarray(t))).max() > 1  # m is not s


@pytest.mark.slow
def test_score_and_hessian_are_finite_differences(wrong):
    score, process, x, t, found = wrong
    # The density may vary over far less than σ; its own derivatives say over what length.
    curvature = np.linalg.norm(found.hessian, axis=(1, 2)) ** 0.5
    rate = 1 / np.asarray(jax.vmap(process.sigma)(jnp.asarray(t))) + curvature
    step = 1e-3 / rate
    how = AugmentedODE(tight(), hessian=True)
    for i in range(2):
        e = step[:, None] * np.eye(2)[i]
        ahead, behind = (evaluated(how, score, process, x + sign * e, t) for sign in (1, -1))
        slope = (ahead.log_density - behind.log_density) / (2 * step)
        slopes = (ahead.score - behind.score) / (2 * step[:, None])
        # A difference errs by (step · rate)² of the derivative's natural size, and by the solver's
        # tolerance over the step.
        assert np.all(np.abs(slope - found.score[:, i]) < 1e-3 * rate)
        assert np.all(np.abs(slopes - found.hessian[:, i]) < 1e-3 * rate[:, None] ** 2)
    np.testing.assert_allclose(found.hessian, found.hessian.swapaxes(1, 2), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_gaussian_data_have_the_closed_form():
    """Deviations from α m scale by √c_t along Σ's eigenvectors: p_t is a Gaussian.

    So x_T = α_T m + A (x_t − α_t m), log p_t = log p_T(x_T) + log |A| and ∇log p_t = Aᵀ ∇log p_T.
    """
    process = VP()
    t = np.tile([process.t_min, 0.5, 0.9], 8)
    oracle = gaussian(process, MEAN, COVARIANCE)
    x = points(oracle, t, len(t))
    found = evaluated(AugmentedODE(tight()), oracle, process, x, t)

    values, Q = np.linalg.eigh(COVARIANCE)
    curves = jax.vmap(lambda t: (process.alpha(t), process.sigma(t)))
    (a_t, s_t), (a_T, s_T) = (
        map(np.asarray, curves(times)) for times in (jnp.asarray(t), jnp.full(1, process.t_max))
    )
    c_t, c_T = (a[:, None] ** 2 * values + s[:, None] ** 2 for a, s in ((a_t, s_t), (a_T, s_T)))
    stretch = np.sqrt(c_T / c_t)
    A = np.einsum("ij,nj,kj->nik", Q, stretch, Q)
    x_T = a_T * MEAN + np.einsum("nij,nj->ni", A, x - a_t[:, None] * MEAN)
    scale = np.hypot(a_T, s_T)
    nats = stats.norm.logpdf(x_T, scale=scale).sum(1) + np.log(stretch).sum(1)
    np.testing.assert_allclose(found.latent, x_T, atol=1e-6 * scale[0])
    np.testing.assert_allclose(found.log_density, nats, atol=1e-6)
    np.testing.assert_allclose(found.score, np.einsum("nij,ni->nj", A, -x_T / scale**2), atol=1e-5)


def test_a_failed_solve_is_marked_and_harms_no_other_row(wrong):
    score, process, x, t, found = wrong
    bad = np.where(np.arange(len(x))[:, None] == 3, np.nan, x)
    how = AugmentedODE(tight(), hessian=True)
    again = map_rows(how, (score, process), (bad, t), chunk=len(x))
    np.testing.assert_array_equal(again.converged, np.arange(len(x)) != 3)
    np.testing.assert_array_equal(again.score[again.converged], found.score[again.converged])
