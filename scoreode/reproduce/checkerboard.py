"""Figure 4: model densities on the checkerboard."""

from dataclasses import replace
from typing import Any

import numpy as np

from scoreode.data import sources
from scoreode.flow import GridLikelihood
from scoreode.report import figures
from scoreode.reproduce import paper
from scoreode.reproduce.orders import ORDERS, Reproduced, nll_and_kl, table, train
from scoreode.train import RunFolder

_TEST_ROWS = {True: 4000, False: 20_000}  # by `quick`
_FOR_EYES = GridLikelihood(n_steps=24)  # a colour shows no more
_GRID = {True: 80, False: 128}


def checkerboard(folder: RunFolder, *, quick: bool, seed: int) -> Reproduced:
    """Figure 4: the densities of VE ScoreODEs of order 1, 2, 3 on the checkerboard.

    Test NLL less the data's entropy is KL(q_0 ‖ p_0), in nats. Writes a run for every order,
    densities.png, and summary.json. VE's prior has variance 1 + σ_max² for standardised data; the
    authors' prior has variance σ_max².
    """
    data = sources.load_data("checkerboard", seed)
    entropy = sources.TOYS["checkerboard"].entropy
    test, grid = data.test[: _TEST_ROWS[quick]], figures.window(_GRID[quick])
    panels = {"data": np.where(_on_board(grid), 1 / 32, 0.0)}
    orders: dict[str, Any] = {}
    for order in ORDERS:
        run = replace(paper.checkerboard(order, quick=quick), seed=seed)
        fitted = train(folder, f"order-{order}", run, data)
        orders[str(order)] = nll_and_kl(fitted, test, entropy)
        panels[f"order {order}"] = np.exp(fitted.density.log_likelihood(grid, how=_FOR_EYES).nats)
    figures.write(figures.densities(panels), folder.path / "densities.png")
    summary = {"name": "checkerboard", "quick": quick, "entropy": entropy, "orders": orders}
    folder.write_summary(summary)
    return Reproduced(summary, f"{table(summary)}\nfigure: {folder.path / 'densities.png'}")


def _on_board(x: np.ndarray) -> np.ndarray:
    """Which points lie on the checkerboard's dark squares."""
    inside = np.all(np.abs(x) < 4, axis=1)
    return inside & (np.sum(np.floor(x / 2), axis=1) % 2 == 0)
