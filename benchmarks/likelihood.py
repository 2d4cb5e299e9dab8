"""What does an exact log-density cost, for a given error?

    python benchmarks/likelihood.py RUN DATA --rows 512 5000 --out likelihood.json --plot plot.png

Schemes take turns in one process on the same trained weights: the grid in log-SNR at several sizes,
its refinement (the default), Diffrax's Tsit5 and Dopri8 with steps of every row's own, and the
usual way, SciPy's RK45 on the host around the compiled field of the whole batch; with --peers also
around an eager copy of the network in PyTorch, and torchdiffeq's dopri5 (`torch_peers.py`). All
divergences are exact. Errors are against Diffrax's Dopri8 at 1e-11 in float64; times are medians
over repeats, without compilation. Written out: the error, network evaluations and time of every
setting at the first number of rows, and of each scheme's fastest with a mean error of at most 1e-3
nats at the others.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.integrate import solve_ivp

from scoreode.calculus import Basis, divergence
from scoreode.data import sources, tables
from scoreode.flow import (
    GridLikelihood,
    Likelihood,
    LogLikelihood,
    Refined,
    Solver,
    map_rows,
    rows_at_once,
    velocity,
)
from scoreode.score import ScoreModel
from scoreode.train import saved

ENOUGH = 1e-3  # nats
Scheme = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""Rows to log-densities in nats, and the mean number of evaluations a row."""


def double(tree: Any) -> Any:
    """The same arrays in float64."""
    return jax.tree.map(lambda a: a.astype(np.float64) if eqx.is_inexact_array(a) else a, tree)


def reference(model: ScoreModel, z: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        exact = double(model)
        how = Likelihood(Basis(), solver=Solver(1e-11, 1e-11, 100_000, dfx.Dopri8()))
        shared = exact, exact.process, jr.key(0)
        return map_rows(how, shared, (z.astype(np.float64),), min(64, len(z))).nats


def host_scipy(model: ScoreModel, rtol: float) -> Scheme:
    """RK45 on the host, one step size for the batch, around the compiled field."""
    process = model.process

    @jax.jit
    @jax.vmap
    def field(t: Any, x: Any) -> tuple:
        probes = Basis().draw(jr.key(0), x.size, x.size, x.dtype)
        return divergence(lambda x: velocity(model, process, x, t), x, probes, exact=True)

    def scheme(z: np.ndarray) -> np.ndarray:
        n, d = z.shape

        def rates(t: float, y: np.ndarray) -> np.ndarray:
            x = jnp.asarray(y[: n * d].reshape(n, d), jnp.float32)
            h, change = field(jnp.full(n, t, jnp.float32), x)
            return np.concatenate([np.asarray(h).ravel(), np.asarray(change).ravel()])

        y = np.concatenate([z.ravel(), np.zeros(n)])
        span = process.t_min, process.t_max
        solution = solve_ivp(rates, span, y, rtol=rtol, atol=rtol, method="RK45")
        y_T = solution.y[:, -1]
        x_T = jnp.asarray(y_T[: n * d].reshape(n, d))
        prior = np.asarray(jax.vmap(process.prior_log_density)(x_T))
        return prior + y_T[n * d :], solution.nfev

    return scheme


def schemes(model: ScoreModel, peers: bool) -> dict[str, dict[str, Scheme]]:
    """By name, and by setting from coarse to fine."""
    shared = model, model.process, jr.key(0)

    def told(record: LogLikelihood) -> tuple[np.ndarray, float]:
        return np.asarray(record.nats), float(np.mean(record.nfe))

    def rows(how: Any) -> Scheme:
        return lambda z: told(map_rows(how, shared, (z,), rows_at_once(z.shape[1], z.shape[1])))

    def adaptive(method: Any) -> Callable[[float], Scheme]:
        return lambda tol: rows(Likelihood(Basis(), solver=Solver(tol, tol, method=method)))

    def by_tolerance(make: Callable[[float], Scheme]) -> dict[str, Scheme]:
        return {f"{tol:g}": make(tol) for tol in (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)}

    grids = (16, 20, 24, 28, 32, 36, 40, 48, 64, 96)
    found = {
        "grid": {str(n): rows(GridLikelihood(Basis(), n_steps=n)) for n in grids},
        "refined (default)": {"default": lambda z: told(Refined(stderr=0)(*shared, z))},
        "Tsit5 by row": by_tolerance(adaptive(dfx.Tsit5())),
        "Dopri8 by row": by_tolerance(adaptive(dfx.Dopri8())),
        "SciPy RK45, compiled field": by_tolerance(partial(host_scipy, model)),
    }
    if peers:
        from torch_peers import eager_scipy, torchdiffeq_dopri5

        found["SciPy RK45, eager torch"] = by_tolerance(partial(eager_scipy, model))
        found["torchdiffeq dopri5"] = by_tolerance(partial(torchdiffeq_dopri5, model))
    return found


def choose(found: dict[str, dict[str, Scheme]], only: list[str]) -> dict[str, dict[str, Scheme]]:
    """Of all schemes those named, with these of their settings; all of them by default."""
    if not only:
        return found
    pairs = (choice.split("=") for choice in only)
    return {name: {key: found[name][key] for key in keys.split(",")} for name, keys in pairs}


def measure(
    found: dict[str, dict[str, Scheme]], z: np.ndarray, truth: np.ndarray, repeats: int
) -> list[dict[str, Any]]:
    """Error and seconds of every setting; all settings take turns in every repeat."""
    settings = [(name, key, scheme) for name, by in found.items() for key, scheme in by.items()]
    first = [scheme(z) for *_, scheme in settings]
    errors = [np.abs(nats[: len(truth)] - truth) for nats, _ in first]
    seconds: list[list[float]] = [[] for _ in settings]
    for _ in range(repeats):
        for spent, (*_, scheme) in zip(seconds, settings, strict=True):
            started = time.perf_counter()
            scheme(z)
            spent.append(time.perf_counter() - started)
    return [
        {
            "scheme": name,
            "setting": key,
            "rows": len(z),
            "mean_error": float(error.mean()),
            "max_error": float(error.max()),
            "nfe": nfe,
            "seconds": statistics.median(spent),
        }
        for (name, key, _), error, (_, nfe), spent in zip(
            settings, errors, first, seconds, strict=True
        )
    ]


def cheapest(results: list[dict[str, Any]], rows: int) -> dict[str, dict[str, Any]]:
    """For every scheme its fastest setting of those with a mean error of at most `ENOUGH`."""
    best: dict[str, dict[str, Any]] = {}
    for row in results:
        if row["rows"] == rows and row["mean_error"] <= ENOUGH:
            kept = best.setdefault(row["scheme"], row)
            best[row["scheme"]] = min(kept, row, key=lambda row: row["seconds"])
    return best


def fastest(
    found: dict[str, dict[str, Scheme]], best: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Scheme]]:
    """The settings that were the cheapest of their scheme."""
    return {name: {row["setting"]: found[name][row["setting"]]} for name, row in best.items()}


