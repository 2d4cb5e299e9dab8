"""How long is a training step of order 2 and 3, relative to order 1?

    python benchmarks/step_time.py --out step_time.json
    python benchmarks/step_time.py --network ncsnpp --width 32 --depth 1 --batch 8 --steps 1
    python benchmarks/step_time.py --network ncsnpp --width 16 --depth 1 --batch 4 --steps 1 \
        --repeats 5 --orders 1 3 --recompute
    python benchmarks/step_time.py --reference 1024

One probe, the same network and batch, compiled; the three orders take turns in one process, so
that a drifting machine slows all of them. Reported: the median over repeats of a chunk's time per
step, the median of the ratios within a repeat, and the ratios of floating-point operations and of
memory for intermediate results that the compiler counts. Expected from counting operations: 2 and
4. Networks for images see 32 × 32 pixels of three colours. With `--reference` each order also takes
turns with quiet targets over so many rows; reported is the median of their ratio. With
`--recompute` each order also takes turns with NCSN++ that computes again for gradients; reported
are the ratio to its own time without, and to the memory of order 1 without.
"""

import argparse
import json
import math
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

from scoreode.network import MLP, NCSNpp, UNet
from scoreode.objective import Antithetic, DenoisingScoreMatching, PosteriorMean
from scoreode.process import VE
from scoreode.score import ScoreModel, Velocity
from scoreode.train import Optimiser, Rows, Schedule, TrainState, adam, devices
from scoreode.train.loop import advance
from scoreode.train.samplers import WithReference

ORDERS = (1, 2, 3)
IMAGE = (32, 32, 3)


class Bench:
    """A chunk of training of one order, ready to run."""

    def __init__(
        self, order: int, spec: MLP | UNet | NCSNpp, d: int, batch: int, reference: int = 0
    ):
        process = VE()
        model = ScoreModel(process, Velocity(), spec.build((d,), jr.key(0)))
        self.optimiser = Optimiser(adam(), Schedule(1e-3), 0.999, batch)
        quiet = {"targets": PosteriorMean(reference), "noise": Antithetic()} if reference else {}
        loss = DenoisingScoreMatching(process, order, **quiet)
        self.state = TrainState.initial(model, loss, self.optimiser)
        rows = Rows(jr.normal(jr.key(1), (32_000, d)))
        self.sampler = WithReference(rows, reference) if reference else rows
        self.mesh = devices.all_devices()

    def __call__(self, steps: int) -> float:
        """Seconds a step."""
        started = time.perf_counter()
        self.state, terms, _ = advance(
            self.state,
            jr.key(2),
            jnp.asarray(steps),
            jnp.float32(0.5),
            jnp.float32(0.0),
            jnp.float32(1.0),
            self.sampler,
            self.optimiser,
            self.mesh,
        )
        jax.block_until_ready(terms)
        return (time.perf_counter() - started) / steps

    def count(self) -> tuple[float, float]:
        """Operations of one loss and gradient, and bytes of their intermediate results."""
        x = self.sampler(jr.key(0), self.optimiser.batch_size)

        def gradient(model: Any) -> Any:
            loss = self.state.loss
            return eqx.filter_grad(lambda model: loss(model, x, jr.key(0), jnp.float32(0.5))[0])(
                model
            )

        dynamic, static = eqx.partition(self.state.model, eqx.is_inexact_array)
        lowered = jax.jit(lambda dynamic: gradient(eqx.combine(dynamic, static))).lower(dynamic)
        compiled = lowered.compile()
        return (
            compiled.cost_analysis()["flops"],
            float(compiled.memory_analysis().temp_size_in_bytes),
        )


def network(
    args: argparse.Namespace, *, recompute: bool = False
) -> tuple[MLP | UNet | NCSNpp, int]:
    """The specification, and the dimension of its examples."""
    if args.network == "mlp":
        return MLP(args.width, args.depth), args.d
    kind = {"unet": UNet, "ncsnpp": NCSNpp}[args.network]
    more = {"recompute": True} if recompute else {}
    return kind(IMAGE, args.width, depth=args.depth, **more), math.prod(IMAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=("mlp", "unet", "ncsnpp"), default="mlp")
    parser.add_argument("--recompute", action="store_true", help="of NCSN++")
    parser.add_argument("--orders", type=int, nargs="+", choices=ORDERS, default=ORDERS)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--d", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--reference", type=int, default=0, help="rows of quiet targets")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    chosen = sorted({1, *args.orders})
    benches: dict[Any, Bench] = {k: Bench(k, *network(args), args.batch) for k in chosen}
    if args.recompute:
        light = network(args, recompute=True)
        benches |= {(k, "recompute"): Bench(k, *light, args.batch) for k in chosen}
    counted = list(benches)
    if args.reference:
        quiet = {(k, "quiet"): Bench(k, *network(args), args.batch, args.reference) for k in chosen}
        benches |= quiet
    for bench in benches.values():
        bench(1)
    rounds = [{k: bench(args.steps) for k, bench in benches.items()} for _ in range(args.repeats)]
    counts = {k: benches[k].count() for k in counted}
    orders = {
        str(k): {
            "ms_per_step": 1e3 * statistics.median(times[k] for times in rounds),
            "time_ratio": statistics.median(times[k] / times[1] for times in rounds),
            "flop_ratio": counts[k][0] / counts[1][0],
            "memory_mib": counts[k][1] / 2**20,
            "memory_ratio": counts[k][1] / counts[1][1],
        }
        for k in chosen
    }
    if args.reference:
        for k in chosen:
            ratio = statistics.median(times[k, "quiet"] / times[k] for times in rounds)
            orders[str(k)]["quiet_ratio"] = ratio
            print(f"order {k}: quiet targets take {ratio:.3f}x the time")
    if args.recompute:
        for k in chosen:
            time_ratio = statistics.median(times[k, "recompute"] / times[k] for times in rounds)
            memory_ratio = counts[k, "recompute"][1] / counts[1][1]
            orders[str(k)] |= {
                "recompute_time_ratio": time_ratio,
                "recompute_memory_ratio": memory_ratio,
            }
            print(
                f"order {k}, computed again: {time_ratio:.2f}x its own time and"
                f" {memory_ratio:.2f}x the memory of order 1"
            )
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
            f"order {order}: {row['ms_per_step']:.2f} ms a step, {row['time_ratio']:.2f}x the time,"
            f" {row['flop_ratio']:.2f}x the operations and {row['memory_ratio']:.2f}x the memory"
            f" ({row['memory_mib']:.0f} MiB) of order 1"
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
