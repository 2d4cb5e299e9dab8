"""How near is a model of a table with missing values to the truth, in rows, marginals and draws?

    python benchmarks/gaps.py --seconds 300 --out results.json

Four columns of numbers, two of text, a count and a date, of which one value in ten is missing at
random. Given the texts and the count, the numbers and the date are Gaussian with means and
covariances of theirs, but for one number, which is the exponential of such a one. So the density of
every set of columns is a finite sum. `ScoreODE(subsets=True)` is fitted to draws. Of fresh rows,
truth minus model in nats is an estimate of the KL divergence, with its standard error over rows:
for rows with their gaps, pattern included, and for random sets of columns. A classifier is to tell
rows whose gaps the model has filled from whole ones; it cannot where its accuracy is .5.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logsumexp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score

from scoreode import ScoreODE

CITIES, GOODS = np.array(["Bonn", "Kiel", "Ulm"]), np.array(["bread", "fish", "salt", "wine"])
CITY = np.array([0.5, 0.3, 0.2])
GOOD = np.array(
    [[0.4, 0.1, 0.2, 0.3], [0.2, 0.6, 0.1, 0.1], [0.3, 0.1, 0.3, 0.3]]
)  # given the city
RATE = np.array([[2.0, 1.0, 0.5, 3.0], [1.0, 4.0, 1.5, 0.5], [2.5, 0.5, 1.0, 2.0]])
COUNTS = np.arange(25)  # more have a mass below 1e-10
NUMBERS = ["height", "mass", "income", "score", "opened"]  # the last is the date, in days
COLUMNS = ["height", "city", "mass", "good", "income", "visits", "score", "opened"]
DAY, SPREAD = 14_000.0, 400.0  # the mean of the dates since 1970, and their unit
LACKING = 0.1
_LAW = np.random.default_rng(2022)
MEAN = _LAW.normal(0, 1.2, (3, 4, 5))
SLOPE = _LAW.normal(0, 0.2, 5)  # of the means in the count
FACTOR = np.tril(_LAW.normal(0, 0.5, (3, 5, 5)), -1) + np.eye(5) * [1.0, 0.7, 0.5, 0.8, 0.6]


def draw(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Whole rows of the law."""
    city = rng.choice(3, n, p=CITY)
    good = (rng.random(n)[:, None] > np.cumsum(GOOD[city], 1)).sum(1)
    visits = rng.poisson(RATE[city, good])
    z = MEAN[city, good] + SLOPE * visits[:, None]
    z = z + np.einsum("nij,nj->ni", FACTOR[city], rng.normal(size=(n, 5)))
    days = np.rint(DAY + SPREAD * z[:, 4]).astype("datetime64[D]")
    columns = dict(zip(NUMBERS[:4], z.T, strict=False)) | {"income": np.exp(z[:, 2])}
    columns |= {"city": CITIES[city], "good": GOODS[good], "visits": visits.astype(float)}
    columns |= {"opened": days.astype("datetime64[us]")}
    return pd.DataFrame(columns)[COLUMNS]


