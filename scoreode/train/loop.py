"""The training loop: a generator of reports, independent of the model and the loss.

Steps run on the devices, a chunk at a time. Sampling a batch, the gradient, the update and the
moving average are one compiled loop. Its length is an argument, so the last chunk needs no new
compilation. Every device takes its share of a batch. Between chunks the caller can log, validate,
save or stop.

A step is a function of only the state, its number and the run's key, so a run that is stopped
between chunks and resumed gives the same result. If a number is not finite after a chunk, the chunk
is repeated with half the learning rate and other random draws. Only the chunk's first step is
stored to reproduce this.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree, Real, UInt32

from scoreode._typing import Batch, Loss, Referenced, Sampler, Scalar
from scoreode.errors import FailureError
from scoreode.train import devices
from scoreode.train.optimiser import Optimiser
from scoreode.train.windows import Windows

CHUNK = 100  # steps between reports: some tenths of a second for small networks
RECOVERIES = 3  # then the run fails: below 1/8 of the learning rate it is another setting
_TIMED = 5  # steps in a chunk while the speed is unknown
_PADDED = 2**16  # rows; the padding of larger tables would take too much memory
_LAST = np.iinfo(np.uint32).max


class Rows(eqx.Module):
    """Batches sampled with replacement from rows, or pairs, on the device.

    Only the first `n` rows are sampled, by default all. They are sampled uniformly, or by weight:
    each row has an interval of [0, 2³²), and `ends` are the ends of all intervals but the last.
    These are whole numbers, because float32 has too few digits for many rows.
    """

    rows: PyTree[Real[Array, "rows ..."]]
    n: Int[Array, ""] | None = None
    ends: UInt32[Array, " ends"] | None = None

    @classmethod
    def with_padding(
        cls, rows: PyTree[Real[Array, "rows ..."]], weights: np.ndarray | None = None
    ) -> "Rows":
        """These rows, padded to a power of two, so that a compiled step serves many tables.

        **Arguments:** `weights`, one per row, positive (None: equal weights).
        """
        n = len(jax.tree.leaves(rows)[0])
        padding = (1 << (n - 1).bit_length()) - n if n < _PADDED else 0

        def pad(rows: Array) -> Array:
            return jnp.pad(rows, [(0, padding)] + [(0, 0)] * (rows.ndim - 1))

        rows, count = jax.tree.map(pad, rows), jnp.asarray(n, jnp.int32)
        if weights is None:
            return cls(rows, count)
        ends = np.cumsum(weights, dtype=np.float64)
        ends = np.minimum(ends[:-1] / ends[-1] * 2.0**32, _LAST).astype(np.uint32)
        return cls(rows, count, jnp.asarray(np.pad(ends, (0, padding), constant_values=_LAST)))

    def __call__(self, key: PRNGKeyArray, n: int) -> PyTree[Real[Array, "n ..."]]:
        count = len(jax.tree.leaves(self.rows)[0]) if self.n is None else self.n
        if self.ends is None:
            index = jr.randint(key, (n,), 0, count)
        else:
            interval = jnp.searchsorted(self.ends, jr.bits(key, (n,), jnp.uint32), side="right")
            index = jnp.minimum(interval, count - 1)
        return jax.tree.map(lambda rows: rows[index], self.rows)


class TrainState(eqx.Module):
    """What training changes: the model, its moving average, the optimiser's moments, the loss."""

    model: Any
    ema: Any
    moments: Any
    loss: Loss
    step: Int[Array, ""]

    @classmethod
    def initial(cls, model: Any, loss: Loss, optimiser: Optimiser) -> "TrainState":
        moments = optimiser.transformation.init(eqx.filter(model, eqx.is_inexact_array))
        return cls(model, model, moments, loss, jnp.zeros((), jnp.int32))

    def after(self, earlier: "TrainState") -> "TrainState":
        """An earlier state of a like model, to be trained on by this one's loss.

        The model, its average, the moments and the step are the earlier ones. Their structure is
        this one's: like networks may differ in how they compute their gradients.
        """
        own, static = eqx.partition(self, eqx.is_array)
        arrays = eqx.filter(replace(earlier, loss=self.loss), eqx.is_array)
        arrays = jax.tree.unflatten(jax.tree.structure(own), jax.tree.leaves(arrays))
        return eqx.combine(arrays, static)