def plot(results: list[dict[str, Any]], rows: int, path: Path) -> None:
    """Mean error against seconds and against evaluations of the network."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    labels = {"seconds": f"seconds for {rows} rows", "nfe": "network evaluations a row"}
    for axis, (cost, label) in zip(axes, labels.items(), strict=True):
        for name in dict.fromkeys(row["scheme"] for row in results):
            some = [row for row in results if row["scheme"] == name and row["rows"] == rows]
            points = [(row[cost], row["mean_error"]) for row in some]
            axis.plot(*zip(*points, strict=True), "o-", label=name)
        axis.axhline(ENOUGH, color="0.7", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set(ylabel="mean error, nats")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, nargs="+", default=[512, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checked", type=int, default=256, help="rows whose error is measured")
    parser.add_argument("--only", nargs="+", default=[], help="SCHEME=SETTING,SETTING …")
    parser.add_argument("--peers", action="store_true", help="PyTorch's too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    fitted = saved.load(args.run)
    named = args.data in sources.DATA_NAMES
    rows = sources.load_data(args.data, 0).test if named else tables.read(args.data)[0]["test"]
    if fitted.dequantisation is not None:
        rows = fitted.dequantisation.dequantise(rows, 0)
    z, *_ = fitted.density.standardise(np.resize(rows, (max(args.rows), rows.shape[1])))
    model = fitted.density.score_model
    truth = reference(model, z[: args.checked])
    found = choose(schemes(model, args.peers), args.only)
    results: list[dict[str, Any]] = []
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "jax": metadata.version("jax"),
    }
    for n in args.rows:
        results += measure(found, z[:n], truth[:n], args.repeats)
        best = cheapest(results, n)
        found = fastest(found, best)
        for name, row in best.items():
            error = f"mean error {row['mean_error']:.1e}, most {row['max_error']:.1e}"
            print(f"{n:5} rows  {name:26} {row['setting']:>8}  {row['seconds']:7.2f} s  {error}")
        if args.out:
            result = {"data": args.data, "d": z.shape[1], **machine, "results": results}
            args.out.write_text(json.dumps(result, indent=1) + "\n")
        if args.plot:
            plot(results, args.rows[0], args.plot)


if __name__ == "__main__":
    main()
