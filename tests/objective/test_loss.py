"""The loss of a batch: ramps, part of the batch at high order, and what λ = 0 leaves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import WEIGHTINGS, random_field
from hypothesis import example, given
from hypothesis import strategies as st
from standard_errors import assert_mean

from scoreode.objective import AdaptiveLikelihood, DenoisingScoreMatching, Ramp
from scoreode.process import VP

pytestmark = pytest.mark.usefixtures("x64", "strict")

D, N = 2, 12
X = np.random.default_rng(0).normal(size=(N, D))
fractions = st.floats(0, 1, allow_subnormal=False)  # XLA takes subnormal numbers for 0


@eqx.filter_jit
def loss_and_gradient(objective, model, key, progress):
    def loss(model):
        return objective(model, jnp.asarray(X), key, progress)

    (value, (reported, after)), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(model)
    return value, reported, gradient, after


def at(objective, progress, key=0, seed=1):
    return loss_and_gradient(
        objective, random_field(D, seed), jr.key(key), jnp.asarray(progress, jnp.float64)
    )


def assert_trees_close(one, other, rtol=1e-10):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


@example(value=1.0, ends=(0.0, 0.0), progress=0.0)
@given(
    value=st.floats(0, 5, allow_subnormal=False),
    ends=st.tuples(fractions, fractions),
    progress=fractions,
)
def test_ramp(value, ends, progress):
    start, full = sorted(ends)
    found = float(Ramp(value, start, full)(jnp.asarray(progress)))
    if progress < start:
        assert found == 0
    elif progress >= full:
        np.testing.assert_allclose(found, value, rtol=1e-6)
    else:
        expected = value * (progress - start) / (full - start)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


FIRST = DenoisingScoreMatching(VP())
LATE = DenoisingScoreMatching(VP(), 3, Ramp(0.5, 0.3, 0.4), Ramp(0.1, 0.3, 0.4), every=4)


def from_the_start(lambda1, lambda2):
    """With the coefficients as arrays, which share one compilation."""
    objective = DenoisingScoreMatching(VP(), 3, every=4)
    values = lambda loss: (loss.lambda1.value, loss.lambda2.value)  # noqa: E731
    return eqx.tree_at(values, objective, (jnp.asarray(lambda1), jnp.asarray(lambda2)))


@pytest.mark.slow
def test_without_lambda_it_is_the_first_order():
    """Equal in value and in gradient, whether the high orders count nothing or never begin."""
    first = at(FIRST, 0.2)
    for third in (at(from_the_start(0.0, 0.0), 0.2), at(LATE, 0.2)):
        np.testing.assert_allclose(third[0], first[0], rtol=1e-12)
        assert_trees_close(third[2], first[2])


def test_a_late_start_ends_where_an_early_one_does():
    late, early = at(LATE, 0.7), at(from_the_start(0.5, 0.1), 0.7)
    np.testing.assert_allclose(late[0], early[0], rtol=1e-12)
    assert_trees_close(late[2], early[2])
    assert min(float(early[1][name]) for name in ("first", "second", "second_trace", "third")) > 0


@pytest.mark.slow
def test_the_trace_has_a_coefficient_of_its_own():
    """J1 + J2,tr alone, and J1 + J2 alone: together what they add is what both add."""
    both, full, trace = (
        at(DenoisingScoreMatching(VP(), 2, Ramp(a), lambda1_trace=Ramp(b)), 0.5)
        for a, b in ((0.5, 0.5), (0.5, 0.0), (0.0, 0.5))
    )
    first, second, second_trace = (trace[1][k] for k in ("first", "second", "second_trace"))
    d = X.shape[1]
    np.testing.assert_allclose(trace[0], first / d + 0.5 * second_trace / d**2, rtol=1e-12)
    np.testing.assert_allclose(full[0], first / d + 0.5 * second / d**2, rtol=1e-12)
    alone = at(FIRST, 0.5)[2]
    summed = jax.tree.map(lambda a, b, c: a + b - c, trace[2], full[2], alone)
    assert_trees_close(summed, both[2])


@pytest.mark.slow
def test_part_of_a_batch_stands_for_the_whole():
    """Order 2 on each fourth example: more noise, the same mean; J1 is untouched."""
    process, keys = VP(t_min=1e-2), jr.split(jr.key(2), 3000)
    model, weighting = random_field(D, 1), WEIGHTINGS["adaptive-used"].make()

    @eqx.filter_jit
    def reports(every):
        objective = DenoisingScoreMatching(process, 2, weighting=weighting, every=every)
        return jax.vmap(lambda key: objective(model, jnp.asarray(X), key, jnp.ones(()))[1][0])(keys)

    whole, part = reports(1), reports(4)
    np.testing.assert_allclose(part["first"], whole["first"], rtol=1e-10)
    for name in ("second", "second_trace"):
        # The same t and ε in both, so the difference is what is left out.
        assert_mean(np.asarray(part[name]) - np.asarray(whole[name]), 0)
        assert np.std(part[name]) > np.std(whole[name])


def test_objective_to_go_on_with_has_seen_j1():
    objective = DenoisingScoreMatching(VP(), weighting=AdaptiveLikelihood())
    *_, after = at(objective, 0.5)
    before = objective.weighting.mean_square
    assert not np.array_equal(after.weighting.mean_square, before)
    assert jax.tree.structure(after) == jax.tree.structure(objective)
    *_, unchanged = at(FIRST, 0.5)
    assert eqx.tree_equal(unchanged, FIRST)
