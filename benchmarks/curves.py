"""What does a second of training buy? The test NLL of default fits, by their budget in seconds.

    taskset -c 0 python benchmarks/curves.py run DATA_DIR FOLDER --label now --tables kin40k,power
    taskset -c 1 env PYTHONPATH=OLD_CHECKOUT python benchmarks/curves.py run DATA_DIR FOLDER \\
        --label before --tables kin40k,power
    python benchmarks/curves.py compare FOLDER --out curves.json --figure curves.png

`run` trains `ScoreODE(seconds=…)` on DATA_DIR/NAME.npz (x_train, x_test) for every budget and seed,
after a short fit that compiles, and leaves a file a fit in FOLDER. Fits whose file is there are not
repeated. `compare` pairs two labels over test rows: the NLL in nats of both with standard errors,
their difference with its own, and steps a second.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.theory import Estimate


def run(args: argparse.Namespace) -> None:
    from scoreode import ScoreODE  # of the checkout that PYTHONPATH names

    args.results.mkdir(parents=True, exist_ok=True)
    for table in args.tables.split(","):
        with np.load(args.folder / f"{table}.npz") as file:
            train, test = file["x_train"], file["x_test"][: args.rows]
        ScoreODE(seconds=args.warm_up, random_state=0).fit(train).score_samples(test)
        for seed in map(int, args.seeds.split(",")):
            for seconds in map(float, args.budgets.split(",")):
                path = args.results / f"{table}-{seconds:g}-{seed}-{args.label}.npz"
                if path.exists():
                    continue
                started = time.perf_counter()
                model = ScoreODE(seconds=seconds, random_state=seed).fit(train)
                spent = time.perf_counter() - started
                nats = np.asarray(model.score_samples(test))
                steps = model.fitted_.steps
                np.savez(path, nats=nats, steps=steps, spent=spent)
                print(path.stem, f"{-nats.mean():.4f}", steps, f"{spent:.1f} s", flush=True)


def compare(args: argparse.Namespace) -> None:
    records = [record(path, args) for path in sorted(args.results.glob(f"*-{args.new}.npz"))]
    records.sort(key=lambda r: (r["table"], r["seconds"], r["seed"]))
    args.out.write_text(json.dumps(records, indent=1) + "\n")
    for r in records:
        print({name: round(v, 4) if isinstance(v, float) else v for name, v in r.items()})
    if args.figure:
        draw(records, args)


def record(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of a fit beside those of the other label's, over the same rows."""
    table, seconds, seed, _ = path.stem.rsplit("-", 3)
    found: dict[str, Any] = {"table": table, "seconds": float(seconds), "seed": int(seed)}
    new, old = np.load(path), path.with_name(f"{table}-{seconds}-{seed}-{args.old}.npz")
    for label, file in ((args.new, new), (args.old, np.load(old) if old.exists() else None)):
        if file is not None:
            nats, steps = file["nats"], int(file["steps"])
            found[f"nll_{label}"], found[f"stderr_{label}"] = mean(-nats)
            found[f"steps_{label}"] = steps
            if lost := int(np.sum(~np.isfinite(nats))):
                found[f"unconverged_{label}"] = lost
            found[f"steps_per_second_{label}"] = steps / float(file["spent"])
    if old.exists():
        found["gain"], found["gain_stderr"] = mean(new["nats"] - np.load(old)["nats"])
    return found


def mean(values: np.ndarray) -> tuple[float, float]:
    """Over rows that converged, and its standard error."""
    found = Estimate.from_samples(values[np.isfinite(values)])
    return float(found.value), float(found.stderr)


def draw(records: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """One panel a table: NLL against seconds, a line a label, a point a seed."""
    import matplotlib.pyplot as plt

    tables = sorted({r["table"] for r in records})
    figure, axes = plt.subplots(1, len(tables), figsize=(3.2 * len(tables), 2.8), squeeze=False)
    for axis, table in zip(axes[0], tables, strict=True):
        rows = [r for r in records if r["table"] == table]
        for label, colour in ((args.old, "0.6"), (args.new, "C0")):
            points = [(r["seconds"], r[f"nll_{label}"]) for r in rows if f"nll_{label}" in r]
            budgets = sorted({seconds for seconds, _ in points})
            means = [np.mean([nll for s, nll in points if s == budget]) for budget in budgets]
            axis.plot(budgets, means, "-", color=colour, label=label)
            axis.plot(*zip(*points, strict=True), "o", color=colour, markersize=3)
        axis.set(xscale="log", title=table, xlabel="seconds of training")
        budgets = sorted({r["seconds"] for r in rows})
        axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets], minor=False)
        axis.set_xticks([], minor=True)
    axes[0, 0].set_ylabel("test NLL (nats)")
    axes[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(args.figure, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("folder", type=Path)
    one.add_argument("results", type=Path)
    one.add_argument("--label", default="now")
    one.add_argument("--tables", default="kin40k")
    one.add_argument("--seeds", default="0")
    one.add_argument("--budgets", default="10,30,100,300")
    one.add_argument("--rows", type=int, default=2000, help="test rows")
    one.add_argument("--warm-up", type=float, default=15.0, help="seconds of a fit that compiles")
    one.set_defaults(call=run)
    two = commands.add_parser("compare")
    two.add_argument("results", type=Path)
    two.add_argument("--new", default="now")
    two.add_argument("--old", default="before")
    two.add_argument("--out", type=Path, default=Path("curves.json"))
    two.add_argument("--figure", type=Path)
    two.set_defaults(call=compare)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
