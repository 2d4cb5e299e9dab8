"""How near is a default fit to laws that are known, where they are thick and in their tails?

    python benchmarks/laws.py --seconds 60 --out results.json

Every law draws a table, and `ScoreODE` is fitted to it with its defaults. Against the truth:

- `kl`: the mean of log q − log p over fresh rows, in nats, with its standard error;
- `worst`: the largest |log q − log p| of those rows within the law's central 99.99 %, the region of
  greatest density that has this mass;
- `beyond`: how many of the model's samples lie beyond the extremes of a million draws, relative to
  what is expected of draws from the law itself;
- `extreme`: the farthest of these samples from the median, relative to the farthest of a million;
- `score_rms` and `difference_rms`: the errors of `score_function` at t = 0 and of central
  differences of `score_samples`, root mean square over rows, in units of interquartile ranges.

Rows on an atom have no density: the figures of that law are of its other rows, and `warned` holds
what the fit says of its columns. Where two rows a column are all there is, and where 120 columns
have 500 rows, the KL of a Gaussian with scikit-learn's `LedoitWolf` covariance stands beside. Each
result is appended to --out.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.covariance import LedoitWolf

from scoreode import ScoreODE
from scoreode.errors import TiesWarning

Rng = np.random.Generator
MILLION = 1_000_000
CENTRAL = 0.9999


@dataclass(frozen=True)
class Law:
    """A distribution: draws, log q in nats, ∇ log q where it exists everywhere.

    `light`: no tail is heavier than exponential, and no column is nearly a function of others.
    """

    draw: Callable[[Rng, int], np.ndarray]
    log_q: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray], np.ndarray] | None = None
    light: bool = False
    rows: int = 4000
    options: dict[str, Any] = field(default_factory=dict)
    atoms: Callable[[np.ndarray], np.ndarray] | None = None  # rows that have a mass, not a density


def independent(*columns: Any, **options: Any) -> Law:
    """Columns of SciPy's frozen distributions; the score by differences of their log-densities."""

    def draw(rng: Rng, n: int) -> np.ndarray:
        return np.column_stack([column.rvs(n, random_state=rng) for column in columns])

    def log_q(x: np.ndarray) -> np.ndarray:
        return sum(column.logpdf(x[:, j]) for j, column in enumerate(columns))

    return Law(draw, log_q, **options)


def gaussian(mean: Any, covariance: Any, **options: Any) -> Law:
    """N(mean, covariance), by its Cholesky factor: columns may differ by many orders of scale."""
    mean, scale = np.asarray(mean, float), np.sqrt(np.diag(covariance))
    factor = np.linalg.cholesky(covariance / np.outer(scale, scale)) * scale[:, None]
    inverse = np.linalg.inv(factor / scale[:, None]) / scale

    def draw(rng: Rng, n: int) -> np.ndarray:
        return mean + rng.normal(size=(n, len(mean))) @ factor.T

    def log_q(x: np.ndarray) -> np.ndarray:
        z = (x - mean) @ inverse.T
        return stats.norm.logpdf(z).sum(1) + np.linalg.slogdet(inverse)[1]

    return Law(draw, log_q, lambda x: -((x - mean) @ inverse.T) @ inverse, **options)