def with_gaps(rng: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without one value in ten."""
    return frame.mask(rng.random(frame.shape) < LACKING)


def log_density(frame: pd.DataFrame) -> np.ndarray:
    """log p of the values that are there, of any columns, in nats: a sum over texts and counts."""
    given = frame.reindex(columns=COLUMNS)
    z = np.stack([given[name].astype(float) for name in NUMBERS[:4]], axis=1)
    days = given["opened"].to_numpy("datetime64[D]")
    day = np.where(np.isnat(days), np.nan, days.astype(np.int64).astype(float))
    jacobian = -np.nan_to_num(np.log(z[:, 2])) - np.where(np.isnan(day), 0, np.log(SPREAD))
    z = np.column_stack([z[:, :2], np.log(z[:, 2]), z[:, 3], (day - DAY) / SPREAD])
    visits = given["visits"].to_numpy(float)
    nats = np.empty(len(given))
    patterns, where = np.unique(np.isnan(z), axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        rows, there = np.flatnonzero(where.ravel() == i), np.flatnonzero(~pattern)
        parts = []
        for a, city in enumerate(CITIES):
            cov = (FACTOR[a] @ FACTOR[a].T)[np.ix_(there, there)]
            fits = _agree(given["city"].iloc[rows], city)
            for b, good in enumerate(GOODS):
                of_texts = np.log(CITY[a] * GOOD[a, b]) + fits
                of_texts = of_texts + _agree(given["good"].iloc[rows], good)
                for k in COUNTS:
                    differs = ~np.isnan(visits[rows]) & (visits[rows] != k)
                    found = of_texts + stats.poisson.logpmf(k, RATE[a, b])
                    found = np.where(differs, -np.inf, found)
                    if len(there):
                        mean = MEAN[a, b, there] + SLOPE[there] * k
                        law = stats.multivariate_normal(mean, cov)
                        found = found + np.atleast_1d(law.logpdf(z[np.ix_(rows, there)]))
                    parts.append(found)
        nats[rows] = logsumexp(parts, axis=0)
    return nats + jacobian


def _agree(texts: pd.Series, text: str) -> np.ndarray:
    """0 where a text is this one or missing, −∞ elsewhere."""
    return np.where(texts.isna() | (texts == text), 0.0, -np.inf)


def difference(truth: np.ndarray, model: np.ndarray) -> dict[str, float]:
    gap = truth - np.asarray(model)
    return {"gap": float(gap.mean()), "gap_se": float(gap.std(ddof=1) / np.sqrt(len(gap)))}


def accuracy(frames: list[pd.DataFrame]) -> float:
    """Of a classifier of rows, held out in five folds."""
    both = pd.concat(frames, ignore_index=True)
    both["opened"] = both["opened"].astype("int64")
    texts = ["city", "good"]
    both[texts] = both[texts].astype("category")
    labels = np.repeat([0, 1], [len(frame) for frame in frames])
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    order = np.random.default_rng(0).permutation(len(both))
    return float(cross_val_score(model, both.iloc[order], labels[order], cv=5).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--subsets", type=int, default=10)
    parser.add_argument("--samples", type=int, default=4, help="of a row with a count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole-rows", action="store_true", help="fit without subsets=True")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    train = with_gaps(rng, draw(rng, args.rows))
    options = {"seconds": args.seconds, "random_state": args.seed, "subsets": not args.whole_rows}
    est = ScoreODE(discrete=["visits"], **options).fit(train)
    result = vars(args) | {"out": None, "steps": est.fitted_.steps, "cores": os.cpu_count()}
    result |= {"trained_seconds": est.fitted_.seconds, "machine": platform.machine()}
    print(f"{est.fitted_.steps} steps in {est.fitted_.seconds:.0f} s", flush=True)

    test = with_gaps(rng, draw(rng, args.test))
    there = test.notna().to_numpy()
    pattern = np.where(there, np.log(1 - LACKING), np.log(LACKING)).sum(1)
    began = time.perf_counter()
    nats = est.log_likelihood(test, samples=args.samples).nats
    found = difference(pattern + log_density(test), np.asarray(nats))
    mass = est.fitted_.log_mass(*reversed(est._rows(test, None)))
    result["rows_with_gaps"] = found | {"seconds": time.perf_counter() - began}
    result["mean_log_mass"] = float(np.mean(mass))
    print("rows with gaps: {gap:.4f} ± {gap_se:.4f} nats".format(**found), flush=True)

    result["marginals"] = []
    for _ in range(0 if args.whole_rows else args.subsets):
        size = rng.integers(1, len(COLUMNS))
        columns = [COLUMNS[j] for j in sorted(rng.choice(len(COLUMNS), size, replace=False))]
        rows, began = draw(rng, args.test)[columns], time.perf_counter()
        nats = est.marginal(columns).log_likelihood(rows, samples=args.samples).nats
        found = {"columns": columns} | difference(log_density(rows), np.asarray(nats))
        result["marginals"].append(found | {"seconds": time.perf_counter() - began})
        print("{gap:.4f} ± {gap_se:.4f} nats: {}".format(", ".join(columns), **found), flush=True)

    began = time.perf_counter()
    lacking = with_gaps(rng, draw(rng, 4 * args.test))
    lacking = lacking[lacking.isna().any(axis=1)]
    imputed = est.impute(lacking, random_state=args.seed)
    result["classifier"] = accuracy([draw(rng, len(imputed)), imputed])
    result["seconds_of_imputation"] = time.perf_counter() - began
    print(f"imputed or whole, told with an accuracy of {result['classifier']:.3f}")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
