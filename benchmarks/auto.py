"""What does `order="auto"` gain or lose against order 1 in equal seconds?

    python benchmarks/auto.py run kin40k --order auto --seed 0 --data-dir DATA_DIR --out FOLDER
    python benchmarks/auto.py run checkerboard --order 3 --label early --out FOLDER \\
        --late '{"lambda1": [0.2, 0.5, 0.55], "lambda2": [0.02, 0.5, 0.55], "every": 4}'
    python benchmarks/auto.py summarise FOLDER --json auto.json

`run` trains one model with the defaults of `fit --seconds`; a file in FOLDER then has the exact
NLL of every test row. The data are those of `orders.py`: DATA_DIR/NAME.npz, toys and digits by
name. Fits whose file is there are not repeated. Seconds include compilation, as for a user.
`--late` replaces settings of the objective; a coefficient is its value, and the shares of the
budget from which it rises and is whole.

`summarise` pairs each with order 1 over test rows, a seed at a time: the gain in nats a row with
its standard error over rows, the mean over seeds with its standard error over seeds, the KL of toys
(paired with log q_0 of the rows where it is known, else NLL − H; of the mixture by quadrature, with
∫ℓ_Fisher dt), and which order acted.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
import scipy.stats
from orders import ENDLESS, load, network_of, shape_of

from scoreode.calculus import Basis
from scoreode.data import Dataset
from scoreode.data.sources import TOYS
from scoreode.data.toy import AbstractMixture, Checkerboard
from scoreode.evaluate.truth import oracle_of
from scoreode.flow import Refined
from scoreode.model.config import AUTO, PROCESSES, Run
from scoreode.model.defaults import for_table
from scoreode.model.fitted import Fitted
from scoreode.objective import Ramp
from scoreode.theory import Estimate, integrals
from scoreode.train.trainer import fit

LAMBDAS = ("lambda1", "lambda1_trace", "lambda2")
DIVERGENCES = ("quadrature", "fisher")


def run_of(args: argparse.Namespace, data: Dataset) -> Run:
    n = ENDLESS if data.sampler is not None else len(data.train)
    order = AUTO if args.order == AUTO else int(args.order)
    late = json.loads(args.late)
    late |= {name: Ramp(*late[name]) for name in LAMBDAS if name in late}
    late |= {"probe": Basis()} if late.pop("exact", False) else {}
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
    return replace(run, flip=False, objective=replace(run.objective, **late))


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    label = args.label or args.order
    file = args.out / f"{args.problem}-{args.seed}-{label}.npz"
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
    known |= {"label": label, "late": json.loads(args.late)}
    known |= {"steps": fitted.steps, "seconds": fitted.seconds, "budget": args.seconds}
    known |= divergences(fitted) if args.problem == "mixture" else {}
    np.savez(file, nats=nats, truth=truth(args.problem, test), record=json.dumps(known))
    print(f"{np.nanmean(-nats):.4f}", known, flush=True)


def truth(problem: str, rows: np.ndarray) -> np.ndarray:
    """log q_0 of a toy's rows in nats; NaN where there is no closed form."""
    toy = TOYS.get(problem)
    if isinstance(toy, Checkerboard):
        return np.full(len(rows), -toy.entropy)
    if not isinstance(toy, AbstractMixture):
        return np.full(len(rows), np.nan)
    normal = scipy.stats.multivariate_normal
    parts = [w * normal(m, c).pdf(rows) for w, m, c in zip(*toy.components(), strict=True)]
    return np.log(np.sum(parts, axis=0))


def divergences(fitted: Fitted) -> dict[str, float]:
    """KL(q_0 ‖ p_0) on a grid, which no sample of rows resolves, and ∫ℓ_Fisher dt, in nats."""
    rows = np.linspace(-2, 2, 8193)[:, None]
    log_q, log_p = truth("mixture", rows), fitted.density.log_likelihood(rows).nats
    J = integrals(oracle_of(fitted), fitted.density.score_model, jr.key(0), 4096)
    kl = np.trapezoid(np.exp(log_q) * (log_q - log_p), rows[:, 0])
    return {"quadrature": float(kl), "fisher": float(J.Fisher.value)}


