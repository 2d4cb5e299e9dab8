"""Is the default fit of a small table ever worse than what is simple?

    pip install -r benchmarks/requirements.txt
    python benchmarks/small.py run --tables iris,wine --splits 0,1 --out FOLDER
    python benchmarks/small.py summarise FOLDER --json small.json --page docs/choosing.md
    python benchmarks/small.py stack --tables heart,law --json stack.json

Twelve tables with 142 to 2100 rows to train on: four of scikit-learn, four of statsmodels, and four
known laws. `run` fits `ScoreODE()` and three others to 70 % of the rows, columns in standard
deviations, and leaves the log-densities of the other 30 % in FOLDER: a Gaussian, a mixture of 1 to
16 Gaussians and a kernel density estimate, the last two by five-fold cross-validation.

`summarise` pairs the fit with the best of the three, by the mean over the same rows in nats, and
has the worst row of both, and seconds; a page gets the means over splits.

`stack` asks what the stack gains on small tables with categories and gaps: `ScoreODE()` less
`ScoreODE(stack=False)` on the same rows, in nats.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from gaps import draw, with_gaps
from page import put
from sklearn import datasets
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from scoreode import ScoreODE
from scoreode.theory import Estimate

_NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16)
_BANDWIDTHS = np.geomspace(0.05, 1.2, 12)
_LARGE_AND_SMALL = ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "m1", "pop")


def diabetes() -> np.ndarray:
    """Without the column of two values."""
    return np.delete(datasets.load_diabetes(scaled=False).data, 1, 1)


def districts() -> np.ndarray:
    """Ten columns of California's school districts."""
    names = "LOWINC PERASIAN PERBLACK PERHISP PERMINTE AVYRSEXP AVSALK PERSPENK PTRATIO PCTAF"
    return statsmodels("star98")[names.split()].to_numpy(float)


def macro() -> np.ndarray:
    """Growth rates of the American economy by quarters, and three levels."""
    frame = statsmodels("macrodata")
    growth = np.diff(np.log(frame[list(_LARGE_AND_SMALL)].to_numpy(float)), axis=0)
    return np.column_stack([growth, frame[["tbilrate", "unemp", "infl"]].to_numpy(float)[1:]])


def statsmodels(name: str) -> Any:
    from statsmodels import datasets

    return getattr(datasets, name).load_pandas().data


def prices() -> np.ndarray:
    """3000 rows of seven log-normal columns, of which eight values have a wrong unit."""
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal(np.zeros(7), 0.5 * np.eye(7) + 0.5, 3000)
    x = np.exp(z * np.linspace(0.3, 1.2, 7) + np.arange(7))
    wrong = rng.random(x.shape) < 0.0005
    x[wrong] *= 10.0 ** rng.integers(2, 4, wrong.sum())
    return x


def student() -> np.ndarray:
    """500 rows of a t law with 3 degrees of freedom in five dimensions."""
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal(np.zeros(5), 0.4 * np.eye(5) + 0.6, 500)
    return z / np.sqrt(rng.chisquare(3, (500, 1)) / 3)


TABLES: dict[str, Callable[[], np.ndarray]] = {
    "iris": lambda: datasets.load_iris().data,
    "wine": lambda: datasets.load_wine().data,
    "diabetes": diabetes,
    "cancer": lambda: datasets.load_breast_cancer().data,
    "districts": districts,
    "engel": lambda: statsmodels("engel").to_numpy(float),
    "macro": macro,
    "counties": lambda: np.log(statsmodels("cancer").to_numpy(float) + 1),
    "moons": lambda: datasets.make_moons(300, noise=0.05, random_state=0)[0],
    "swissroll": lambda: datasets.make_swiss_roll(500, noise=0.3, random_state=0)[0],
    "prices": prices,
    "student": student,
}