@dataclass(frozen=True)
class Budget:
    """How long to train: steps, seconds including compilation, or whichever ends first.

    **Arguments:** `steps` from `first_step` on, `seconds` from `begun` on.
    """

    steps: int | None = None
    seconds: float | None = None
    first_step: int = 0
    begun: float = 0.0

    def __post_init__(self) -> None:
        given = [limit for limit in (self.steps, self.seconds) if limit is not None]
        if not given or min(given) <= 0:
            raise ValueError("a budget is of steps or seconds, and positive")

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the budget that is spent, from 0 to 1."""
        of_steps = 0.0 if self.steps is None else (step - self.first_step) / self.steps
        of_seconds = 0.0 if self.seconds is None else (elapsed - self.begun) / self.seconds
        return min(max(of_steps, of_seconds), 1.0)

    def spent(self, step: int, elapsed: float) -> float:
        """The share of all seconds, those before it too; of steps alone the progress."""
        if self.seconds is None:
            return self.progress(step, elapsed)
        return min(elapsed / (self.begun + self.seconds), 1.0)

    def chunk(self, step: int, elapsed: float, rate: float | None) -> tuple[int, float]:
        """The number of steps in the next chunk, and the progress per step."""
        left = math.inf if self.steps is None else self.steps - (step - self.first_step)
        if self.seconds is None and self.steps is not None:
            return int(min(CHUNK, left)), 1 / self.steps
        if self.seconds is None or rate is None:
            return int(min(_TIMED, left)), 0.0
        left = int(min(left, max(1, math.ceil((self.seconds - elapsed + self.begun) * rate))))
        return min(CHUNK, left), (1 - self.progress(step, elapsed)) / left


@dataclass(frozen=True)
class Report:
    """The state of training after a chunk; `terms` are means over its steps.

    `progress` is that of the whole budget, `annealed` that of the learning rate's schedule.
    `recoveries` are the steps to which training went back after non-finite numbers. Each halved the
    learning rate.
    """

    state: TrainState
    step: int
    progress: float
    seconds: float
    steps_per_second: float
    terms: dict[str, float]
    recoveries: tuple[int, ...] = ()
    annealed: float = 1.0

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers of the report without the state, as written to metrics.jsonl."""
        names = ("step", "progress", "seconds", "steps_per_second")
        halvings = {"halvings": len(self.recoveries)}
        return {name: getattr(self, name) for name in names} | self.terms | halvings


def _gradient(
    state: TrainState,
    batch: Batch | Referenced,
    key: PRNGKeyArray,
    progress: Scalar,
    parts: int,
    mesh: Mesh,
) -> tuple[Any, Mapping[str, Scalar], Loss]:
    """The gradient and the terms, as means over the parts of the batch, and the updated loss."""

    def part_gradient(
        loss: Loss, batch: Batch | Referenced, key: PRNGKeyArray
    ) -> tuple[Any, Any, Loss]:
        batch = devices.split(batch, mesh)
        grad = eqx.filter_grad(lambda model: loss(model, batch, key, progress), has_aux=True)
        gradient, (terms, loss) = grad(state.model)
        return gradient, terms, loss

    if parts == 1:
        return part_gradient(state.loss, batch, key)
    arrays, static = eqx.partition(state.loss, eqx.is_array)

    def add(
        carry: tuple[Any, Any], part: tuple[Batch | Referenced, PRNGKeyArray]
    ) -> tuple[tuple, None]:
        arrays, sums = carry
        gradient, terms, loss = part_gradient(eqx.combine(arrays, static), *part)
        sums = jax.tree.map(jnp.add, sums, (gradient, terms))
        return (eqx.filter(loss, eqx.is_array), sums), None

    batches = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)
    first = jax.tree.map(lambda a: a[0], batches)
    shapes = eqx.filter_eval_shape(part_gradient, state.loss, first, key)[:2]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (arrays, sums), _ = jax.lax.scan(add, (arrays, zeros), (batches, jr.split(key, parts)))
    gradient, terms = jax.tree.map(lambda total: total / parts, sums)
    return gradient, terms, eqx.combine(arrays, static)


def update(state: TrainState, gradient: Any, rate: Scalar, optimiser: Optimiser) -> TrainState:
    """The state after a step along the gradient, at this learning rate."""
    updates, moments = optimiser.transformation.update(
        gradient, state.moments, eqx.filter(state.model, eqx.is_inexact_array)
    )
    model = eqx.apply_updates(state.model, jax.tree.map(lambda u: -rate * u, updates))
    # The average starts short and grows; otherwise it would keep the initial weights for long.
    age = state.step.astype(rate.dtype)
    decay = jnp.minimum(optimiser.ema_decay, (1 + age) / (10 + age))
    ema = jax.tree.map(
        lambda a, b: decay * a + (1 - decay) * b if eqx.is_inexact_array(a) else a,
        state.ema,
        model,
    )
    return TrainState(model, ema, moments, state.loss, state.step + 1)


