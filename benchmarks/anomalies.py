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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

FITS = ("default", "whiten", "scale")  # how columns are standardised
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # σ, in standardised units
DENSITY_LEVELS = (0.1, 0.2, 0.4, 0.8)
DRAWS = 8  # of noise a row and level
_TESTED = 1500  # rows of each kind, at most
_REFERENCE = 256  # training rows that are ranked, too
_GRID_STEPS = 16
NOISE = (0.1, 0.3, 1.0)  # in standard deviations of the columns
WIDTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)  # the same, without a fit
_DRAWN = 4000  # rows
_NETWORKS = 2  # of a stack, whose scores at noise levels are averaged
_BOUNDS = 4  # of a row, each over 16 times
Rows = np.ndarray
Scores = dict[str, np.ndarray]


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
    both = np.concatenate([test, train[some]])
    found = parts_of_stack(stack, both)
    usual = np.mean(found["log p"][len(test) :])
    found |= {"typicality": np.abs(found["log p"] - usual)}
    found |= from_noise(stack, both)
    found |= from_draws(stack, train, both)
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


def parts_of_stack(stack: Any, x: Rows) -> Scores:
    """−log p of the stack, of each of its kinds, and of its first diffusion.

    `jacobian` is −log |det ∂T/∂x| of the standardisation z = T(x), whose difference from −log p of
    the diffusions is −log p(z); `latent` is the squared length of what the ODE makes of a row.
    """
    from scipy.special import logsumexp

    from scoreode.flow import Refined

    how = Refined(tolerance=0.05, most_steps=160)
    records = [density.log_likelihood(x, 0, how) for density in stack.densities]
    nats = [np.where(np.isfinite(record.nats), record.nats, -np.inf) for record in records]
    log_dets = [density.standardise(x)[1] for density in stack.densities]
    others = [other.log_likelihood(x) for other in stack.others]
    whole = logsumexp(np.stack([*nats, *others], 1) + np.log(stack.weights), axis=1)
    names = ("tail", "mixture", "kernels")
    return {
        "log p": -whole,
        "diffusions": -mean_density(nats),
        "first diffusion": -nats[0],
        "log p(z)": -mean_density([a - b for a, b in zip(nats, log_dets, strict=True)]),
        "jacobian": -np.mean(log_dets, 0),
        "latent": np.mean([np.sum(np.asarray(record.latent) ** 2, 1) for record in records], 0),
        **{name: -other for name, other in zip(names, others, strict=False)},
    }