def labelled(load: Callable[[], Any]) -> pd.DataFrame:
    """A data set of scikit-learn, its classes as a category."""
    found = load()
    return (
        pd.DataFrame(found.data).rename(columns=str).assign(kind=found.target_names[found.target])
    )


def as_categories(name: str, numbers: Sequence[str], categories: Sequence[str]) -> pd.DataFrame:
    frame = statsmodels(name)
    return frame[list(numbers)].astype(float).join(frame[list(categories)].astype("category"))


def gapped(frame: pd.DataFrame) -> pd.DataFrame:
    """Without one value in ten."""
    return with_gaps(np.random.default_rng(0), frame)


MIXED: dict[str, Callable[[], pd.DataFrame]] = {
    "heart": lambda: as_categories("heart", ["survival", "age"], ["censors"]),
    "iris": lambda: labelled(datasets.load_iris),
    "wine": lambda: labelled(datasets.load_wine),
    "choice": lambda: as_categories("modechoice", ["ttme", "invc", "invt", "hinc"], ["mode"]),
    "iris-gaps": lambda: gapped(labelled(datasets.load_iris)),
    "wine-gaps": lambda: gapped(labelled(datasets.load_wine)),
    "macro-gaps": lambda: gapped(pd.DataFrame(macro()).rename(columns=str)),
    "law": lambda: draw(np.random.default_rng(0), 1000).drop(columns="opened"),
    "law-gaps": lambda: gapped(draw(np.random.default_rng(0), 1000).drop(columns="opened")),
}


