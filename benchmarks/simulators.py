"""Whose posteriors of simulators are nearest to those that are known, for the same seconds?

    pip download --no-deps sbibm                           # observations and reference posteriors
    pip install -r benchmarks/requirements.txt             # sbi
    python benchmarks/simulators.py check --sbibm WHEEL
    python benchmarks/simulators.py run --sbibm WHEEL --out FOLDER [--tasks slcp,sir] [--seconds 60]
    python benchmarks/simulators.py summarise FOLDER --json benchmarks/results/simulators.json \\
        --page docs/simulators.md

Five tasks of the benchmark of simulation-based inference (`simulator_tasks.py`). scoreode and sbi's
NPE (zuko's neural spline flow), FMPE and NPSE learn p(θ | x) from the same 10,000 simulations, for
at most the same seconds; each may stop earlier by its own validation. Reported:

- C2ST: the accuracy of a classifier that has to tell draws of the model from those of the reference
  posterior, as sbibm defines it (0.5 is the best), for some of its ten observations;
- ranks of fresh parameters among draws given what was simulated from them (simulation-based
  calibration), and of log p where a model has a density: `scoreode.evaluate.ranks`;
- mean log p of the fresh parameters in nats, where a model has a density.

`check` holds the simulators against the wheel. `run` leaves one file for every task, method and
seed, and goes on where it was stopped.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from page import put
from scipy import stats
from simulator_methods import Sbi, Scoreode
from simulator_tasks import TASKS, Rows, Task, Wheel
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

from scoreode import __version__
from scoreode.evaluate.ranks import rank_calibration
from scoreode.theory import Estimate

METHODS = ("scoreode", "NPE", "FMPE", "NPSE")
PACKAGES = ("jax", "sbi", "torch")


def c2st(reference: Rows, drawn: Rows, seed: int) -> float:
    """sbibm's: a network of two layers of 10 d units, by five folds, on z-scores."""
    mean, sd = reference.mean(0), reference.std(0, ddof=1)
    X = (np.concatenate([reference, drawn]) - mean) / sd
    y = np.repeat([0, 1], [len(reference), len(drawn)])
    network = MLPClassifier((10 * X.shape[1],) * 2, max_iter=10_000, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(network, X, y, cv=folds).mean())


def metropolis(
    task: Task, theta: Rows, x: np.ndarray, steps: int, rng: np.random.Generator
) -> Rows:
    """A Markov chain from every θ, of steps of many sizes; it keeps the posterior given x."""

    def log_p(theta: Rows) -> np.ndarray:
        inside = task.prior.log_density(theta)
        return inside + task.log_likelihood(theta, np.broadcast_to(x, (len(theta), len(x))))

    scale, now = theta.std(0), log_p(theta)
    for _ in range(steps):
        size = 10 ** rng.uniform(-2, 0, (len(theta), 1))
        proposed = theta + size * scale * rng.normal(size=theta.shape)
        new = log_p(proposed)
        accepted = now + np.log(rng.random(len(theta))) < new
        theta, now = np.where(accepted[:, None], proposed, theta), np.where(accepted, new, now)
    return theta


def check(args: argparse.Namespace) -> None:
    """Whether simulators and likelihoods are those of the wheel.

    Observations have uniform ranks among simulations from their true parameters. A chain that keeps
    our posterior leaves the reference draws what they were: a classifier stays at 0.5.
    """
    wheel, rng = Wheel(args.sbibm), np.random.default_rng(0)
    for name in args.tasks:
        task, numbers = TASKS[name], range(1, 11)
        observed = np.array([wheel.observation(name, i) for i in numbers])
        truths = np.array([wheel.truth(name, i) for i in numbers])
        simulated = np.stack([task.simulate(truths, rng) for _ in range(499)])
        pit = rank_calibration(observed, simulated).pit
        p = stats.kstest(pit.ravel(), "uniform").pvalue
        print(f"{name}: observations among simulations, p = {p:.2f}", flush=True)
        for i in args.observations:
            a, b = np.split(rng.permutation(wheel.posterior(name, i))[: 2 * args.draws], 2)
            moved = metropolis(task, a, observed[i - 1], args.steps, rng)
            found = f"{c2st(b, a, 0):.3f}, after {args.steps} steps {c2st(b, moved, 0):.3f}"
            print(f"  {i}: C2ST of two halves {found}", flush=True)


def fit(method: str, task: Task, theta: Rows, x: Rows, seconds: float, seed: int) -> Any:
    """The method's posterior (`simulator_methods.py`)."""
    if method == "scoreode":
        return Scoreode(task, theta, x, seconds, seed)
    return Sbi(method, task, theta, x, seconds, seed)


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    wheel = Wheel(args.sbibm)
    for name in args.tasks:
        for seed in args.seeds:
            for method in args.methods:
                file = args.out / f"{name}-{method}-{seed}.json"
                if not file.exists():
                    record = measure(wheel, name, method, seed, args)
                    file.write_text(json.dumps(record, indent=1) + "\n")
                    print(name, method, seed, line(record), flush=True)