def mean_density(nats: list[np.ndarray]) -> np.ndarray:
    """The log of the mean of densities."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(np.stack(nats, 1), axis=1) - np.log(len(nats)))


def from_noise(stack: Any, x: Rows) -> Scores:
    """Scores at noise levels σ, means over two diffusions of the stack.

    - `q σ`: −log q_t(z), the density of data plus noise, at the row without noise.
    - `denoise σ`: E ‖z − E[z_0 | z + σ ε]‖², the error of denoising.
    - `mean denoise σ`: ‖z − E_ε E[z_0 | z + σ ε]‖², its part that is no noise.
    - `score σ`: σ² ‖∇ log q_t(z)‖² at the row without noise.
    - `bound`: the bound on −log p of the SDE.
    """
    found: dict[str, list[np.ndarray]] = {}
    for density in stack.densities[:_NETWORKS]:
        z = density.standardise(x)[0]
        for level in DENSITY_LEVELS:
            found.setdefault(f"q {level}", []).append(log_q(density, z, level))
        for name, values in errors(density, z).items():
            found.setdefault(name, []).append(values)
        bounds = [density.nll_bound(x, draw) for draw in range(_BOUNDS)]
        found.setdefault("bound", []).append(np.mean(bounds, 0))
    return {
        name: -mean_density(all_) if name.startswith("q ") else np.mean(all_, 0)
        for name, all_ in found.items()
    }


def from_draws(stack: Any, train: Rows, x: Rows) -> Scores:
    """−log p of rows with noise of some standard deviations of every column, but for a constant.

    It is estimated from draws of the diffusions (`draws h`), or from training rows (`rows h`).
    """
    k = len(stack.densities)
    parts = [one.sample(_DRAWN // k, x.shape[1], seed=i) for i, one in enumerate(stack.densities)]
    drawn = np.clip(np.concatenate(parts), train.min(0), train.max(0))
    return {
        f"{name} {h}": smooth(rows, x, h)
        for h in NOISE
        for name, rows in (("draws", drawn), ("rows", train))
    }


def smooth(rows: Rows, x: Rows, h: float) -> np.ndarray:
    """−log of a kernel estimate whose bandwidth is h standard deviations."""
    from scipy.spatial.distance import cdist
    from scipy.special import logsumexp

    std = rows.std(0)
    return -np.asarray(
        logsumexp(-cdist(x / std, rows / std, "sqeuclidean") / (2 * h * h), axis=1)
        - np.log(len(rows))
    )


def log_q(density: Any, z: Rows, level: float) -> np.ndarray:
    """log q_t of rows: the ODE begins at σ_t."""
    import equinox as eqx
    import jax.numpy as jnp
    import jax.random as jr

    from scoreode.flow import Given, GridLikelihood, map_rows, rows_at_once, tangents

    process, grid = density.score_model.process, GridLikelihood(n_steps=_GRID_STEPS)
    later = eqx.tree_at(lambda process: process.t_min, process, time_of(process, level))
    d = z.shape[1]
    chunk = rows_at_once(d, tangents(grid.probe, grid.n_probes, d))
    shared = density.score_model, later, jr.key(0)
    nats = np.asarray(map_rows(Given(grid), shared, (jnp.asarray(z), None), chunk).nats)
    return np.where(np.isfinite(nats), nats, -np.inf)


def time_of(process: Any, level: float) -> Any:
    import jax.numpy as jnp

    return process.t_of_log_snr(jnp.asarray(-2 * np.log(level), jnp.float32))


def errors(density: Any, z: Rows) -> Scores:
    """What the network makes of rows at every level."""
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    from scoreode.flow import map_rows, rows_at_once

    times = jnp.stack([time_of(density.score_model.process, level) for level in LEVELS])
    keys = jax.vmap(lambda i: jr.fold_in(jr.key(0), i))(jnp.arange(len(z)))
    chunk = rows_at_once(z.shape[1], DRAWS)
    found = map_rows(_errors, (density.score_model, times), (keys, z), chunk)
    names = ("denoise", "mean denoise", "score")
    return {
        f"{name} {level}": np.asarray(values[:, j], np.float64)
        for name, values in zip(names, found, strict=True)
        for j, level in enumerate(LEVELS)
    }


def _errors(score: Any, times: Any, key: Any, z: Any) -> Any:
    """‖z − D‖² over draws, ‖z − mean D‖², ‖σ s‖² of one row at every time, with Tweedie's D."""
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    eps, process = jr.normal(key, (DRAWS, *z.shape), z.dtype), score.process

    def at(t: Any) -> Any:
        alpha, sigma = process.alpha(t), process.sigma(t)

        def difference(eps: Any) -> Any:
            x = alpha * z + sigma * eps
            return z - (x + sigma**2 * score(x, t)) / alpha

        off = jax.vmap(difference)(eps)
        clean = sigma * score(alpha * z, t)
        return jnp.mean(jnp.sum(off**2, 1)), jnp.sum(jnp.mean(off, 0) ** 2), jnp.sum(clean**2)

    return jax.vmap(at)(times)


# --- Peers -------------------------------------------------------------------------------------


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
        for name, score in peers(seed).items():
            began = time.perf_counter()
            found[name] = np.asarray(score(train, test), np.float64)
            seconds[name] = time.perf_counter() - began
        write(target, y, found, {"seconds": seconds})