def summarise(args: argparse.Namespace) -> None:
    files = [file for file in sorted(args.folder.glob("*.npz")) if file != partner(file)]
    pairs = [pair(file) for file in files if partner(file).exists()]
    kinds = sorted({(found["problem"], found["label"]) for found in pairs})
    summary = [
        over_seeds([p for p in pairs if (p["problem"], p["label"]) == kind]) for kind in kinds
    ]
    for record in summary:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()})
    if args.json:
        args.json.write_text(json.dumps({"problems": summary, "seeds": pairs}, indent=1) + "\n")


def partner(file: Path) -> Path:
    """The file of order 1 for the same problem and seed."""
    problem, seed, _ = file.stem.split("-", 2)
    return file.with_name(f"{problem}-{seed}-1.npz")


def pair(file: Path) -> dict[str, Any]:
    """A seed's NLL under both orders, in nats, and their difference over the same rows."""
    auto, one = np.load(file), np.load(partner(file))
    known, control = (json.loads(str(f["record"])) for f in (auto, one))
    rows = np.isfinite(auto["nats"]) & np.isfinite(one["nats"])
    gain = Estimate.from_samples(auto["nats"][rows] - one["nats"][rows])
    known |= {f"{name}_order_1": control[name] for name in DIVERGENCES if name in control}
    known |= kl(auto["truth"][rows], {"kl": auto["nats"][rows], "kl_order_1": one["nats"][rows]})
    return known | {
        "nll": float(np.mean(-auto["nats"][rows])),
        "nll_order_1": float(np.mean(-one["nats"][rows])),
        "steps_order_1": control["steps"],
        "gain": float(gain.value),
        "gain_stderr": float(gain.stderr),
        "unconverged": int(np.sum(~rows)),
    }


def kl(truth: np.ndarray, nats: dict[str, np.ndarray]) -> dict[str, float]:
    """KL(q_0 ‖ p_0) of each model over the same rows, where q_0 is known."""
    if np.isnan(truth).any():
        return {}
    found = {name: Estimate.from_samples(truth - values) for name, values in nats.items()}
    return {name: float(f.value) for name, f in found.items()} | {
        f"{name}_stderr": float(f.stderr) for name, f in found.items()
    }


def over_seeds(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean gain of a problem, and its KL where the entropy is known."""
    problem, gains = pairs[0]["problem"], np.array([p["gain"] for p in pairs])
    nll, order_1 = (float(np.mean([p[name] for p in pairs])) for name in ("nll", "nll_order_1"))
    found = {
        "problem": problem,
        "label": pairs[0]["label"],
        "seeds": len(pairs),
        "acted": [p["acted"] for p in pairs],
    }
    found |= {"nll": nll, "nll_order_1": order_1, "gain": float(np.mean(gains))}
    # Of two sources the larger: rows are the same for all seeds, and seeds differ in training.
    rows = float(np.mean([p["gain_stderr"] for p in pairs]))
    seeds = float(np.std(gains, ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else 0.0
    found["gain_stderr"] = max(rows, seeds)
    if "kl" in pairs[0]:
        for name in ("kl", "kl_order_1", "kl_stderr", "kl_order_1_stderr"):
            found[name] = float(np.mean([p[name] for p in pairs]))
    for name in (f"{name}{order}" for name in DIVERGENCES for order in ("", "_order_1")):
        if name in pairs[0]:
            found[name] = float(np.mean([p[name] for p in pairs]))
    if problem in TOYS and "kl" not in found:
        entropy = TOYS[problem].entropy
        found |= {"kl": nll - entropy, "kl_order_1": order_1 - entropy}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("problem")
    one.add_argument("--order", choices=(AUTO, "1", "2", "3"), default=AUTO)
    one.add_argument("--label", help="of the setting, in the files' names; by default the order")
    one.add_argument("--late", default="{}", help="settings of the objective, as JSON")
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
