"""What a model betrays about itself: nothing where its score is exact, else the right amount."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES, mixture, random_model
from jaxtyping import Array, Float
from scipy.stats import special_ortho_group

from scoreode.flow import Solver, map_rows
from scoreode.process import VP
from scoreode.theory import AugmentedODE, Wrong
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


class Turned(eqx.Module):
    """The score of independent coordinates Rᵀx, each with the score s_1 of one dimension."""

    score: Wrong
    R: Float[Array, "d d"]

    def __call__(self, x, t):
        each = jax.vmap(lambda u: self.score(u[None], t)[0])
        return self.R @ each(self.R.T @ x)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_in_many_dimensions_random_probes_estimate_the_same():
    """In turned coordinates the Jacobian is full, and m is known from one dimension."""
    process, d, n, t, key = VP(), 36, 24, 0.6, jr.key(1)
    one = Wrong.random(mixture(process, 1), process, 0.05, 1, jr.key(0))
    R = jnp.asarray(special_ortho_group.rvs(d, random_state=0))
    score, x = Turned(one, R), np.random.default_rng(0).normal(size=(n, d))
    solver = Solver(1e-5, 1e-5)
    found = consistency(score, process, x, np.array([t]), key, solver)

    x_t = process.diffuse(jnp.asarray(x), jr.normal(key, x.shape), jnp.asarray(t))
    u = np.asarray(x_t @ R).reshape(-1, 1)
    p = map_rows(AugmentedODE(solver), (one, process), (u, np.full(len(u), t)))
    gap = np.asarray(p.score) - np.asarray(jax.vmap(lambda u: one(u, jnp.asarray(t)))(u))
    expected = float(process.sigma(jnp.asarray(t))) ** 2 * np.mean(gap**2)
    assert found.unconverged == 0
    assert abs(found.own_score.value[0] - expected) < 4 * found.own_score.stderr[0]
    assert found.own_score.stderr[0] < 0.1 * expected
    np.testing.assert_allclose(found.asymmetry.value, 0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_in_many_dimensions_probes_estimate_the_asymmetry():
    A = np.random.default_rng(0).normal(size=(40, 40))
    score = jax.tree_util.Partial(lambda A, x, _: -A @ x / 40, jnp.asarray(A))
    x = np.random.default_rng(1).normal(size=(16, 40))
    found = consistency(score, VP(), x, np.array([0.5]), jr.key(1))
    expected = np.linalg.norm(A - A.T) / np.linalg.norm(A)
    # 16 of 64 orthogonal probes leave a ratio of norms within a tenth.
    assert abs(found.asymmetry.value[0] - expected) < 0.1 * expected
    assert found.asymmetry.stderr[0] < 0.03 * expected


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