def peers(seed: int) -> dict[str, Callable[[Rows, Rows], np.ndarray]]:
    """Every other detector: a function of training rows and rows to rank, standardised."""
    from sklearn.covariance import EmpiricalCovariance
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

    def isolation_forest(train: Rows, test: Rows) -> np.ndarray:
        return -IsolationForest(random_state=seed).fit(train).score_samples(test)

    def lof(train: Rows, test: Rows) -> np.ndarray:
        return -LocalOutlierFactor(novelty=True).fit(train).score_samples(test)

    def distances(train: Rows, test: Rows) -> np.ndarray:
        near = NearestNeighbors(n_neighbors=min(5, len(train))).fit(train)
        return near.kneighbors(test)[0]

    return {
        "isolation forest": isolation_forest,
        "LOF": lof,
        "5th neighbour": lambda train, test: distances(train, test)[:, -1],
        "5 neighbours": lambda train, test: distances(train, test).mean(1),
        "Gaussian": lambda train, test: EmpiricalCovariance().fit(train).mahalanobis(test),
        "mixture (BIC)": lambda train, test: mixture(train, seed, held_out=False)(test),
        "mixture (validation)": lambda train, test: mixture(train, seed, held_out=True)(test),
        "kernels": kernels,
        **{f"noise {h}": partial(smooth, h=h) for h in WIDTHS},
        **pyod(seed),
    }


def mixture(train: Rows, seed: int, held_out: bool) -> Callable[[Rows], np.ndarray]:
    """−log p of a Gaussian mixture of 1 to 16 components, as many as the criterion says."""
    from sklearn.mixture import GaussianMixture

    def fit(k: int, rows: Rows) -> Any:
        return GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(rows)

    a, b = parts(train)
    numbers = [k for k in (1, 2, 3, 4, 6, 8, 12, 16) if k == 1 or 5 * k <= len(a)]
    if held_out:
        best = fit(max(numbers, key=lambda k: fit(k, a).score(b)), train)
    else:
        best = min((fit(k, train) for k in numbers), key=lambda model: model.bic(train))
    return lambda test: -best.score_samples(test)


def parts(train: Rows) -> tuple[Rows, Rows]:
    """Four fifths of the rows, and the last fifth."""
    order = np.random.default_rng(0).permutation(len(train))
    return train[order[len(train) // 5 :]], train[order[: len(train) // 5]]


def kernels(train: Rows, test: Rows) -> np.ndarray:
    """−log p of normal kernels, of the bandwidth that explains a fifth of the rows best."""
    from scipy.spatial.distance import cdist
    from scipy.special import logsumexp

    def nats(h: float, squares: np.ndarray, d: int) -> np.ndarray:
        return np.asarray(logsumexp(-squares / (2 * h * h), axis=1) - d * np.log(h))

    a, b = parts(train)
    squares, d = cdist(b[:512], a, "sqeuclidean"), train.shape[1]
    best = max(np.geomspace(0.05, 2, 16).tolist(), key=lambda h: np.mean(nats(h, squares, d)))
    return -nats(best, cdist(test, train, "sqeuclidean"), d)


def pyod(seed: int) -> dict[str, Callable[[Rows, Rows], np.ndarray]]:
    """Detectors that scikit-learn lacks, as PyOD has them."""
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.hbos import HBOS
    from pyod.models.inne import INNE
    from pyod.models.mcd import MCD
    from pyod.models.ocsvm import OCSVM
    from pyod.models.pca import PCA

    made: dict[str, Callable[[], Any]] = {
        "ECOD": ECOD,
        "COPOD": COPOD,
        "HBOS": HBOS,
        "INNE": lambda: INNE(random_state=seed),
        "MCD": lambda: MCD(random_state=seed),
        "one-class SVM": OCSVM,
        "PCA": lambda: PCA(random_state=seed),
    }

    def score(make: Callable[[], Any]) -> Callable[[Rows, Rows], np.ndarray]:
        return lambda train, test: make().fit(train).decision_function(test)

    return {name: score(make) for name, make in made.items()}


# --- When the score is of no use ---------------------------------------------------------------


def run_limits(args: argparse.Namespace) -> None:
    """Mean AUROC over sets and seeds of `ScoreODE.anomaly_score` and of an isolation forest."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, list[tuple[float, float]]] = {}
    for file, seed in work(args):
        train, test, y = split(file, seed, args.rows)
        forest = peers(seed)["isolation forest"]
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
