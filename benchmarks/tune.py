"""Which settings of training give the best test NLL, paired over rows, on several tables and seeds?

    python benchmarks/tune.py DATA_DIR --tables kin40k,protein --seeds 0,1,2 --steps 3000 \\
        --variants '{"default": {}, "large": {"batch_size": 512}}' --out tune.json

Every table is DATA_DIR/NAME.npz with x_train, x_val and x_test; `checkerboard` and the package's
other toys go by their names. A variant is a dictionary of the arguments of
`scoreode.model.defaults.for_table`.
Reported: the mean of −log p over test rows in nats (of toys: the KL divergence) with its standard
error, the training rows' beside it, steps, seconds; and against the first variant the mean
difference over the same rows, with its standard error. Each result is appended to --out.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import Dataset, sources
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.network import MLP
from scoreode.train.trainer import fit

TRAIN_ROWS = 1000


def load(folder: Path, table: str, rows: int) -> tuple[Dataset, np.ndarray, float]:
    """The data set, its test rows, and its entropy; 0 where nobody knows it."""
    if table in sources.TOYS:
        data = sources.load_data(table)
        return data, data.test[:rows], float(sources.TOYS[table].entropy)
    data = sources.load_data(str(folder / f"{table}.npz"))
    return data, data.test[:rows], 0.0


def measure(args: argparse.Namespace, table: str, seed: int, options: dict[str, Any]) -> tuple:
    """The figures of one fit, and log p of the test rows, plus the entropy where it is known."""
    data, test, entropy = load(args.folder, table, args.rows)
    train = data.train[:TRAIN_ROWS] if data.sampler is None else test
    budget = {"seconds": args.seconds} if args.seconds else {"steps": args.steps}
    settings = {"order": args.order, "process": PROCESSES["ve"], "seed": seed, **budget, **options}
    if isinstance(settings.get("network"), dict):
        settings["network"] = MLP(**settings["network"])
    n = len(data.train) if data.sampler is None else 10**6
    curve: list[tuple[int, float]] = []

    def observe(report: Any, nats: float | None) -> None:
        if nats is not None:
            curve.append((report.step, round(nats, 4)))

    run = for_table(n, test.shape[1], **settings)
    started = time.perf_counter()
    fitted = fit(run, data, observe=observe)
    seconds = time.perf_counter() - started
    nats = np.asarray(fitted.density.log_likelihood(test).nats) + entropy
    seen = np.asarray(fitted.density.log_likelihood(train).nats)
    figures = {
        "nll": float(-np.mean(nats)),
        "stderr": float(np.std(nats, ddof=1) / np.sqrt(len(nats))),
        "train_nll": float(-np.mean(seen)),
        "steps": fitted.steps,
        "seconds": seconds,
        "trained_seconds": fitted.seconds,
        "validation": fitted.validation_nats,
        "curve": curve,
    }
    return figures, nats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default="kin40k")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--order", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rows", type=int, default=2000, help="test rows")
    parser.add_argument("--variants", type=json.loads, default={"default": {}})
    parser.add_argument("--out", type=Path, default=Path("tune.json"))
    args = parser.parse_args()
    for table in args.tables.split(","):
        for seed in map(int, args.seeds.split(",")):
            first = None
            for name, options in args.variants.items():
                figures, nats = measure(args, table, seed, options)
                first = nats if first is None else first
                gain = nats - first
                record = {
                    "table": table,
                    "seed": seed,
                    "order": args.order,
                    "variant": name,
                    "options": options,
                    **figures,
                    "gain": float(np.mean(gain)),
                    "gain_stderr": float(np.std(gain, ddof=1) / np.sqrt(len(gain))),
                }
                with args.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                shown = {k: v for k, v in record.items() if k not in ("options", "curve")}
                print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
