"""How far is the default fit from known laws with heavy tails, and with absurd values among them?

    python benchmarks/tails.py run --laws t3,pareto --dims 1,3,10 --out FOLDER
    python benchmarks/tails.py run --absurd 0.01 --out FOLDER
    python benchmarks/tails.py summarise FOLDER --json tails.json

Three laws in 1, 3 and 10 dimensions, 5000 rows each: Student's t with 3 degrees of freedom, columns
of independent Pareto (index 2.5), and of independent log-normal numbers. `run` leaves log p − log q
of 2000 fresh rows of the law p under the fit q in FOLDER; their mean is the KL divergence in nats.
With `--absurd`, that share of the training rows gets a first value between 10⁴ and 10⁷.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from scoreode import ScoreODE
from scoreode.theory import Estimate

N, N_TEST = 5000, 2000


class Law(NamedTuple):
    """n draws in d dimensions, and the log-density of rows."""

    draw: Callable[[np.random.Generator, int, int], np.ndarray]
    log_density: Callable[[np.ndarray], np.ndarray]


def student(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(3, (n, 1)) / 3)


def log_student(x: np.ndarray) -> np.ndarray:
    d = x.shape[1]
    return np.reshape(stats.multivariate_t(np.zeros(d), np.eye(d), df=3).logpdf(x), -1)


LAWS = {
    "t3": Law(student, log_student),
    "pareto": Law(
        lambda rng, n, d: 1 + rng.pareto(2.5, (n, d)),
        lambda x: stats.pareto(2.5).logpdf(x).sum(1),
    ),
    "lognormal": Law(
        lambda rng, n, d: np.exp(rng.standard_normal((n, d))),
        lambda x: stats.lognorm(1).logpdf(x).sum(1),
    ),
}


def spoil(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The rows, of which a share have an absurd first value."""
    x = x.copy()
    wrong = rng.choice(len(x), round(share * len(x)), replace=False)
    x[wrong, 0] = 10 ** rng.uniform(4, 7, len(wrong))
    return x


def run(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")  # of values that lie far out: these laws have some
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.laws.split(","):
        for d in map(int, args.dims.split(",")):
            file = args.out / f"{name}_{d}_{args.absurd:g}_{args.seed}.npz"
            if file.exists():
                continue
            law = LAWS[name]
            rng = np.random.default_rng(args.seed)
            train, test = law.draw(rng, N, d), law.draw(rng, N_TEST, d)
            train = spoil(train, args.absurd, rng)
            began = time.perf_counter()
            est = ScoreODE(random_state=args.seed).fit(train)
            known = {"law": name, "d": d, "absurd": args.absurd, "seed": args.seed}
            known |= {"seconds": time.perf_counter() - began, "steps": est.fitted_.steps}
            known |= {"standardise": est.fitted_.run.standardise}
            known |= {"shares": est.fitted_.summary.get("stack")}
            gap = law.log_density(test) - est.score_samples(test)
            np.savez(file, record=json.dumps(known), gap=gap)
            print(known, Estimate.from_samples(gap), flush=True)


def summarise(args: argparse.Namespace) -> None:
    records = [read(file) for file in sorted(args.folder.glob("*.npz"))]
    for record in records:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()})
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")


def read(file: Path) -> dict[str, Any]:
    """The KL divergence of a fit, in nats."""
    arrays = np.load(file)
    kl = Estimate.from_samples(arrays["gap"])
    found = {"kl": float(kl.value), "stderr": float(kl.stderr)}
    return json.loads(str(arrays["record"])) | found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("--laws", default=",".join(LAWS))
    one.add_argument("--dims", default="1,3,10")
    one.add_argument("--absurd", type=float, default=0.0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(call=run)
    two = commands.add_parser("summarise")
    two.add_argument("folder", type=Path)
    two.add_argument("--json", type=Path)
    two.set_defaults(call=summarise)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