def mixture() -> Law:
    """Three Gaussians in the plane."""
    weights = np.array([0.5, 0.3, 0.2])
    parts = [
        gaussian([0, 0], np.array([[1.0, 0.8], [0.8, 1.0]])),
        gaussian([4, 1], np.array([[0.5, 0.0], [0.0, 0.1]])),
        gaussian([1, -4], np.array([[0.2, -0.1], [-0.1, 0.4]])),
    ]

    def each(x: np.ndarray) -> np.ndarray:
        return np.log(weights) + np.column_stack([part.log_q(x) for part in parts])

    def draw(rng: Rng, n: int) -> np.ndarray:
        counts = rng.multinomial(n, weights)
        rows = [part.draw(rng, k) for part, k in zip(parts, counts, strict=True)]
        return rng.permutation(np.concatenate(rows))

    def log_q(x: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(each(x), axis=1)

    def score(x: np.ndarray) -> np.ndarray:
        posterior = np.exp(each(x) - log_q(x)[:, None])
        return sum(p[:, None] * part.score(x) for p, part in zip(posterior.T, parts, strict=True))

    return Law(draw, log_q, score, light=True)


def lognormal_pair() -> Law:
    """exp of two correlated normal columns with standard deviations 1 and 1.5."""
    normal = gaussian([0.0, 1.0], np.array([[1.0, 1.2], [1.2, 2.25]]))

    def score(x: np.ndarray) -> np.ndarray:
        return (normal.score(np.log(x)) - 1) / x

    return Law(
        lambda rng, n: np.exp(normal.draw(rng, n)),
        lambda x: normal.log_q(np.log(x)) - np.log(x).sum(1),
        score,
    )


def ring() -> Law:
    """Radius N(1, 0.1²) in the plane."""

    def draw(rng: Rng, n: int) -> np.ndarray:
        radius, angle = rng.normal(1, 0.1, n), rng.uniform(0, 2 * np.pi, n)
        return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    def log_q(x: np.ndarray) -> np.ndarray:
        radius = np.hypot(*x.T)
        return stats.norm.logpdf(radius, 1, 0.1) - np.log(2 * np.pi * radius)

    def score(x: np.ndarray) -> np.ndarray:
        radius = np.hypot(*x.T)
        return (-(radius - 1) / 0.01 - 1 / radius)[:, None] * x / radius[:, None]

    return Law(draw, log_q, score, light=True)


def funnel() -> Law:
    """Neal's: v ~ N(0, 1), two columns N(0, e^v)."""

    def draw(rng: Rng, n: int) -> np.ndarray:
        v = rng.normal(size=n)
        return np.column_stack([v, np.exp(v / 2)[:, None] * rng.normal(size=(n, 2))])

    def log_q(x: np.ndarray) -> np.ndarray:
        scale = np.exp(x[:, :1] / 2)
        return stats.norm.logpdf(x[:, 0]) + stats.norm.logpdf(x[:, 1:], scale=scale).sum(1)

    def score(x: np.ndarray) -> np.ndarray:
        u = x[:, 1:] * np.exp(-x[:, :1])
        along_v = -x[:, 0] - 1 + 0.5 * np.sum(u * x[:, 1:], 1)
        return np.column_stack([along_v, -u])

    return Law(draw, log_q, score)


def banana() -> Law:
    """x ~ N(0, 1), y ~ N(x², 0.3²)."""

    def draw(rng: Rng, n: int) -> np.ndarray:
        x = rng.normal(size=n)
        return np.column_stack([x, x**2 + 0.3 * rng.normal(size=n)])

    def log_q(x: np.ndarray) -> np.ndarray:
        return stats.norm.logpdf(x[:, 0]) + stats.norm.logpdf(x[:, 1], x[:, 0] ** 2, 0.3)

    def score(x: np.ndarray) -> np.ndarray:
        pull = (x[:, 1] - x[:, 0] ** 2) / 0.09
        return np.column_stack([-x[:, 0] + 2 * x[:, 0] * pull, -pull])

    return Law(draw, log_q, score, light=True)


def collinear() -> Law:
    """Three normal columns, and two sums of them within 1e-4."""
    A = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, -1]], float)
    return gaussian(np.zeros(5), A @ A.T + 1e-8 * np.diag([0, 0, 0, 1, 1]))


def total() -> Law:
    """Gamma columns a and b, and a + b within 0.01, of which 2000 rows are there."""
    a, b = stats.gamma(2.0), stats.gamma(3.0)

    def draw(rng: Rng, n: int) -> np.ndarray:
        x, y = a.rvs(n, random_state=rng), b.rvs(n, random_state=rng)
        return np.column_stack([x, y, x + y + 0.01 * rng.normal(size=n)])

    def log_q(x: np.ndarray) -> np.ndarray:
        given = stats.norm.logpdf(x[:, 2], x[:, 0] + x[:, 1], 0.01)
        return a.logpdf(x[:, 0]) + b.logpdf(x[:, 1]) + given

    return Law(draw, log_q, rows=2000)