@eqx.filter_jit
def advance(
    state: TrainState,
    key: PRNGKeyArray,
    n: Int[Array, ""],
    progress: Scalar,
    increment: Scalar,
    scale: Scalar,
    sampler: Sampler,
    optimiser: Optimiser,
    mesh: Mesh,
) -> tuple[TrainState, Mapping[str, Scalar], Bool[Array, ""]]:
    """Takes n steps at `scale` times the scheduled learning rate.

    **Returns:** the new state; the means of the terms; whether the loss and the state are finite.
    """

    def step(dynamic: TrainState, at: Scalar) -> tuple[TrainState, Mapping[str, Scalar]]:
        state = eqx.combine(dynamic, static)
        key_x, key_loss = jr.split(jr.fold_in(key, state.step))
        batch = sampler(key_x, optimiser.batch_size)
        grads, terms, loss = _gradient(state, batch, key_loss, at, optimiser.micro_batches, mesh)
        new = update(replace(state, loss=loss), grads, scale * optimiser.schedule(at), optimiser)
        return devices.whole(eqx.filter(new, eqx.is_array), mesh), terms

    def body(i: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        dynamic, sums = carry
        dynamic, terms = step(dynamic, progress + (i + 1).astype(progress.dtype) * increment)
        return dynamic, jax.tree.map(jnp.add, sums, terms)

    dynamic, static = eqx.partition(state, eqx.is_array)
    terms = jax.eval_shape(lambda: step(dynamic, progress)[1])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), terms)
    dynamic, sums = jax.lax.fori_loop(0, n, body, (dynamic, zeros))
    means = jax.tree.map(lambda total: total / n.astype(total.dtype), sums)
    numbers = means["loss"], eqx.filter(dynamic, eqx.is_inexact_array)
    finite = jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(numbers)])
    return eqx.combine(dynamic, static), means, devices.whole(jnp.all(finite), mesh)


def _samplers(sampler: Sampler | Windows, mesh: Mesh) -> Callable[[int, int], Sampler]:
    """The sampler on every device, as a function of a chunk's first step and length."""
    if isinstance(sampler, Windows):

        def window(step: int, n: int) -> Sampler:
            current = sampler.at(step)
            sampler.prepare(step + n)  # read while the chunk runs
            return devices.everywhere(current, mesh)

        return window
    replicated = devices.everywhere(sampler, mesh)
    return lambda _step, _n: replicated


def train(
    state: TrainState,
    sampler: Sampler | Windows,
    optimiser: Optimiser,
    budget: Budget,
    key: PRNGKeyArray,
    elapsed: float = 0.0,
    recoveries: Sequence[int] = (),
    until: float = 1.0,
) -> Iterator[Report]:
    """Yields a `Report` after every chunk of steps until the budget is spent.

    **Arguments:** `state`, initial or from a checkpoint; `sampler` of batches; `optimiser`;
    `budget`; `key`; `elapsed` seconds and `recoveries`, as in the last report of a resumed run;
    `until`, the progress at which to stop.

    **Raises:** `FailureError` if the loss or a weight is not finite, after `RECOVERIES` attempts at
    smaller learning rates.
    """
    begin = time.perf_counter() - elapsed
    rate, step, compiled = None, int(state.step), False
    mesh = devices.all_devices()
    state = devices.everywhere(state, mesh)
    sampler_at = _samplers(sampler, mesh)
    progress, recoveries = budget.progress(step, elapsed), tuple(recoveries)
    while progress < until:
        started = time.perf_counter()
        n, increment = devices.broadcast(budget.chunk(step, started - begin, rate))
        counts = jnp.asarray(int(n)), jnp.float32(progress), jnp.float32(increment)
        inputs = _attempt(key, len(recoveries)), *counts, jnp.float32(0.5 ** len(recoveries))
        inputs = devices.everywhere(inputs, mesh)
        new, terms, finite = advance(state, *inputs, sampler_at(step, int(n)), optimiser, mesh)
        terms = {name: float(value) for name, value in terms.items()}
        now = time.perf_counter()
        # The first chunk includes compilation, so its speed says nothing.
        rate, compiled = n / (now - started) if compiled else None, True
        if finite:
            state, step = new, step + int(n)
        elif len(recoveries) < RECOVERIES:
            recoveries = (*recoveries, step)
        else:
            raise FailureError(_failure_message(terms["loss"], step, int(n), recoveries))
        (progress,) = devices.broadcast([budget.progress(step, now - begin)])
        if finite:
            speed, spent = n / (now - started), budget.spent(step, now - begin)
            local = devices.here(state)
            yield Report(local, step, spent, now - begin, speed, terms, recoveries, progress)


def _attempt(key: PRNGKeyArray, number: int) -> PRNGKeyArray:
    """The key of an attempt: later attempts do not repeat the draws of earlier ones."""
    return jr.fold_in(key, 2**31 + number) if number else key  # steps are below 2³¹


def _failure_message(loss: float, step: int, n: int, recoveries: tuple[int, ...]) -> str:
    what = "a weight" if math.isfinite(loss) else "the loss"
    became = "no longer finite" if math.isfinite(loss) else f"{loss}"
    return (
        f"{what} became {became} at step {step + n}, also from step {recoveries[-1]} with"
        f" 1/{2 ** len(recoveries)} of the learning rate: lower the learning rate, or check the"
        " data for extreme rows"
    )
