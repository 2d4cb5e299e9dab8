"""What test NLL do density estimators reach on tables in the same training time?

    pip install -r benchmarks/requirements.txt
    pip install --no-deps -r benchmarks/requirements-alone.txt
    python benchmarks/tables.py run kin40k protein --data-dir DATA_DIR --seconds 300 \\
        --methods scoreode "flow matching" --seeds 0,1,2 --out FOLDER
    python benchmarks/tables.py summarise FOLDER --json tables.json --page docs/peers.md
    python benchmarks/tables.py check --methods "flow matching" --seconds 20

Every table is DATA_DIR/NAME.npz with x_train, x_val and x_test. scoreode is `ScoreODE(seconds=S)`
with all defaults, fitted to the training and the validation rows, of which it holds out a tenth
itself. Peers (`benchmarks/peers`) validate on x_val; those that train by gradients have the same
seconds, the others as long as they need. With `--coordinates scoreode`, the default, they get the
rows in the coordinates that scoreode chooses, by the same code, from the training rows: scaled,
whitened, or bent by power transforms and whitened. Its Jacobian is in their log-densities. With
`--coordinates columns` they get the columns as they are.

On a column of few values a density can be as high as one likes, by narrow peaks. A column with
fewer values than a tenth of its rows gets uniform noise of one step of its grid, the same for all
methods: one of protein's (338 values), two of tamielectric's (20 and 31).

`run` leaves the log-density of every test row in a file for each table, method and seed; those that
are there are not repeated. `summarise` has NLLs in nats with standard errors over rows, and the
gain of scoreode of the same seed over the same rows. `check` fits a Gaussian whose density is
known, and fails if KL or the integral of the density is not what it must be.

On a machine with other work set OMP_WAIT_POLICY=passive: PyTorch's threads spin while they wait.
"""

import argparse
import json
import os
import platform
import textwrap
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import peers
from page import put
from peers import METHODS, Array
from scipy.stats import multivariate_normal, multivariate_t

from scoreode import ScoreODE, __version__
from scoreode.model.config import STANDARDISATIONS
from scoreode.model.standardise import Chain, choose
from scoreode.theory import Estimate

Parts = dict[str, Array]
OURS = "scoreode"
PARTS = ("train", "val", "test")
FEW = 0.1  # of the rows; a column with fewer values than that is on a grid
LAW = multivariate_normal([1.0, -2.0, 0.0], [[1.0, 1.6, 0.0], [1.6, 4.0, 0.3], [0.0, 0.3, 0.25]])
ROWS = {"train": 5000, "val": 1000, "test": 1000}  # of the law
LARGEST_KL = 0.05  # nats; of trees, whose densities are constant in boxes, more
LARGEST_KL_OF = {"unmasking trees": 1.0}
WITHIN = 4  # standard errors


def fit_ours(parts: Parts, seconds: float, seed: int) -> peers.Fit:
    """The default estimator."""
    start = time.perf_counter()
    est = ScoreODE(seconds=seconds, random_state=seed)
    est.fit(np.concatenate([parts["train"], parts["val"]]))
    fitted = est.fitted_
    info = {
        "seconds": fitted.seconds,
        "seconds_with_startup": time.perf_counter() - start,
        "steps": fitted.steps,
        "order": fitted.order,
        "standardise": fitted.run.standardise,
    }

    def log_prob(x: Array) -> Array:
        record = est.log_likelihood(x)
        info["unconverged"] = int(np.sum(~np.asarray(record.converged)))
        return np.asarray(record.nats)

    return peers.Fit(log_prob, info)


def fit_peer(method: str, parts: Parts, args: argparse.Namespace, seed: int) -> peers.Fit:
    """One of the peers, in its coordinates; log-densities are in the columns'."""
    name = coordinates(args.coordinates, parts["train"])
    chain = Chain.fit(STANDARDISATIONS[name] if name else (), parts["train"])
    z_train, z_val = (np.asarray(chain.forward(parts[part])[0]) for part in ("train", "val"))
    fit = peers.estimator(method)(z_train, z_val, args.seconds, seed)

    def log_prob(x: Array) -> Array:
        z, log_det = map(np.asarray, chain.forward(x))
        return fit(z) + log_det

    fit.info["standardise"] = name
    return peers.Fit(log_prob, fit.info)


