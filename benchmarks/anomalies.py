"""Which score of a fitted density finds anomalies best, and do simple detectors find more?

    pip install -r benchmarks/requirements.txt
    python benchmarks/anomalies.py scores DATA FOLDER --processes 16
    python benchmarks/anomalies.py peers DATA FOLDER
    python benchmarks/anomalies.py limits DATA --sets glass,vowels
    python benchmarks/anomalies.py summarise FOLDER --json anomalies.json

DATA holds files NAME.npz with arrays X and y, where y = 1 is an anomaly, such as those of ADBench.
Half of the normal rows train; the other half and the anomalies are ranked by every score, larger
for what is more anomalous. `scores` and `peers` leave the scores of all rows in FOLDER, in one file
for a data set, a seed and a fit, and go on where they were stopped. `scores` needs no other
detector, and `peers` no JAX. `limits` adds columns of noise, and anomalies to the training rows.
`summarise` has the areas under the ROC curves (AUROC), and their means.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
from anomaly_detectors import Rows, Scores, detectors, smooth

FITS = ("default", "whiten", "scale")  # how columns are standardised
_TESTED = 1500  # rows of each kind, at most
_REFERENCE = 256  # training rows that are ranked, too


def split(file: Path, seed: int, most: int) -> tuple[Rows, Rows, np.ndarray]:
    """Normal rows to train on, rows to rank, and which of those are anomalies.

    At most so many rows are trained on, and 1500 of each kind are ranked. Columns that are constant
    in training are left out.
    """
    arrays, rng = np.load(file), np.random.default_rng(seed)
    x, y = arrays["X"].astype(np.float64), arrays["y"] != 0
    normal, odd = rng.permutation(np.flatnonzero(~y)), rng.permutation(np.flatnonzero(y))
    train, rest = x[normal[: len(normal) // 2][:most]], normal[len(normal) // 2 :]
    varied = np.ptp(train, axis=0) > 0
    tested = np.concatenate([rest[:_TESTED], odd[:_TESTED]])
    return train[:, varied], x[tested][:, varied], y[tested]


# --- Scores of a fitted ScoreODE ---------------------------------------------------------------


def run_scores(args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.processes > 1:
        return run_processes(args)
    began = time.perf_counter()
    for fit in args.fits.split(","):
        for file, seed in work(args):
            target = args.folder / f"{file.stem}-{seed}-{fit}.npz"
            if target.exists() or time.perf_counter() - began > args.limit:
                continue
            train, test, y = split(file, seed, args.rows)
            found, record = scores_of_fit(train, test, fit, seed, args.steps)
            write(target, y, found, record)
    return None


def run_processes(args: argparse.Namespace) -> None:
    """One data set after another on every core of its own, the largest first."""
    cores: Queue[int] = Queue()
    available = sorted(os.sched_getaffinity(0))
    for i in range(args.processes):
        cores.put(available[i % len(available)])

    def run(name: str) -> None:
        core = cores.get()
        options = {"fits": args.fits, "seeds": args.seeds, "rows": args.rows, "sets": name}
        options |= {"steps": args.steps, "limit": args.limit}
        flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        command = [sys.executable, __file__, "scores", str(args.data), str(args.folder), *flags]
        # Before NumPy and JAX count the cores.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        subprocess.run(["taskset", "-c", str(core), *command], env=environment, check=False)
        cores.put(core)

    names = [file.stem for file in sorted(files(args), key=lambda file: -np.load(file)["X"].size)]
    with ThreadPoolExecutor(args.processes) as pool:
        list(pool.map(run, names))


def scores_of_fit(
    train: Rows, test: Rows, fit: str, seed: int, steps: int
) -> tuple[Scores, dict[str, Any]]:
    """Every candidate for a score of one fit, for the rows to rank, and for 256 training rows."""
    from anomaly_scores import scores_of_stack

    from scoreode import ScoreODE
    from scoreode.model.defaults import LEAST_STEPS

    began = time.perf_counter()
    est = ScoreODE(
        standardise=None if fit == "default" else fit,
        steps=min(steps, max(LEAST_STEPS, 2 * len(train))),
        random_state=seed,
    ).fit(train)
    fitted_in = time.perf_counter() - began
    stack, run = est.fitted_.whole, est.fitted_.run
    some = np.random.default_rng(seed).permutation(len(train))[:_REFERENCE]
    found = scores_of_stack(stack, train, np.concatenate([test, train[some]]), len(test))
    cut = {name: values[: len(test)] for name, values in found.items()}
    cut |= {f"train/{name}": values[len(test) :] for name, values in found.items()}
    record = {
        "rows": len(train),
        "columns": train.shape[1],
        "standardise": run.standardise,
        "shares": stack.shares,
        "steps": est.fitted_.steps,
        "seconds_of_fit": fitted_in,
        "seconds": time.perf_counter() - began,
    }
    return cut, record


# --- Other detectors ---------------------------------------------------------------------------


def run_peers(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")  # of values that repeat: real tables have some
    args.folder.mkdir(parents=True, exist_ok=True)
    for file, seed in work(args):
        target = args.folder / f"{file.stem}-{seed}-peers.npz"
        if target.exists():
            continue
        train, test, y = split(file, seed, args.rows)
        mean, std = train.mean(0), train.std(0)
        train, test = (train - mean) / std, (test - mean) / std
        found, seconds = Scores(), dict[str, float]()
        for name, score in detectors(seed).items():
            began = time.perf_counter()
            found[name] = np.asarray(score(train, test), np.float64)
            seconds[name] = time.perf_counter() - began
        write(target, y, found, {"seconds": seconds})


# --- When the score is of no use ---------------------------------------------------------------


def run_limits(args: argparse.Namespace) -> None:
    """Mean AUROC over sets and seeds of `ScoreODE.anomaly_score` and of an isolation forest."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, list[tuple[float, float]]] = {}
    for file, seed in work(args):
        train, test, y = split(file, seed, args.rows)
        forest = detectors(seed)["isolation forest"]
        for case, (a, b, odd) in cases(train, test, y, seed).items():
            scores = smooth(a, b, 0.3), forest(a, b)
            pair = tuple(float(roc_auc_score(odd, score)) for score in scores)
            found.setdefault(case, []).append(pair)
    for case, pairs in found.items():
        print(case, np.mean(pairs, 0).round(3))


