"""Figures of the paper from one call: the same network, steps and data for every order."""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from scoreode import fitting, recipes
from scoreode.flow import Likelihood, Solver
from scoreode.report import figures
from scoreode.report.progress import shown
from scoreode.train import RunFolder

ORDERS = (1, 2, 3)
_TEST_ROWS = {True: 4000, False: 20_000}  # by `quick`
# Errors of a row of 2e-3 nats, of their mean of 7e-4: a third of the mean's standard error or less.
_FOR_MEANS = Likelihood(solver=Solver(rtol=1e-4, atol=1e-4))
_FOR_EYES = Likelihood(solver=Solver(rtol=1e-3, atol=1e-3))  # a colour shows no more
_GRID = {True: 80, False: 128}


def checkerboard(folder: RunFolder, *, quick: bool, seed: int) -> dict[str, Any]:
    """Figure 4: the densities of VE ScoreODEs of order 1, 2, 3 on the checkerboard.

    Test NLL less the data's entropy is KL(q_0 ‖ p_0), in nats. Writes a run for every order,
    densities.png, and summary.json; prints and returns the summary.
    """
    data = recipes.load_data("checkerboard", seed)
    entropy = recipes.TOYS["checkerboard"].entropy
    test, grid = data.test[: _TEST_ROWS[quick]], figures.window(_GRID[quick])
    panels = {"data": np.where(_on_board(grid), 1 / 32, 0.0)}
    orders: dict[str, Any] = {}
    for order in ORDERS:
        run = replace(recipes.checkerboard(order, quick=quick), seed=seed)
        with shown(f"order {order}") as observe:
            fitted = _trained(folder, run, data, f"order-{order}", observe)
        started = time.perf_counter()
        record = fitted.density.log_likelihood(test, how=_FOR_MEANS)
        nll, stderr = -np.mean(record.nats), np.std(record.nats) / len(test) ** 0.5
        orders[str(order)] = {
            "nll": float(nll),
            "nll_stderr": float(stderr),
            "kl": float(nll - entropy),
            "nfe_mean": float(np.mean(record.nfe)),
            "unconverged": int(np.sum(~record.converged)),
            "train_seconds": fitted.seconds,
            "nll_seconds": time.perf_counter() - started,
        }
        panels[f"order {order}"] = np.exp(fitted.density.log_likelihood(grid, how=_FOR_EYES).nats)
    figures.write(figures.densities(panels), folder.path / "densities.png")
    summary = {"name": "checkerboard", "quick": quick, "entropy": entropy, "orders": orders}
    folder.write_summary(summary)
    print(table(summary))
    print(f"figure: {folder.path / 'densities.png'}")
    return summary


def table(summary: dict[str, Any]) -> str:
    """NLL and KL by order, in nats, as aligned text."""
    lines = ["order    NLL (nats)          KL to the data    training"]
    for order, row in summary["orders"].items():
        lines.append(
            f"{order:5}    {row['nll']:.4f} ± {row['nll_stderr']:.4f}     {row['kl']:.4f}"
            f"            {row['train_seconds']:.0f} s"
        )
    return "\n".join([*lines, f"best possible NLL: {summary['entropy']:.4f} (the entropy)"])


def _trained(
    parent: RunFolder, run: recipes.Run, data, name: str, observe: fitting.Observer
) -> fitting.Fitted:
    folder = RunFolder.create(parent.path / name)
    fitting.write_config(folder, run, fitting.described(data))
    return fitting.Trainer(run, data, fitting.fresh_density(run, data), folder).fit(observe)


def _on_board(x: np.ndarray) -> np.ndarray:
    """Which points lie on the checkerboard's dark squares."""
    inside = np.all(np.abs(x) < 4, axis=1)
    return inside & (np.sum(np.floor(x / 2), axis=1) % 2 == 0)
