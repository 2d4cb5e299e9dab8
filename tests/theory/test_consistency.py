"""What a model betrays about itself: nothing where its score is exact, else the right amount."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES, mixture, random_model
from jaxtyping import Array, Float

from scoreode.flow import Solver
from scoreode.process import VP
from scoreode.theory.consistency import consistency, round_trip

TIGHT = Solver(1e-8, 1e-8)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_an_exact_score_betrays_only_the_priors_mismatch():
    process = PROCESSES["vp"]()
    oracle = mixture(process, 2)
    x, times = np.asarray(oracle.sample(jr.key(0), 32)), np.array([process.t_min, 0.3, 0.9])
    found = consistency(oracle, process, x, times, jr.key(1), TIGHT)
    assert found.unconverged == 0
    np.testing.assert_allclose(found.asymmetry.value, 0, atol=1e-10)
    np.testing.assert_allclose(found.own_score.value, 0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_asymmetry_of_a_linear_score_is_that_of_its_matrix():
    process, A = PROCESSES["vp"](), np.array([[1.0, 0.5], [-0.2, 0.8]])
    x = np.random.default_rng(0).normal(size=(8, 2))
    score = jax.tree_util.Partial(lambda A, x, _: -A @ x, jnp.asarray(A))
    found = consistency(score, process, x, np.array([0.5]), jr.key(1))
    expected = np.linalg.norm(A - A.T) / np.linalg.norm(A)
    np.testing.assert_allclose(found.asymmetry.value, expected, rtol=1e-10)


class Linear(eqx.Module):
    """s = −c x, given one c."""

    c: Float[Array, " 1"]

    def __call__(self, x, _):
        return -self.c * x

    def condition_on(self, c):
        return Linear(c)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_own_score_of_a_linear_score_is_that_of_a_normal():
    """Given c, VP's ODE is dx/dt = −½ β (1 − c) x: p_t is a normal of known variance."""
    process, c, t = VP(), np.linspace(0.7, 1.2, 6)[:, None], 0.4
    x = np.random.default_rng(0).normal(size=(6, 2))
    score = Linear(jnp.zeros(1))
    found = consistency(score, process, x, np.array([t]), jr.key(1), TIGHT, c)

    alpha, alpha_T = (float(process.alpha(jnp.asarray(t))) for t in (t, process.t_max))
    # β integrates to −2 log α.
    variance = float(process.prior_scale()) ** 2 * (alpha / alpha_T) ** (2 * (1 - c))
    sigma2 = 1 - alpha**2
    x_t = alpha * x + np.sqrt(sigma2) * np.asarray(jr.normal(jr.key(1), (6, 2)))
    np.testing.assert_allclose(
        found.own_score.value, sigma2 * np.mean((c - 1 / variance) ** 2 * x_t**2), rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_round_trip_is_as_good_as_the_solver():
    process = PROCESSES["ve"]()
    model = random_model(process, 2, 0.5)
    x = np.random.default_rng(0).normal(size=(16, 2))
    rough, fine = (round_trip(model, process, x, Solver(tol, tol)) for tol in (1e-4, 1e-7))
    assert fine.distance.value < 1e-4 < 1e3 * rough.distance.value
    assert fine.log_density.value < 1e-4
    assert rough.distance.value > 10 * fine.distance.value
