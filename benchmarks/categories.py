"""How near is a fit to a table of numbers, text, counts and dates whose law is known?

    python benchmarks/categories.py --steps 4000 --out results.json

The table has four dependent normal columns, whose means and covariances depend on two columns of
text, a count that depends on one of them, and a date that depends on the first number. In nats,
over fresh rows, each with its standard error:

- `loss`: the mean of log q − log p, of whole rows; counts are a bound (16 samples);
- `loss_categories`: the part of the two columns of text, whose masses are exact;
- `entropy`: of the law, −E log q, by which to judge both.

The result is appended to --out.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from scoreode import ScoreODE

CITIES, COLOURS = ("Bonn", "Kiel", "Ulm", "Hof"), ("red", "green", "blue")
CITY = np.array([0.4, 0.3, 0.2, 0.1])
COLOUR = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
VISITS = np.array([1.0, 3.0, 6.0, 2.0])
DAY, SLOPE, SPREAD = 15_000.0, 320.0, 240.0  # days since 1970-01-01, and by the first number

_fixed = np.random.default_rng(9)
MEANS = 1.5 * _fixed.normal(size=(4, 1, 4)) + _fixed.normal(size=(1, 3, 4))
ROOTS = np.tril(0.4 * _fixed.normal(size=(4, 4, 4))) + 0.7 * np.eye(4)


def draw(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Rows, their log q in nats, and that of the columns of text alone."""
    rng = np.random.default_rng(seed)
    city = rng.choice(4, n, p=CITY)
    colour = (rng.random((n, 1)) > np.cumsum(COLOUR[city], 1)).sum(1).clip(0, 2)
    x = MEANS[city, colour] + np.einsum("nij,nj->ni", ROOTS[city], rng.normal(size=(n, 4)))
    visits = rng.poisson(VISITS[city])
    day = np.rint(DAY + SLOPE * x[:, 0] + SPREAD * rng.normal(size=n))
    frame = pd.DataFrame(x, columns=list("abcd")).assign(
        city=np.array(CITIES)[city],
        colour=np.array(COLOURS)[colour],
        visits=visits,
        opened=day.astype("datetime64[D]").astype("datetime64[s]"),
    )
    log_mass = np.log(CITY[city] * COLOUR[city, colour])
    log_q = log_mass + stats.poisson(VISITS[city]).logpmf(visits)
    log_q += stats.norm(DAY + SLOPE * x[:, 0], SPREAD).logpdf(day)  # cells are far narrower
    z = np.linalg.solve(ROOTS[city], (x - MEANS[city, colour])[:, :, None])[:, :, 0]
    determinants = np.linalg.slogdet(ROOTS[city])[1]
    return frame, log_q + stats.norm.logpdf(z).sum(1) - determinants, log_mass


def mean(values: np.ndarray) -> list[float]:
    """The mean and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    (table, _, _), (test, log_q, log_mass) = draw(args.rows, 0), draw(args.test_rows, 1)
    began = time.perf_counter()
    est = ScoreODE(steps=args.steps, seconds=args.seconds, discrete=["visits"]).fit(table)
    fitted, took = est.fitted_, time.perf_counter() - began
    codes = [fitted.data.kinds[c].encode(test[c], c) for c in fitted.data.categories]
    exact = fitted.log_mass(np.stack(codes, axis=1), len(test))
    result = {
        "loss": mean(log_q - est.score_samples(test)),
        "loss_categories": mean(log_mass - exact),
        "entropy": mean(-log_q),
        "law": fitted.law.says,
        "rows": args.rows,
        "steps": fitted.steps,
        "seconds": took,
        "machine": platform.platform(),
    }
    print(json.dumps(result))
    if args.out is not None:
        found = json.loads(args.out.read_text()) if args.out.exists() else []
        args.out.write_text(json.dumps([*found, result], indent=2) + "\n")


if __name__ == "__main__":
    main()
