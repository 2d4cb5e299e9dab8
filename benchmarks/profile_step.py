"""Where does the time of a training step on a table go?

    python benchmarks/profile_step.py DATA_DIR/kin40k.npz --out profile_step.json
    python benchmarks/profile_step.py DATA_DIR/kin40k.npz --hlo chunk.txt

The step is a default fit's of order 1. It and its parts are compiled each as a loop, as training
runs them, and take turns in one process, so that a drifting machine slows all of them. Every part
reads inputs that were computed before. Reported: the median time of each by the clock and by the
processor, which other work disturbs less, and the median of its share of the step's processor time
within a repeat. Parts overlap: the gradient includes the network. With `--hlo` the optimised
program of the chunk is written to a file. On one core (`taskset -c 0`) no thread waits for another.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from scoreode._typing import Referenced
from scoreode.data import sources
from scoreode.model.build import prepare
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.objective.targets import Diffused, Reference
from scoreode.train import Optimiser, Schedule, TrainState, adam, devices
from scoreode.train.batches import batches
from scoreode.train.loop import advance, update

STORED = 8  # inputs of each kind, read in turn
Part = Callable[[jax.Array, Any], Any]


class Step:
    """A default fit's step on a table, whole and in parts."""

    def __init__(self, file: Path):
        data = sources.load_data(str(file))
        run = for_table(*data.train.shape, order=1, process=PROCESSES["ve"], steps=10_000)
        run, density = prepare(run, data)
        transformation = adam(run.clip, weight_decay=run.weight_decay)
        schedule = Schedule(run.learning_rate, run.warmup)
        self.optimiser = Optimiser(transformation, schedule, run.ema_decay, run.batch_size)
        self.sampler = batches(data, density.bijection, n_reference=run.objective.n_reference)
        self.state = TrainState.initial(density.score_model, run.objective, self.optimiser)
        self.mesh = devices.all_devices()

    def chunk(self) -> Callable[[int], Any]:
        """A chunk of training of n steps."""

        def arguments(n: int) -> tuple:
            numbers = jnp.asarray(n), jnp.float32(0.5), jnp.float32(0.0), jnp.float32(1.0)
            return self.state, jr.key(2), *numbers, self.sampler, self.optimiser, self.mesh

        self.lowered = advance.lower(*arguments(1))
        return lambda n: advance(*arguments(n))[1]

    def parts(self) -> dict[str, tuple[Part, Any]]:
        """Each part's loop: its body, a function of the step and of what it carries; its start."""
        loss, process = self.state.loss, self.state.loss.process
        n = self.optimiser.batch_size

        def batch(i: jax.Array, _: Any) -> Referenced:
            return self.sampler(jr.fold_in(jr.key(3), i), n)

        def noise(i: jax.Array, _: Any, x: jax.Array) -> tuple:
            key_t, key_eps, _ = jr.split(jr.fold_in(jr.key(4), i), 3)
            row, eps, t, weight = loss.noise.draw(process, loss.weighting, (key_t, key_eps), x)
            return x[row], eps, t, weight

        def targets(_: jax.Array, __: Any, drawn: tuple, others: jax.Array) -> jax.Array:
            x_0, eps, t, _ = drawn

            def mean(x_0: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
                at = Diffused(x_0, eps, process.alpha(t) / process.sigma(t))
                return loss.targets.cumulants(at, Reference(others), None, 1).mean

            return jax.vmap(mean)(x_0, eps, t)

        def residuals(model: Any, drawn: tuple) -> jax.Array:
            x_0, eps, t, _ = drawn

            def residual(x_0: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
                return process.sigma(t) * model(process.diffuse(x_0, eps, t), t) + eps

            return jnp.sum(jax.vmap(residual)(x_0, eps, t) ** 2, 1)

        def forward(_: jax.Array, __: Any, drawn: tuple) -> jax.Array:
            return residuals(self.state.model, drawn)

        @eqx.filter_grad
        def gradient_of(model: Any, drawn: tuple) -> jax.Array:
            return jnp.mean(drawn[-1] * residuals(model, drawn))

        def gradient(_: jax.Array, __: Any, drawn: tuple) -> Any:
            return gradient_of(self.state.model, drawn)

        def weighting(_: jax.Array, carry: Any, drawn: tuple, terms: jax.Array) -> Any:
            return carry.update(process, drawn[2], terms)

        def optimise(_: jax.Array, arrays: Any, grads: Any) -> Any:
            state = eqx.combine(arrays, static)
            state = update(state, grads, jnp.float32(1e-3), self.optimiser)
            return eqx.filter(state, eqx.is_array)

        def store(body: Callable, *inputs: Any) -> Any:
            """The results of a part for `STORED` steps."""
            results = [
                body(jnp.asarray(i), None, *(at(a, i) for a in inputs)) for i in range(STORED)
            ]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

        def at(stored: Any, i: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[i % STORED], stored)

        def reading(body: Callable, *inputs: Any) -> Part:
            return lambda i, carry: body(i, carry, *(at(a, i) for a in inputs))

        arrays, static = eqx.partition(self.state, eqx.is_array)
        rows = store(batch)
        drawn = store(noise, rows.batch)
        terms, grads = store(forward, drawn), store(gradient, drawn)
        model = self.state.model
        return {
            "rows of the batch and the reference": (batch, at(rows, 0)),
            "times and noise": (reading(noise, rows.batch), at(drawn, 0)),
            "posterior means": (reading(targets, drawn, rows.others), at(rows, 0).batch),
            "network": (reading(forward, drawn), at(terms, 0)),
            "network and gradient": (
                reading(gradient, drawn),
                eqx.filter(model, eqx.is_inexact_array),
            ),
            "weighting": (reading(weighting, drawn, terms), loss.weighting),
            "optimiser": (reading(optimise, grads), arrays),
        }


def loop(body: Part, start: Any) -> Callable[[int], Any]:
    """The part, n times in one compiled loop."""
    compiled = jax.jit(lambda n, start: jax.lax.fori_loop(0, n, body, start))
    return lambda n: compiled(n, start)


class Times(NamedTuple):
    """Milliseconds a step, by the clock and by the processor."""

    clock: float
    processor: float


def measure(run: Callable[[int], Any], steps: int) -> Times:
    """The time of so many steps."""
    clock, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(run(steps))
    spent = time.perf_counter() - clock, time.process_time() - processor
    return Times(*(1e3 * seconds / steps for seconds in spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="a table, .npz with x_train")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--hlo", type=Path, help="where to write the chunk's program")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    step = Step(args.file)
    runs = {"step": step.chunk()} | {k: loop(*part) for k, part in step.parts().items()}
    if args.hlo:
        args.hlo.write_text(step.lowered.compile().compiled.as_text())
    for run in runs.values():
        measure(run, 2)
    rounds = [
        {name: measure(run, args.steps) for name, run in runs.items()} for _ in range(args.repeats)
    ]

    def median(of: Callable[[dict[str, Times]], float]) -> float:
        return round(statistics.median(of(times) for times in rounds), 4)

    found = {
        name: {
            "ms": median(lambda times, name=name: times[name].clock),
            "processor_ms": median(lambda times, name=name: times[name].processor),
            "share": median(
                lambda times, name=name: times[name].processor / times["step"].processor
            ),
        }
        for name in runs
    }
    for name, row in found.items():
        print(
            f"{name:36} {row['ms']:7.3f} ms, {row['processor_ms']:7.3f} ms of the processor,"
            f" {row['share']:6.1%}"
        )
    if args.out:
        result = {
            "table": args.file.stem,
            "steps": args.steps,
            "repeats": args.repeats,
            "parts": found,
            "cores": len(os.sched_getaffinity(0)),
            "jax": metadata.version("jax"),
        }
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