def coordinates(choice: str, rows: Array) -> str | None:
    """The name of scoreode's standardisation for these rows, or None."""
    families = {name: STANDARDISATIONS[name] for name in ("scale", "whiten", "power")}
    return choose(families, rows) if choice == OURS else None


def fit(method: str, parts: Parts, args: argparse.Namespace, seed: int) -> peers.Fit:
    if method == OURS:
        return fit_ours(parts, args.seconds, seed)
    import torch

    torch.set_num_threads(cores())
    return fit_peer(method, parts, args, seed)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def run(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")  # of values that repeat and lie far out: real tables have some
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in map(int, args.seeds.split(",")):
        for table in args.tables:
            with np.load(args.data_dir / f"{table}.npz") as data:
                parts = {part: data[f"x_{part}"].astype(np.float64) for part in PARTS}
            rng = np.random.default_rng(0)
            # In a random order, as some peers score only the first.
            parts["test"] = rng.permutation(parts["test"])
            off_grid(parts, rng)
            parts["test"] = parts["test"][: args.rows]
            for method in args.methods:
                file = args.out / f"{table}-{seed}-{method.replace(' ', '_')}.npz"
                if not file.exists():
                    save(file, table, method, seed, parts, args)


def off_grid(parts: Parts, rng: np.random.Generator) -> None:
    """Adds uniform noise of one step to columns of few values, in place."""
    for j, column in enumerate(parts["train"].T):
        values = np.unique(column)
        if len(values) < FEW * len(column):
            step = np.median(np.diff(values))
            for x in parts.values():
                x[:, j] += step * rng.uniform(-0.5, 0.5, len(x))


def save(
    file: Path,
    table: str,
    method: str,
    seed: int,
    parts: Parts,
    args: argparse.Namespace,
) -> None:
    """The log-densities of the test rows, and what is known of the fit."""
    installed = versions(method)  # before what takes minutes
    found = fit(method, parts, args, seed)
    start = time.perf_counter()
    nats = found(parts["test"])
    record = {"table": table, "method": method, "seed": seed, "budget": args.seconds}
    record |= {"coordinates": args.coordinates, **found.info}
    record |= {"nll_seconds": time.perf_counter() - start, "cores": cores()}
    record |= {"machine": platform.machine(), "versions": installed}
    np.savez(file, record=json.dumps(record), nats=nats)
    print(f"{table:14} {seed} {method:22} {-np.nanmean(nats):8.4f}", found.info, flush=True)


def versions(method: str) -> dict[str, str]:
    packages = ("jax",) if method == OURS else ("torch", *METHODS[method][1:])
    return {OURS: __version__} | {name: metadata.version(name) for name in packages}


def summarise(args: argparse.Namespace) -> None:
    files = sorted(args.folder.glob("*.npz"))
    arrays = [np.load(file) for file in files]
    nats = [array["nats"] for array in arrays]
    records = [json.loads(str(array["record"])) for array in arrays]
    keys = [(r["table"], r["seed"]) for r in records]
    ours = {key: x for key, r, x in zip(keys, records, nats, strict=True) if r["method"] == OURS}
    records = [r | figures(x, ours.get(key)) for key, r, x in zip(keys, records, nats, strict=True)]
    for r in records:
        gain = f"gain {r['gain']:+8.4f} ± {r['gain_se']:.4f}" if "gain" in r else ""
        nll = f"{r['test_nll']:9.4f} ± {r['test_nll_se']:.4f}"
        print(f"{r['table']:14} {r['seed']} {r['method']:22} {nll} {gain} worst {r['worst']:.1f}")
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")
    if args.page:
        put(args.page, "tables.py", markdown(records))


def figures(nats: Array, ours: Array | None) -> dict[str, Any]:
    """The NLL of the rows that were scored, and scoreode's gain on them."""
    scored = ~np.isnan(nats)
    nll = Estimate.from_samples(-nats[scored])
    found = {"rows": int(scored.sum()), "worst": float(nats[scored].min())}
    found |= {"test_nll": float(nll.value), "test_nll_se": float(nll.stderr)}
    if ours is not None:
        gain = Estimate.from_samples((ours - nats)[scored])
        found |= {"gain": float(gain.value), "gain_se": float(gain.stderr)}
        found["share_of_rows"] = float(np.mean((ours > nats)[scored]))
    return found


def markdown(records: list[dict[str, Any]]) -> str:
    """A row a table and a column a method: scoreode's NLL on all rows, and what that of a peer is
    above it on the rows that the peer scores."""
    tables = list(dict.fromkeys(r["table"] for r in records))
    there = {r["method"] for r in records}
    methods = [method for method in (OURS, *METHODS) if method in there]

    def cell(table: str, method: str) -> str:
        of = [r for r in records if (r["table"], r["method"]) == (table, method)]
        key, sign = ("test_nll", "") if method == OURS else ("gain", "+")
        values = np.array([r[key] for r in of if key in r])
        if not len(values):
            return "–"
        # The rows are the same for all seeds, so their error stays; seeds differ in training.
        rows = np.mean([r[f"{key}_se"] for r in of])
        seeds = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return f"{np.mean(values):{sign}.2f} ± {np.hypot(rows, seeds):.2f}".replace("-", "−")

    names = (f"{OURS}, NLL" if method == OURS else method for method in methods)
    head = f"| table | {' | '.join(names)} |"
    lines = [head, "|---" * (len(methods) + 1) + "|"]
    rows = ([table, *(cell(table, method) for method in methods)] for table in tables)
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", footnote(records, methods)])


def footnote(records: list[dict[str, Any]], methods: list[str]) -> str:
    """Seeds, seconds, cores, steps a second, and versions."""

    def span(values: list[float]) -> str:
        low, high = (f"{f(values):.0f}" for f in (min, max))
        return low if low == high else f"{low} to {high}"

    paces = []
    for method in methods:
        of = [r["steps"] / r["seconds"] for r in records if r["method"] == method and "steps" in r]
        paces += [f"{method} {span(of)}"] if of else []
    seeds = ", ".join(map(str, sorted({r["seed"] for r in records})))
    seconds, cores = (span([r[key] for r in records]) for key in ("budget", "cores"))
    versions = {name: version for r in records for name, version in r["versions"].items()}
    text = (
        f"*Seeds {seeds}; {seconds} seconds of training on {cores} core. Steps a second:"
        f" {', '.join(paces)}. {', '.join(f'{name} {v}' for name, v in versions.items())}.*"
    )
    return textwrap.fill(text, 100, break_on_hyphens=False)


def check(args: argparse.Namespace) -> None:
    """Fits the known Gaussian by every method."""
    rng = np.random.default_rng(0)
    parts = {part: LAW.rvs(n, random_state=rng) for part, n in ROWS.items()}
    wide = multivariate_t(LAW.mean, 2 * LAW.cov, df=3)
    draws = wide.rvs(ROWS["test"], random_state=rng)
    failed = []
    for method in args.methods:
        found = fit(method, parts, args, 0)
        nats, elsewhere = found(parts["test"]), found(draws)
        kl = mean(LAW.logpdf(parts["test"]) - nats)
        mass = mean(np.exp(elsewhere - wide.logpdf(draws)))
        right = kl.value < LARGEST_KL_OF.get(method, LARGEST_KL)
        right &= kl.value > -WITHIN * kl.stderr and abs(mass.value - 1) < WITHIN * mass.stderr
        print(
            f"{method:22} KL {kl}, integral {mass}",
            "" if right else "WRONG",
            found.info,
            flush=True,
        )
        failed += [] if right else [method]
    if failed:
        raise SystemExit(f"not the density of the Gaussian: {', '.join(failed)}")


def mean(values: Array) -> Estimate:
    return Estimate.from_samples(values[~np.isnan(values)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("tables", nargs="+")
    one.add_argument("--data-dir", type=Path, required=True)
    one.add_argument("--seeds", default="0")
    one.add_argument("--rows", type=int, help="of the test rows, at most; by default all")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(call=run)
    two = commands.add_parser("summarise")
    two.add_argument("folder", type=Path)
    two.add_argument("--json", type=Path)
    two.add_argument("--page", type=Path, help="where the table is put")
    two.set_defaults(call=summarise)
    three = commands.add_parser("check")
    three.set_defaults(call=check)
    for command in (one, three):
        command.add_argument("--methods", nargs="+", choices=[OURS, *METHODS], default=[*METHODS])
        command.add_argument("--seconds", type=float, default=300.0)
        command.add_argument("--coordinates", choices=(OURS, "columns"), default=OURS)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
