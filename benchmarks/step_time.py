"""How long is a training step of order 2 and 3, relative to order 1?

    python benchmarks/step_time.py --out step_time.json

One probe, the same network and batch, compiled; the three orders take turns in one process, so
that a drifting machine slows all of them. Reported: the median over repeats of a chunk's time per
step, the median of the ratios within a repeat, and the ratio of floating-point operations that the
compiler counts. Expected from counting operations: 2 and 4.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from scoreode.network import MLP
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE
from scoreode.score import ScoreModel, Velocity
from scoreode.train import Optimiser, Rows, Schedule, TrainState, adam
from scoreode.train.loop import advance

ORDERS = (1, 2, 3)


class Bench:
    """A chunk of training of one order, ready to run."""

    def __init__(self, order: int, d: int, width: int, depth: int, batch: int):
        process = VE()
        network = MLP(width, depth).build((d,), jr.key(0))
        model = ScoreModel(process, Velocity(), network)
        self.optimiser = Optimiser(adam(), Schedule(1e-3), 0.999, batch)
        loss = DenoisingScoreMatching(process, order)
        self.state = TrainState.initial(model, loss, self.optimiser)
        self.sampler = Rows(jr.normal(jr.key(1), (10_000, d)))

    def __call__(self, steps: int) -> float:
        """Seconds a step."""
        started = time.perf_counter()
        self.state, terms = advance(
            self.state,
            jr.key(2),
            jnp.asarray(steps),
            jnp.float32(0.5),
            jnp.float32(0.0),
            self.sampler,
            self.optimiser,
        )
        jax.block_until_ready(terms)
        return (time.perf_counter() - started) / steps

    def flops(self) -> float:
        """Floating-point operations of one loss and gradient, as the compiler counts them."""
        x = self.sampler(jr.key(0), self.optimiser.batch_size)

        def gradient(model: Any) -> Any:
            loss = self.state.loss
            return eqx.filter_grad(lambda model: loss(model, x, jr.key(0), jnp.float32(0.5))[0])(
                model
            )

        dynamic, static = eqx.partition(self.state.model, eqx.is_inexact_array)
        lowered = jax.jit(lambda dynamic: gradient(eqx.combine(dynamic, static))).lower(dynamic)
        return lowered.compile().cost_analysis()["flops"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    benches = {k: Bench(k, args.d, args.width, args.depth, args.batch) for k in ORDERS}
    for bench in benches.values():
        bench(2)
    rounds = [{k: bench(args.steps) for k, bench in benches.items()} for _ in range(args.repeats)]
    flops = {k: bench.flops() for k, bench in benches.items()}
    orders = {
        str(k): {
            "ms_per_step": 1e3 * statistics.median(times[k] for times in rounds),
            "time_ratio": statistics.median(times[k] / times[1] for times in rounds),
            "flop_ratio": flops[k] / flops[1],
        }
        for k in ORDERS
    }
    setting = {name: value for name, value in vars(args).items() if name != "out"}
    result = setting | {
        "orders": orders,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "jax": metadata.version("jax"),
    }
    for order, row in orders.items():
        print(
            f"order {order}: {row['ms_per_step']:.2f} ms a step, {row['time_ratio']:.2f}x the time"
            f" and {row['flop_ratio']:.2f}x the operations of order 1"
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
