"""What do orders 2 and 3 bring on real images, after the same pre-training by order 1?

    python benchmarks/orders_on_images.py mnist --data-dir sets --out runs/orders --seconds 360

The paper's design: one model trained by order 1, and fine-tuned from its weights
by order 1 (the control), 2 and 3 for equal steps, and by order 1 for as long as order 3 took.
Reported: bits/dim on test images with its standard error over images, and the differences to the
control, in which images and noise are the same, with theirs. Writes every run and result.json.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import sources
from scoreode.evaluate import table
from scoreode.model.config import Run
from scoreode.model.fitted import Fitted
from scoreode.network import UNet
from scoreode.objective import DenoisingScoreMatching, Ramp
from scoreode.process import VE
from scoreode.reproduce.orders import ORDERS, train
from scoreode.train import RunFolder, saved

PROBES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=("mnist", "fashion-mnist", "cifar10", "imagenet32"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seconds", type=float, default=3600.0, help="of pre-training")
    parser.add_argument("--steps", type=int, default=1000, help="of fine-tuning")
    parser.add_argument("--rows", type=int, default=64, help="of the test part")
    parser.add_argument("--lambda1", type=float, default=1.0, help="of order 2")
    parser.add_argument("--lambda2", type=float, default=1.0, help="of order 3")
    parser.add_argument("--start", type=Path, help="a run of order 1, in place of pre-training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = sources.load_data(args.data, args.seed, 0.0, args.data_dir)
    chosen = np.random.default_rng(args.seed).permutation(len(data.test))[: args.rows]
    folder, test = RunFolder.create(args.out), data.test[chosen]

    before = run_of(args, data.image_shape, 1)
    if args.start is None:
        first = train(folder, "pre-trained", replace(before, seconds=args.seconds), data)
    else:
        first = saved.load(args.start)
    found = {"pre-trained": measure(first, test)}
    gentle = args.learning_rate / 4
    for order in ORDERS:
        run = replace(run_of(args, data.image_shape, order), learning_rate=gentle, steps=args.steps)
        fitted = train(folder, f"order-{order}", run, data, first.density)
        found[f"order {order}"] = measure(fitted, test)
    run = replace(before, learning_rate=gentle, seconds=fitted.seconds)
    longer = train(folder, "order-1-longer", run, data, first.density)
    found["order 1, as long as order 3"] = measure(longer, test)
    report(args, found)


def run_of(args: argparse.Namespace, shape: Any, order: int) -> Run:
    """Without a budget."""
    return Run(
        DenoisingScoreMatching(VE(0.01, 10.0), order, Ramp(args.lambda1), Ramp(args.lambda2)),
        network=UNet(tuple(shape), args.width),
        standardise="centre",
        batch_size=args.batch,
        learning_rate=args.learning_rate,
        flip=args.data in ("cifar10", "imagenet32"),
        seed=args.seed,
    )


def measure(fitted: Fitted, test: np.ndarray) -> dict[str, Any]:
    """Bits/dim of every image, and what training took."""
    records = table.as_records(fitted.log_likelihood(test, n_probes=PROBES))
    bits = fitted.bits_per_dim(records["nats"])
    assert bits is not None  # pixels are bytes
    return {"bits": bits.tolist(), "steps": fitted.steps, "seconds": fitted.seconds}


def report(args: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    """Prints the table, and writes it."""
    control = np.array(found["order 1"]["bits"])
    rows = {}
    for name, result in found.items():
        bits = np.array(result.pop("bits"))
        difference = bits - control
        rows[name] = result | {
            "bits_per_dim": [bits.mean(), stderr(bits)],
            "less_control": [difference.mean(), stderr(difference)],
        }
        print(
            f"{name:28} {bits.mean():.4f} ± {stderr(bits):.4f} bits/dim,"
            f" {difference.mean():+.4f} ± {stderr(difference):.4f} of the control,"
            f" {result['steps']} steps in {result['seconds']:.0f} s"
        )
    setting = {name: str(value) for name, value in vars(args).items()}
    content = {"setting": setting, "cores": os.cpu_count(), "rows": rows}
    (args.out / "result.json").write_text(json.dumps(content, indent=1) + "\n")


def stderr(values: np.ndarray) -> float:
    """Of the mean."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


if __name__ == "__main__":
    main()