def split(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """70 % of the rows to train on, the others to test, columns in standard deviations."""
    x = TABLES[name]()
    x = (x - x.mean(0)) / x.std(0)
    order = np.random.default_rng(seed).permutation(len(x))
    n_test = int(0.3 * len(x))
    return x[order[n_test:]], x[order[:n_test]]


def best(make: Callable[[Any], Any], choices: Sequence[Any], x: np.ndarray) -> Any:
    """The estimator whose choice explains left-out rows best, fitted to all."""
    folds = np.array_split(np.random.default_rng(0).permutation(len(x)), 5)

    def nats(choice: Any) -> float:
        parts = ((np.delete(x, fold, 0), x[fold]) for fold in folds)
        return sum(float(np.sum(make(choice).fit(a).score_samples(b))) for a, b in parts)

    return make(max(choices, key=nats)).fit(x)


def simple(x: np.ndarray) -> dict[str, Any]:
    """The three others, fitted."""

    def mixture(k: int) -> GaussianMixture:
        return GaussianMixture(k, reg_covar=1e-3, n_init=2, random_state=0)

    return {
        "Gaussian": GaussianMixture(1, reg_covar=1e-6).fit(x),
        "mixture": best(mixture, _NUMBERS, x),
        "kernels": best(lambda h: KernelDensity(bandwidth=h), _BANDWIDTHS.tolist(), x),
    }


def run(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")  # of values that repeat and lie far out: real tables have some
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.tables.split(",") if args.tables else TABLES:
        for seed in map(int, args.splits.split(",")):
            file = args.out / f"{name}-{seed}.npz"
            if file.exists():
                continue
            train, test = split(name, seed)
            began = time.perf_counter()
            est = ScoreODE(random_state=seed).fit(train)
            seconds = time.perf_counter() - began
            record = est.log_likelihood(test)
            known = {"rows": len(train), "columns": train.shape[1], "seconds": seconds}
            known |= {"unconverged": int(np.sum(~np.asarray(record.converged)))}
            known |= {"shares": est.fitted_.summary.get("stack")}
            found = {kind: other.score_samples(test) for kind, other in simple(train).items()}
            np.savez(file, record=json.dumps(known), scoreode=np.asarray(record.nats), **found)
            print(name, seed, f"{np.mean(record.nats):.3f}", known, flush=True)


def gain_of_stack(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    records = []
    for name in args.tables.split(",") if args.tables else MIXED:
        for seed in map(int, args.splits.split(",")):
            frame = MIXED[name]()
            order = np.random.default_rng(seed).permutation(len(frame))
            test, train = np.split(order, [int(0.3 * len(frame))])
            record: dict[str, Any] = {"table": name, "split": seed, "rows": len(train)}
            nats = []
            for stack in (False, True):
                discrete = ["visits"] if "visits" in frame else None
                est = ScoreODE(stack=stack, steps=args.steps, discrete=discrete, random_state=seed)
                began = time.perf_counter()
                est.fit(frame.iloc[train])
                nats.append(est.score_samples(frame.iloc[test]))
                known = {"seconds": time.perf_counter() - began, "nats": float(np.mean(nats[-1]))}
                known |= {
                    "worst": float(np.min(nats[-1])),
                    "shares": est.fitted_.summary.get("stack"),
                }
                record["stack" if stack else "alone"] = known
            gain = Estimate.from_samples(nats[1] - nats[0])
            record |= {"gain": float(gain.value), "gain_stderr": float(gain.stderr)}
            print(record, flush=True)
            records.append(record)
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")


def summarise(args: argparse.Namespace) -> None:
    records = [read(file) for file in sorted(args.folder.glob("*.npz"))]
    for record in records:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()})
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")
    if args.page:
        put(args.page, "small.py", markdown(records))


def markdown(records: list[dict[str, Any]]) -> str:
    """A row for every table, with the standard error over splits, and the least likely rows."""
    lines = [
        "| table | rows × columns | best of the three | default | gain | least gain | worst row |",
        "|---|---|---|---|---|---|---|",
    ]
    for table in TABLES:
        splits = [r for r in records if r["table"] == table]
        if not splits:
            continue
        gain = Estimate.from_samples(np.array([r["gain"] for r in splits]))
        least = min(splits, key=lambda r: r["gain"])
        others, own = (np.mean([r[k] for r in splits]) for k in ("nats_of_others", "nats"))
        worst = [min(r[k] for r in splits) for k in ("worst_of_others", "worst")]
        names = sorted({r["best_of_others"] for r in splits})
        cells = [
            f"{table} | {splits[0]['rows']} × {splits[0]['columns']}",
            f"{others:.2f} ({', '.join(names)}) | {own:.2f}",
            f"{gain.value:+.2f} ± {gain.stderr:.2f}",
            f"{least['gain']:+.2f} ± {least['gain_stderr']:.2f}",
            f"{worst[0]:.0f} → {worst[1]:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |".replace("-", "−"))
    return "\n".join(lines)


def read(file: Path) -> dict[str, Any]:
    """The fit of a split beside the best of the others."""
    arrays = np.load(file)
    table, _, seed = file.stem.rpartition("-")
    others = {name: arrays[name] for name in ("Gaussian", "mixture", "kernels")}
    name = max(others, key=lambda name: float(np.mean(others[name])))
    gain = Estimate.from_samples(arrays["scoreode"] - others[name])
    return {
        "table": table,
        "split": int(seed),
        "nats": float(np.mean(arrays["scoreode"])),
        "worst": float(np.min(arrays["scoreode"])),
        "best_of_others": name,
        "nats_of_others": float(np.mean(others[name])),
        "worst_of_others": float(np.min(others[name])),
        "gain": float(gain.value),
        "gain_stderr": float(gain.stderr),
        **json.loads(str(arrays["record"])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("--tables", help="by default all")
    one.add_argument("--splits", default="0")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(call=run)
    two = commands.add_parser("summarise")
    two.add_argument("folder", type=Path)
    two.add_argument("--json", type=Path)
    two.add_argument("--page", type=Path, help="where the table is put")
    two.set_defaults(call=summarise)
    three = commands.add_parser("stack")
    three.add_argument("--tables", help="by default all with categories or gaps")
    three.add_argument("--splits", default="0")
    three.add_argument("--steps", type=int)
    three.add_argument("--json", type=Path)
    three.set_defaults(call=gain_of_stack)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