def discrete() -> Law:
    """A coin, a count whose rate follows it, and a normal column with the mean of both."""

    def rate(coin: np.ndarray) -> np.ndarray:
        return np.where(coin > 0.5, 6.0, 2.0)

    def draw(rng: Rng, n: int) -> np.ndarray:
        coin = (rng.random(n) < 0.3).astype(float)
        count = rng.poisson(rate(coin)).astype(float)
        return np.column_stack([coin, count, 2 * coin + 0.5 * count + rng.normal(size=n)])

    def log_q(x: np.ndarray) -> np.ndarray:
        coin, count, y = x.T
        nats = stats.bernoulli.logpmf(coin, 0.3) + stats.poisson.logpmf(count, rate(coin))
        return nats + stats.norm.logpdf(y, 2 * coin + 0.5 * count)

    return Law(draw, log_q, options={"discrete": "auto"})


def atoms() -> Law:
    """Three tenths of a gamma column are 0, a fifth of a beta column is 1, and a normal column."""
    gamma, beta = stats.gamma(2), stats.beta(2, 3)

    def draw(rng: Rng, n: int) -> np.ndarray:
        zero, one = rng.random(n) < 0.3, rng.random(n) < 0.2
        rain = np.where(zero, 0.0, gamma.rvs(n, random_state=rng))
        share = np.where(one, 1.0, beta.rvs(n, random_state=rng))
        return np.column_stack([rain, share, rain + rng.normal(size=n)])

    def log_q(x: np.ndarray) -> np.ndarray:
        mixed = gamma.logpdf(x[:, 0]) + beta.logpdf(x[:, 1]) + np.log(0.7 * 0.8)
        return mixed + stats.norm.logpdf(x[:, 2], x[:, 0])

    return Law(draw, log_q, atoms=lambda x: (x[:, 0] == 0) | (x[:, 1] == 1))


def factors(d: int, rows: int, n_factors: int, seed: int) -> Law:
    """d normal columns of a few common factors and noise."""
    loadings = np.random.default_rng(seed).normal(size=(d, n_factors))
    return gaussian(np.zeros(d), loadings @ loadings.T + np.eye(d), rows=rows)


LAWS = {
    "gaussian": gaussian([0, 0, 0], np.eye(3), light=True),
    "uniform": independent(*[stats.uniform()] * 3, light=True),
    "beta": independent(stats.beta(2, 5), stats.beta(5, 1.5), stats.beta(2, 2), light=True),
    "exponential": independent(*[stats.expon()] * 3, light=True),
    "gamma": independent(stats.gamma(0.8), stats.gamma(2), stats.gamma(5), light=True),
    "laplace": independent(*[stats.laplace()] * 3, light=True),
    "lognormal": lognormal_pair(),
    "t2": independent(*[stats.t(2)] * 3),
    "pareto": independent(stats.pareto(1.5), stats.pareto(3)),
    "cauchy": independent(stats.cauchy(), stats.pareto(1)),
    "ring": ring(),
    "funnel": funnel(),
    "banana": banana(),
    "mixture": mixture(),
    "collinear": collinear(),
    "total": total(),
    "offset": gaussian([1.7e9, 0], np.array([[3600.0**2, 1800.0], [1800.0, 1.0]]), light=True),
    "scales": gaussian(
        [1e9, 0, 0], np.array([[1e18, 5e8, 0.3], [5e8, 1, 5e-10], [0.3, 5e-10, 1e-18]]), light=True
    ),
    "discrete": discrete(),
    "atoms": atoms(),
    "wide": factors(120, 500, 5, seed=0),
    "few": factors(10, 20, 2, seed=0),
}


def truth_score(law: Law, x: np.ndarray) -> np.ndarray:
    """∇ log q, by central differences of log q where no formula is given."""
    return law.score(x) if law.score else differences(law.log_q, x, np.full(x.shape[1], 1e-6))


