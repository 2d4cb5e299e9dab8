"""What does `order="auto"` gain or lose against order 1 in equal seconds?

    python benchmarks/auto.py run kin40k --order auto --seed 0 --data-dir DATA_DIR --out FOLDER
    python benchmarks/auto.py summarise FOLDER --json auto.json

`run` trains one model with the defaults of `fit --seconds`; a file in FOLDER then has the exact
NLL of every test row. The data are those of `orders.py`: DATA_DIR/NAME.npz, toys and digits by
name. Fits whose file is there are not repeated. Seconds include compilation, as for a user.

`summarise` pairs both orders over test rows, a seed at a time: the gain of auto in nats a row with
its standard error over rows, the mean over seeds with its standard error over seeds, the KL of toys
whose entropy is known, and which order acted.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from orders import ENDLESS, load, network_of, shape_of

from scoreode.data import Dataset
from scoreode.data.sources import TOYS
from scoreode.flow import Refined
from scoreode.model.config import AUTO, PROCESSES, Run
from scoreode.model.defaults import for_table
from scoreode.theory import Estimate
from scoreode.train.trainer import fit


def run_of(args: argparse.Namespace, data: Dataset) -> Run:
    n = ENDLESS if data.sampler is not None else len(data.train)
    order = AUTO if args.order == AUTO else int(args.order)
    run = for_table(
        n,
        len(data.columns),
        order=order,
        process=PROCESSES["ve"],
        network=network_of(args, data),
        image_shape=shape_of(data),
        seconds=args.seconds,
        seed=args.seed,
    )
    return replace(run, flip=False)


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"{args.problem}-{args.seed}-{args.order}.npz"
    if file.exists():
        return
    data = load(args.problem, args.data_dir)
    fitted = fit(run_of(args, data), data)
    most = max(args.values // len(data.columns), 256)
    test = data.test[np.random.default_rng(0).permutation(len(data.test))[: min(args.rows, most)]]
    noise = fitted.dequantisation
    test = test if noise is None else noise.dequantise(test, 0)
    record = fitted.density.log_likelihood(test, 0, Refined(0.05, n_probes=4))
    nats = np.where(record.converged, record.nats, np.nan)
    known = {"problem": args.problem, "seed": args.seed, "order": args.order, "acted": fitted.order}
    known |= {"steps": fitted.steps, "seconds": fitted.seconds, "budget": args.seconds}
    np.savez(file, nats=nats, record=json.dumps(known))
    print(f"{np.nanmean(-nats):.4f}", known, flush=True)


def summarise(args: argparse.Namespace) -> None:
    files = sorted(args.folder.glob(f"*-{AUTO}.npz"))
    pairs = [pair(file) for file in files if partner(file).exists()]
    problems = sorted({found["problem"] for found in pairs})
    summary = [over_seeds([p for p in pairs if p["problem"] == problem]) for problem in problems]
    for record in summary:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()})
    if args.json:
        args.json.write_text(json.dumps({"problems": summary, "seeds": pairs}, indent=1) + "\n")


def partner(file: Path) -> Path:
    """The file of order 1 beside that of auto."""
    return file.with_name(file.name.replace(f"-{AUTO}.npz", "-1.npz"))


def pair(file: Path) -> dict[str, Any]:
    """A seed's NLL under both orders, in nats, and their difference over the same rows."""
    auto, one = np.load(file), np.load(partner(file))
    known, control = (json.loads(str(f["record"])) for f in (auto, one))
    rows = np.isfinite(auto["nats"]) & np.isfinite(one["nats"])
    gain = Estimate.from_samples(auto["nats"][rows] - one["nats"][rows])
    return known | {
        "nll": float(np.mean(-auto["nats"][rows])),
        "nll_order_1": float(np.mean(-one["nats"][rows])),
        "steps_order_1": control["steps"],
        "gain": float(gain.value),
        "gain_stderr": float(gain.stderr),
        "unconverged": int(np.sum(~rows)),
    }


def over_seeds(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean gain of a problem, and its KL where the entropy is known."""
    problem, gains = pairs[0]["problem"], np.array([p["gain"] for p in pairs])
    nll, order_1 = (float(np.mean([p[name] for p in pairs])) for name in ("nll", "nll_order_1"))
    found = {"problem": problem, "seeds": len(pairs), "acted": [p["acted"] for p in pairs]}
    found |= {"nll": nll, "nll_order_1": order_1, "gain": float(np.mean(gains))}
    # Of two sources the larger: rows are the same for all seeds, and seeds differ in training.
    rows = float(np.mean([p["gain_stderr"] for p in pairs]))
    seeds = float(np.std(gains, ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else 0.0
    found["gain_stderr"] = max(rows, seeds)
    if problem in TOYS:
        entropy = TOYS[problem].entropy
        found |= {"kl": nll - entropy, "kl_order_1": order_1 - entropy}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("problem")
    one.add_argument("--order", choices=(AUTO, "1"), default=AUTO)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--seconds", type=float, default=150.0)
    one.add_argument("--data-dir", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--network", choices=("unet", "ncsnpp"), default="unet", help="of images")
    one.add_argument("--width", type=int, default=16, help="of images' network")
    one.add_argument("--rows", type=int, default=2000, help="test rows, at most")
    one.add_argument("--values", type=int, default=50_000, help="of test rows, but 256 rows")
    one.set_defaults(call=run)
    two = commands.add_parser("summarise")
    two.add_argument("folder", type=Path)
    two.add_argument("--json", type=Path)
    two.set_defaults(call=summarise)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