def cases(
    train: Rows, test: Rows, y: np.ndarray, seed: int
) -> dict[str, tuple[Rows, Rows, np.ndarray]]:
    """Rows as they are, with columns of noise, and with anomalies in training."""
    rng, std = np.random.default_rng(seed), train.std(0)
    train, test = train / std, test / std
    found = {"as they are": (train, test, y)}
    for k in (10, 30, 100):
        a, b = (np.hstack([x, rng.normal(size=(len(x), k))]) for x in (train, test))
        found[f"{k} irrelevant columns"] = a, b, y
    for share in (0.01, 0.05):
        k = min(int(np.ceil(share * len(train))), y.sum() // 2)
        some = np.flatnonzero(y)[:k]
        rest = np.delete(np.arange(len(y)), some)
        found[f"{share:.0%} anomalies"] = np.vstack([train, test[some]]), test[rest], y[rest]
    return found


# --- What both leave ---------------------------------------------------------------------------


def files(args: argparse.Namespace) -> list[Path]:
    names = args.sets.split(",") if args.sets else None
    return [f for f in sorted(args.data.glob("*.npz")) if names is None or f.stem in names]


def work(args: argparse.Namespace) -> Iterator[tuple[Path, int]]:
    for file in files(args):
        for seed in map(int, args.seeds.split(",")):
            yield file, seed


def write(target: Path, y: np.ndarray, found: Scores, record: dict[str, Any]) -> None:
    """Whole or not at all: a part of a file is no result."""
    half = target.with_suffix(".half")
    with half.open("wb") as stream:
        small = {name: values.astype(np.float32) for name, values in found.items()}
        np.savez_compressed(stream, y=y, record=json.dumps(record), **small)
    half.rename(target)
    print(target.stem, record, flush=True)


def summarise(args: argparse.Namespace) -> None:
    """AUROC of every score, set and seed, and means over sets."""
    from sklearn.metrics import roc_auc_score

    records: list[dict[str, Any]] = []
    for file in sorted(args.folder.glob("*.npz")):
        name, seed, fit = file.stem.rsplit("-", 2)
        arrays = np.load(file)
        scores = [key for key in arrays.files if key not in ("y", "record") and "/" not in key]
        aurocs = {
            key: round(float(roc_auc_score(arrays["y"], clean(arrays[key]))), 5) for key in scores
        }
        record = json.loads(str(arrays["record"]))
        records.append({"set": name, "seed": int(seed), "fit": fit, "auroc": aurocs} | record)
    for fit, score, mean, stderr, n in means(records):
        print(f"{fit:8} {score:22} {mean:.4f} ± {stderr:.4f} ({n} sets)")
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")


def clean(scores: np.ndarray) -> np.ndarray:
    """What is not a number is as anomalous as can be."""
    return np.nan_to_num(scores, nan=3e38, posinf=3e38, neginf=-3e38)


def means(records: list[dict[str, Any]]) -> list[tuple[str, str, float, float, int]]:
    """(fit, score, mean AUROC over sets, standard error over seeds, number of sets), best first."""
    table: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        for score, auroc in record["auroc"].items():
            by_set = table.setdefault((record["fit"], score), {})
            by_set.setdefault(record["set"], []).append(auroc)
    found = []
    for (fit, score), by_set in table.items():
        mean = np.mean([np.mean(one) for one in by_set.values()])
        spread = [np.var(one, ddof=1) / len(one) for one in by_set.values() if len(one) > 1]
        stderr = np.sqrt(np.sum(spread)) / len(by_set)
        found.append((fit, score, float(mean), float(stderr), len(by_set)))
    return sorted(found, key=lambda row: -row[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    calls = {"scores": run_scores, "peers": run_peers, "limits": run_limits}
    for name, call in calls.items():
        one = commands.add_parser(name)
        one.add_argument("data", type=Path)
        if name != "limits":
            one.add_argument("folder", type=Path)
        one.add_argument("--sets", help="by default all")
        one.add_argument("--seeds", default="0,1,2,3,4")
        one.add_argument("--rows", type=int, default=5000, help="to train on, at most")
        one.set_defaults(call=call)
        if name == "scores":
            one.add_argument("--fits", default=",".join(FITS), help="all seeds of one first")
            one.add_argument("--steps", type=int, default=3000, help="of a fit, at most")
            one.add_argument(
                "--limit", type=float, default=np.inf, help="seconds: no fit begins later"
            )
            one.add_argument("--processes", type=int, default=1)
    two = commands.add_parser("summarise")
    two.add_argument("folder", type=Path)
    two.add_argument("--json", type=Path)
    two.set_defaults(call=summarise)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