def measure(
    wheel: Wheel, name: str, method: str, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """One fit, and how near its posteriors are."""
    task = TASKS[name]
    theta, x = task.pairs(args.simulations, np.random.default_rng([seed, 0]))
    began = time.perf_counter()
    posterior = fit(method, task, theta, x, args.seconds, seed)
    seconds = time.perf_counter() - began
    observed = np.array([wheel.observation(name, i) for i in args.observations])
    drawn = posterior.sample(args.draws, observed)
    accuracies = [
        c2st(wheel.posterior(name, i)[: args.draws], drawn[:, k], seed)
        for k, i in enumerate(args.observations)
    ]
    return {
        "task": name,
        "method": method,
        "seed": seed,
        "simulations": args.simulations,
        "budget": args.seconds,
        "seconds": seconds,
        "observations": args.observations,
        "draws": args.draws,
        "c2st": accuracies,
        **calibration(posterior, task, seed, args),
        **posterior.told,
        "seconds_in_all": time.perf_counter() - began,
        "versions": {
            "scoreode": __version__,
            **{each: metadata.version(each) for each in PACKAGES},
        },
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
    }


def calibration(posterior: Any, task: Task, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Ranks of fresh parameters, and of their log-densities."""
    theta, x = task.pairs(args.pairs, np.random.default_rng([seed, 1]))
    drawn = posterior.sample(args.rank_draws, x)
    found = rank_calibration(theta, drawn)
    record = {
        "pairs": args.pairs,
        "rank_draws": args.rank_draws,
        "rank_errors": found.errors.tolist(),
        "rank_p_values": found.p_values.tolist(),
        "rank_error_expected": found.expected_error,
    }
    if posterior.log_density is None:
        return record
    nats = posterior.log_density(theta, x)
    of_drawn = posterior.log_density(drawn.reshape(-1, theta.shape[1]), np.tile(x, (len(drawn), 1)))
    regions = rank_calibration(nats, of_drawn.reshape(len(drawn), -1))
    mean = Estimate.from_samples(nats)
    return record | {
        "coverage_error": float(regions.errors[0]),
        "coverage_p_value": float(regions.p_values[0]),
        "nats": float(mean.value),
        "nats_stderr": float(mean.stderr),
    }


def line(record: dict[str, Any]) -> str:
    accuracies = " ".join(f"{each:.3f}" for each in record["c2st"])
    nats = f"; {record['nats']:.3f} nats" if "nats" in record else ""
    return (
        f"C2ST {accuracies}; ranks {np.mean(record['rank_errors']):.3f}{nats};"
        f" {record['seconds']:.0f} s of {record['seconds_in_all']:.0f}"
    )


def summarise(args: argparse.Namespace) -> None:
    records = [json.loads(file.read_text()) for file in sorted(args.folder.glob("*.json"))]
    for record in records:
        print(record["task"], record["method"], record["seed"], line(record))
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")
    if args.page:
        put(args.page, "simulators.py", tables(records))


def tables(records: Sequence[dict[str, Any]]) -> str:
    """What the page shows of them."""
    one = records[0]
    tasks = [name for name in TASKS if any(r["task"] == name for r in records)]
    methods = [name for name in METHODS if any(r["method"] == name for r in records)]

    def table(what: str, digits: int, error: bool = False) -> str:
        rows = [["task", *methods], ["---"] * (1 + len(methods))]
        for task in tasks:
            of_task = [r for r in records if r["task"] == task]
            found = [[r.get(what, []) for r in of_task if r["method"] == m] for m in methods]
            rows.append([f"`{task}`", *(cell(np.ravel(each), digits, error) for each in found)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    expected = np.mean([r["rank_error_expected"] for r in records])
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    return f"""\
C2ST: how often a classifier tells a model's draws from the known ones; 0.5 is the best. Mean over
{len(one["observations"])} observations, and its standard error:

{table("c2st", 3, error=True)}

The error of the ranks of {one["pairs"]} fresh parameters, mean over parameters; right posteriors
have {expected:.3f} by chance:

{table("rank_errors", 3)}

The same of the ranks of log p, the error of the coverage of regions of highest density:

{table("coverage_error", 3)}

Seconds until each had its posterior, compilation included; some end early by their validation:

{table("seconds", 0)}

*{one["simulations"]} simulations, at most {one["budget"]:.0f} seconds of training on
{one["cores"]} core, {one["draws"]} draws for every observation, {one["rank_draws"]} for every rank;
{versions}.*"""


def cell(values: np.ndarray, digits: int, error: bool) -> str:
    """Their mean, perhaps with its standard error; a dash for none."""
    if not len(values):
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    if not error or len(values) < 2:
        return mean
    return f"{mean} ± {Estimate.from_samples(values).stderr:.{digits}f}"


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def names(known: Sequence[str]) -> Any:
    def names(text: str) -> list[str]:
        found = text.split(",")
        unknown = [each for each in found if each not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]}: none of {', '.join(known)}")
        return found

    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for call in (check, run):
        command = commands.add_parser(call.__name__)
        command.add_argument("--sbibm", type=Path, required=True, help="the wheel of sbibm")
        command.add_argument("--tasks", type=names(list(TASKS)), default=list(TASKS))
        command.add_argument("--observations", type=numbers, default=[1, 2, 3, 4, 5])
        command.add_argument("--draws", type=int, default=1000, help="of both for the classifier")
        command.set_defaults(call=call)
        if call is check:
            command.add_argument("--steps", type=int, default=200, help="of the chains")
            continue
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--methods", type=names(METHODS), default=list(METHODS))
        command.add_argument("--seeds", type=numbers, default=[0])
        command.add_argument("--seconds", type=float, default=60, help="of training, at most")
        command.add_argument("--simulations", type=int, default=10_000)
        command.add_argument("--pairs", type=int, default=300, help="fresh ones, for ranks")
        command.add_argument("--rank-draws", type=int, default=49, help="for every pair")
    last = commands.add_parser("summarise")
    last.add_argument("folder", type=Path)
    last.add_argument("--json", type=Path)
    last.add_argument("--page", type=Path, help="where the tables are put")
    last.set_defaults(call=summarise)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