def differences(log_p: Callable[[np.ndarray], Any], x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Central differences of a log-density with steps h, one a column."""
    n, d = x.shape
    shifts = np.diag(h)
    both = np.concatenate([x + shift for shift in (*shifts, *-shifts)])
    values = np.asarray(log_p(both)).reshape(2, d, n)
    return ((values[0] - values[1]) / (2 * h[:, None])).T


def compare(law: Law, est: ScoreODE, seed: int, n_test: int, n_score: int) -> dict[str, Any]:
    """The figures of a fitted model."""
    rng = np.random.default_rng([seed, 1])
    many, test = law.draw(rng, MILLION), law.draw(rng, n_test)
    if law.atoms is not None:
        many, test = (rows[~law.atoms(rows)] for rows in (many, test))
    d, log_q = test.shape[1], law.log_q(test)
    found = est.log_likelihood(test)
    gap = log_q - np.asarray(found.nats)
    central = log_q >= np.quantile(law.log_q(many), 1 - CENTRAL)
    samples = est.sample(n_test, random_state=seed)
    low, high = many.min(0), many.max(0)
    beyond = np.mean(np.any((samples < low) | (samples > high), 1)) * MILLION / (2 * d)
    quartiles = np.quantile(many, [0.25, 0.5, 0.75], axis=0)
    unit = quartiles[2] - quartiles[0]
    extreme = np.abs(samples - quartiles[1]).max(0) / np.abs(many - quartiles[1]).max(0)
    record = {
        "kl": float(gap.mean()),
        "kl_se": float(gap.std(ddof=1) / len(gap) ** 0.5),
        "worst": float(np.abs(gap[central]).max()),
        "worst_of_all": float(np.abs(gap).max()),
        "unconverged": int(np.sum(~np.asarray(found.converged))),
        "beyond": float(beyond),
        "extreme": float(extreme.max()),
    }
    if d > 32 or law.options:  # estimates with probes, and log-masses
        return record
    inner = test[central][:n_score]
    truth = truth_score(law, inner) * unit
    step = np.where(unit > 0, 1e-2 * unit, 1e-2)
    by_differences = differences(est.score_samples, inner, step) * unit
    return record | {
        "score_rms": rms(np.asarray(est.score_function(inner)) * unit - truth),
        "difference_rms": rms(by_differences - truth),
        "truth_rms": rms(truth),
    }


def rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def shrunk_gaussian(law: Law, train: np.ndarray, seed: int) -> float:
    """The KL of a Gaussian with Ledoit and Wolf's covariance, on fresh rows."""
    fitted = LedoitWolf().fit(train)
    test = law.draw(np.random.default_rng([seed, 2]), 10_000)
    normal = stats.multivariate_normal(fitted.location_, fitted.covariance_)
    return float(np.mean(law.log_q(test) - normal.logpdf(test)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=float)
    budget.add_argument("--steps", type=int)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--score", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--standardise")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for name in args.laws:
        law = LAWS[name]
        train = law.draw(np.random.default_rng([args.seed, 0]), law.rows)
        options = {"steps": args.steps, "seconds": args.seconds, "standardise": args.standardise}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", TiesWarning)
            est = ScoreODE(**options, **law.options, random_state=args.seed).fit(train)
        began = time.perf_counter()
        record = {
            "law": name,
            "light": law.light,
            "seed": args.seed,
            "steps": est.fitted_.steps,
            "seconds": est.fitted_.seconds,
            "standardise": est.fitted_.run.standardise,
            "warned": [str(w.message) for w in warned if w.category is TiesWarning],
            **compare(law, est, args.seed, args.test, args.score),
            "cores": os.cpu_count(),
            "machine": platform.machine(),
        }
        if name in ("wide", "few"):
            record["kl_ledoit_wolf"] = shrunk_gaussian(law, train, args.seed)
        record["seconds_after"] = time.perf_counter() - began
        shown = (f"{k} {v:.3g}" for k, v in record.items() if isinstance(v, float))
        print(f"{name:12} {record['standardise']:7} {'  '.join(shown)}", flush=True)
        if args.out is not None:
            records = json.loads(args.out.read_text()) if args.out.exists() else []
            args.out.write_text(json.dumps([*records, record], indent=1) + "\n")


if __name__ == "__main__":
    main()
