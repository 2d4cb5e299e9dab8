"""The loop against recursions done by hand: steps, moving average, budgets, schedules, failure."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from scoreode.errors import FailureError
from scoreode.train import Budget, Optimiser, Rows, Schedule, TrainState, adam, train
from scoreode.train.loop import CHUNK


class Mean(eqx.Module):
    """A model of one vector."""

    value: jax.Array


class Quadratic(eqx.Module):
    """½‖model − mean of the batch‖²; counts the steps that it has seen."""

    seen: jax.Array
    poison: bool = False

    def __call__(self, model: Mean, x, _key, progress) -> tuple[Any, tuple[dict, "Quadratic"]]:
        loss = 0.5 * jnp.sum((model.value - x.mean(0)) ** 2)
        loss = loss + jnp.where(self.poison & (self.seen > 5), jnp.nan, 0.0)
        return loss, ({"loss": loss, "progress": progress}, Quadratic(self.seen + 1, self.poison))


def sgd(peak: float = 0.1, decay: float = 0.9) -> Optimiser:
    """Plain gradient steps: what a hand-written loop does too."""
    return Optimiser(optax.identity(), Schedule(peak, warmup=0.1), decay, batch_size=8)


def start(optimiser: Optimiser, *, poison: bool = False) -> TrainState:
    return TrainState.initial(Mean(jnp.ones(3)), Quadratic(jnp.zeros(()), poison), optimiser)


ROWS = Rows(jr.normal(jr.key(0), (50, 3)))
KEY = jr.key(1)


def final(state: TrainState, optimiser: Optimiser, steps: int) -> TrainState:
    *_, last = train(state, ROWS, optimiser, Budget(steps=steps), KEY)
    return last.state


@pytest.mark.slow
def test_steps_and_moving_average_follow_their_recursions():
    optimiser, steps = sgd(), 2 * CHUNK + 7
    value = ema = np.ones(3)
    for step in range(steps):
        key_x, _ = jr.split(jr.fold_in(KEY, step))
        x = np.asarray(ROWS(key_x, 8), np.float64)
        rate = float(optimiser.schedule(jnp.float32((step + 1) / steps)))
        value = value - rate * (value - x.mean(0))
        decay = min(0.9, (1 + step) / (10 + step))
        ema = decay * ema + (1 - decay) * value
    state = final(start(optimiser), optimiser, steps)
    # Float32 rounds each of `steps` updates to 6e-8 of values near 1.
    np.testing.assert_allclose(state.model.value, value, atol=steps * 1e-7)
    np.testing.assert_allclose(state.ema.value, ema, atol=steps * 1e-7)
    assert int(state.step) == int(state.loss.seen) == steps


def test_the_average_of_a_young_run_is_short():
    """(1 + n)/(10 + n) stands for a larger decay: the first weights are soon forgotten."""
    optimiser, steps = sgd(decay=0.999), 20
    value, ema, slow = (np.ones(3) for _ in range(3))
    for step in range(steps):
        key_x, _ = jr.split(jr.fold_in(KEY, step))
        rate = float(optimiser.schedule(jnp.float32((step + 1) / steps)))
        value = value - rate * (value - np.asarray(ROWS(key_x, 8), np.float64).mean(0))
        ema = (1 + step) / (10 + step) * ema + 9 / (10 + step) * value
        slow = 0.999 * slow + 0.001 * value
    found = final(start(optimiser), optimiser, steps).ema.value
    np.testing.assert_allclose(found, ema, atol=steps * 1e-7)
    assert np.abs(slow - ema).min() > 0.2, "a constant decay would be far from it"


@pytest.mark.parametrize(("b2", "settings"), [(0.99, {}), (0.999, {"b2": 0.999})])
def test_adam_clips_and_forgets_as_it_is_defined(b2, settings):
    """Kingma and Ba (2015) with β1 = 0.9, by default β2 = 0.99, after clipping the norm to 1."""
    gradients = (
        3 * np.random.default_rng(0).normal(size=(6, 3)) * [[1], [0.05], [1], [2], [0.1], [1]]
    )
    transformation, m, v = adam(**settings), np.zeros(3), np.zeros(3)
    moments = transformation.init(jnp.zeros(3))
    for n, g in enumerate(gradients, 1):
        update, moments = transformation.update(jnp.asarray(g, jnp.float32), moments)
        g = g / max(1.0, np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, b2 * v + (1 - b2) * g**2
        expected = m / (1 - 0.9**n) / (np.sqrt(v / (1 - b2**n)) + 1e-8)
        np.testing.assert_allclose(update, expected, rtol=1e-4)


def test_weights_of_linear_maps_decay_and_nothing_else_does():
    layer = eqx.nn.Linear(2, 2, key=jr.key(0))
    network = {"layer": layer, "norm": eqx.nn.LayerNorm(2), "constant": Mean(jnp.ones(3))}
    without = jax.tree.map(jnp.zeros_like, network)
    moments = adam(weight_decay=0.1).init(network)
    updates, _ = adam(weight_decay=0.1).update(without, moments, network)
    np.testing.assert_allclose(updates["layer"].weight, 0.1 * layer.weight, rtol=1e-6)
    others = updates["norm"].weight, updates["norm"].bias, updates["constant"].value
    for leaf in (updates["layer"].bias, *others):
        np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))


def test_a_run_in_two_parts_is_bit_equal_to_one():
    optimiser = sgd()
    whole = list(train(start(optimiser), ROWS, optimiser, Budget(steps=3 * CHUNK), KEY))
    rest = list(train(whole[0].state, ROWS, optimiser, Budget(steps=3 * CHUNK), KEY))
    assert [report.step for report in rest] == [2 * CHUNK, 3 * CHUNK]
    for one, other in zip(
        jax.tree.leaves(whole[-1].state), jax.tree.leaves(rest[-1].state), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_terms_are_means_over_the_chunk():
    optimiser = sgd()
    (report,) = train(start(optimiser), ROWS, optimiser, Budget(steps=10), KEY)
    # Progress runs over 1/10, 2/10 … 1, whose mean is 0.55.
    assert report.terms["progress"] == pytest.approx(0.55, abs=1e-6)
    assert report.progress == 1


def test_a_loss_that_is_not_finite_is_a_failure_that_says_what_to_do():
    optimiser = sgd()
    with pytest.raises(FailureError, match=r"loss became nan at step .* lower the learning rate"):
        list(train(start(optimiser, poison=True), ROWS, optimiser, Budget(steps=20), KEY))


TRACES = []


class Steep(eqx.Module):
    """½ k ‖model − mean of the batch‖², of which k rises: at a rate above 2/k steps diverge."""

    early: float
    late: float

    def __call__(self, model: Mean, x, _key, progress) -> tuple[Any, tuple[dict, "Steep"]]:
        TRACES.append(progress)
        k = jnp.where(progress > 0.5, self.late, self.early)
        loss = 0.5 * k * jnp.sum((model.value - x.mean(0)) ** 2)
        return loss, ({"loss": loss}, self)


def steep(late: float, *, peak: float = 0.1, early: float = 1.0) -> tuple[TrainState, Optimiser]:
    optimiser = Optimiser(optax.identity(), Schedule(peak, warmup=0.1), 0.9, batch_size=8)
    return TrainState.initial(Mean(jnp.ones(3)), Steep(early, late), optimiser), optimiser


STEEP = 72.0  # at half of a peak of 0.1, and at the whole of it, steps multiply by −1 and by −3
LONG = Budget(steps=10 * CHUNK)


@pytest.mark.slow
def test_a_run_that_diverges_goes_back_with_half_the_rate():
    """From its last finite chunk, at half the rate and with other draws; compiled once."""
    state, optimiser = steep(STEEP)
    TRACES.clear()
    reports = list(train(state, ROWS, optimiser, LONG, KEY))
    traced = len(TRACES)
    assert [report.recoveries for report in reports] == [()] * 5 + [(5 * CHUNK,)] * 5
    assert [report.numbers["halvings"] for report in reports] == [0] * 5 + [1] * 5
    assert [report.step for report in reports] == list(range(CHUNK, 11 * CHUNK, CHUNK))
    good, last = reports[4].state, reports[-1]
    assert last.progress == 1
    value, ema = (np.asarray(v.value, np.float64) for v in (good.model, good.ema))
    for step in range(5 * CHUNK, 10 * CHUNK):
        progress = jnp.float32((step + 1) / (10 * CHUNK))
        key = jr.fold_in(jr.fold_in(KEY, 2**31 + 1), step)
        x = np.asarray(ROWS(jr.split(key)[0], 8), np.float64)
        k = STEEP if progress > 0.5 else 1.0
        value = value - 0.5 * float(optimiser.schedule(progress)) * k * (value - x.mean(0))
        ema = 0.9 * ema + 0.1 * value
    # Errors of float32 are forgotten as the steps contract; the last steps hardly move.
    np.testing.assert_allclose(last.state.model.value, value, atol=1e-4)
    np.testing.assert_allclose(last.state.ema.value, ema, atol=1e-4)
    # A run that finds no trouble traces as often: going back compiles nothing.
    jax.clear_caches()
    TRACES.clear()
    *_, calm = train(steep(2.0)[0], ROWS, optimiser, LONG, KEY)
    assert calm.recoveries == ()
    assert len(TRACES) == traced


def test_a_run_taken_up_after_it_went_back_is_bit_equal():
    state, optimiser = steep(STEEP)
    *_, whole = every = list(train(state, ROWS, optimiser, LONG, KEY))
    for report in every[3:8]:
        known = report.seconds, report.recoveries
        *_, last = train(report.state, ROWS, optimiser, LONG, KEY, *known)
        assert last.recoveries == whole.recoveries == (5 * CHUNK,)
        assert eqx.tree_equal(last.state, whole.state), report.step


def test_a_run_goes_back_as_often_as_it_may_and_then_fails():
    state, optimiser = steep(4 * STEEP)  # takes an eighth of the rate
    *_, last = train(state, ROWS, optimiser, LONG, KEY)
    assert last.recoveries == (5 * CHUNK,) * 3
    state, optimiser = steep(40 * STEEP)
    found = []
    with pytest.raises(FailureError, match="from step 500 with 1/8 of the learning rate: lower"):
        found.extend(train(state, ROWS, optimiser, LONG, KEY))
    assert [report.step for report in found] == [CHUNK * i for i in range(1, 6)]


class Kinked(eqx.Module):
    """A loss of 0 whose gradient is no number at the last step of a chunk."""

    step: jax.Array

    def __call__(self, model: Mean, _x, _key, _progress) -> tuple[Any, tuple[dict, "Kinked"]]:
        last = self.step % CHUNK == CHUNK - 1
        root = jnp.sqrt(jnp.where(last, jnp.sum(0 * model.value), 1.0))
        loss = root - jnp.where(last, 0.0, 1.0)
        return loss, ({"loss": loss}, Kinked(self.step + 1))


def test_a_state_that_is_not_finite_is_none_to_go_back_to():
    """The loss is measured before a step: what the last one makes of the weights it never sees."""
    optimiser = sgd()
    state = TrainState.initial(Mean(jnp.ones(3)), Kinked(jnp.zeros((), jnp.int32)), optimiser)
    message = f"a weight became no longer finite at step {CHUNK}, also from step 0"
    with pytest.raises(FailureError, match=message):
        list(train(state, ROWS, optimiser, Budget(steps=2 * CHUNK), KEY))


@pytest.mark.parametrize("wrong", [{}, {"steps": 1, "seconds": -1.0}, {"steps": 0}, {"steps": -3}])
def test_a_budget_is_of_positive_numbers(wrong):
    with pytest.raises(ValueError, match="budget"):
        Budget(**wrong)


def test_a_budget_of_steps_is_met_exactly():
    budget = Budget(steps=250)
    assert budget.chunk(0, 0.0, None) == (100, 1 / 250)
    assert budget.chunk(200, 0.0, None) == (50, 1 / 250)
    assert budget.progress(250, 0.0) == 1


def test_a_budget_of_seconds_ends_when_the_rate_says():
    budget = Budget(seconds=10.0)
    n, increment = budget.chunk(50, 9.0, 20.0)
    assert n == 20
    assert budget.progress(50, 9.0) + n * increment == pytest.approx(1)
    assert budget.chunk(0, 0.0, None)[1] == 0  # nothing is known of the rate yet


def test_of_steps_and_seconds_the_one_that_ends_first_counts():
    """After 100 steps and 20 seconds of others."""
    budget = Budget(400, 10.0, first_step=100, begun=20.0)
    assert budget.progress(300, 22.0) == pytest.approx(0.5)
    assert budget.progress(200, 28.0) == pytest.approx(0.8)
    assert budget.progress(500, 21.0) == 1
    assert budget.progress(150, 30.0) == 1
    assert budget.spent(300, 21.0) == pytest.approx(0.7)
    assert Budget(400, first_step=100).spent(200, 7.0) == pytest.approx(0.25)
    assert budget.chunk(450, 22.0, 1000.0) == (50, pytest.approx(1 / 400))
    n, increment = budget.chunk(120, 29.0, 5.0)
    assert (n, increment) == (5, pytest.approx(0.1 / 5))
    assert budget.chunk(497, 22.0, None) == (3, 0.0)


@pytest.mark.slow
def test_seconds_are_kept_and_progress_reaches_one():
    optimiser = sgd()
    *_, last = train(start(optimiser), ROWS, optimiser, Budget(seconds=2.0), KEY)
    assert last.progress == 1
    assert last.seconds >= 2.0


def test_the_schedule_warms_up_linearly_and_falls_as_a_cosine():
    schedule = Schedule(0.3, warmup=0.2)
    at = lambda progress: float(schedule(jnp.float32(progress)))  # noqa: E731
    assert at(0.1) == pytest.approx(0.15, rel=1e-5)
    assert at(0.2) == pytest.approx(0.3, rel=1e-5)
    assert at(0.6) == pytest.approx(0.15 * (1 + math.cos(math.pi / 2)), rel=1e-4)
    assert at(1.0) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.2, 3.0])
def test_a_schedule_without_decay_stays_at_its_peak(warmup):
    """A warm-up that is longer than the run is not shortened."""
    schedule = Schedule(0.3, warmup, decay=False)
    for progress in (0.001, 0.1, 0.3, 0.9, 1.0):
        share = 1.0 if progress >= warmup else progress / warmup
        assert float(schedule(jnp.float32(progress))) == pytest.approx(
            0.3 * share, abs=1e-7
        )  # of float32
