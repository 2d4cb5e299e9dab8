"""How near is a model of a mixed table to the truth, and with how many samples is that seen?

    python benchmarks/mixed.py --steps 6000 --out results.json

Three discrete columns (a coin, a category whose law depends on it, a count whose rate depends on
both) and four continuous ones, Gaussian given the others with means and covariances of theirs:
log P(discrete) + log p(continuous | discrete) is known. `ScoreODE(discrete=[4, 5, 6])` is fitted to
draws; of fresh rows, truth minus model in nats is an estimate of the KL divergence, paired, with
its standard error over rows, for several numbers K of dequantised samples.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
from scipy import stats

from scoreode import ScoreODE
from scoreode.model.config import DEQUANTISATIONS

COIN = 0.35
CATEGORY = np.array([[0.4, 0.3, 0.15, 0.1, 0.05], [0.05, 0.1, 0.2, 0.25, 0.4]])  # given the coin
RATE = np.array([1.0, 2.0, 4.0, 2.5, 0.5])  # of the count, twice that for heads
MEAN = np.array([[0, 0, 0, 0], [2, 0, -1, 0], [0, 2, 1, -1], [-2, 1, 0, 1], [1, -2, 2, 0.5]])
SLOPE = np.array([0.3, -0.2, 0.1, 0.25])  # of the means in the count
FACTOR = np.array(
    [
        [[1, 0, 0, 0], [0.5, 0.8, 0, 0], [-0.3, 0.2, 0.7, 0], [0, 0.4, 0.1, 0.6]],
        [[0.6, 0, 0, 0], [-0.4, 0.5, 0, 0], [0.2, 0.3, 0.9, 0], [0.5, 0, -0.2, 0.4]],
    ]
)  # of the covariance, given the coin


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows (n, 7) of the law."""
    coin = (rng.random(n) < COIN).astype(int)
    category = (rng.random(n)[:, None] > np.cumsum(CATEGORY[coin], 1)).sum(1)
    count = rng.poisson(RATE[category] * (1 + coin))
    noise = np.einsum("nij,nj->ni", FACTOR[coin], rng.normal(size=(n, 4)))
    return np.column_stack([MEAN[category] + SLOPE * count[:, None] + noise, coin, category, count])


def log_prob(rows: np.ndarray) -> np.ndarray:
    """log P of the discrete columns plus log p of the others given them, in nats."""
    coin, category, count = rows[:, 4:].astype(int).T
    nats = np.log(np.where(coin == 1, COIN, 1 - COIN)) + np.log(CATEGORY[coin, category])
    nats += stats.poisson.logpmf(count, RATE[category] * (1 + coin))
    centred = rows[:, :4] - MEAN[category] - SLOPE * count[:, None]
    for heads, factor in enumerate(FACTOR):
        chosen = coin == heads
        nats[chosen] += stats.multivariate_normal(cov=factor @ factor.T).logpdf(centred[chosen])
    return nats


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--dequantise", choices=DEQUANTISATIONS, default="uniform")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    train, test = draw(rng, args.rows), draw(rng, args.test)
    truth = log_prob(test)
    options = {name: getattr(args, name) for name in ("order", "steps", "seconds", "dequantise")}
    est = ScoreODE(discrete=[4, 5, 6], random_state=args.seed, **options).fit(train)
    result = vars(args) | {
        "out": None,
        "steps": est.fitted_.steps,
        "seconds": est.fitted_.seconds,
        "truth": float(truth.mean()),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "gaps": [],
    }
    print(
        f"{est.fitted_.steps} steps in {est.fitted_.seconds:.0f} s; truth {truth.mean():.4f} nats"
    )
    for samples in args.samples:
        started = time.perf_counter()
        gap = truth - np.asarray(est.log_likelihood(test, samples=samples).nats)
        record = {
            "K": samples,
            "gap": float(gap.mean()),
            "gap_se": float(gap.std(ddof=1) / np.sqrt(len(gap))),
            "seconds": time.perf_counter() - started,
        }
        result["gaps"].append(record)
        print(
            "K {K:3d}: {gap:.4f} ± {gap_se:.4f} nats ({seconds:.0f} s)".format(**record), flush=True
        )
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
