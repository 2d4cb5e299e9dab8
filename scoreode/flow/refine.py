"""Log-densities of many rows to a tolerance: a coarse grid for all, finer ones for those in need.

Each row is solved on the coarsest grid, and again with twice the steps until its estimated error is
below the tolerance. Rows that are done drop out, and what is left fills whole chunks again. A row's
value depends on itself alone, and every grid is compiled once.
"""

from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from scoreode._typing import ScoreFunction
from scoreode.calculus import AbstractProbe
from scoreode.flow.batch import CHUNK, map_rows
from scoreode.flow.grid import GridLikelihood
from scoreode.flow.likelihood import DEFAULT_PROBES, LogLikelihood
from scoreode.process import AbstractProcess

FEW = 64  # rows that a finer grid is solved for at a time


class Refined(eqx.Module):
    """Log-densities to a tolerance, by grids of `n_steps` and of twice as many up to `most_steps`.

    **Arguments:** `tolerance`, of the estimated error, in nats for densities up to 100 nats and a
    hundredth of it in |log p| beyond; `probe` and `n_probes`, as for `Likelihood`. By default the
    mean error of trained models is below 1e-3 nats, and the largest below 1e-2.
    """

    tolerance: float = 5e-3
    probe: AbstractProbe | None = None
    n_probes: int = DEFAULT_PROBES
    n_steps: int = 40
    most_steps: int = 1280

    def __check_init__(self) -> None:
        if self.most_steps < self.n_steps:
            raise ValueError(f"most_steps={self.most_steps}: at least n_steps, {self.n_steps}")

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        key: PRNGKeyArray,
        x: Float[np.ndarray, "n ..."],
        chunk: int = CHUNK,
    ) -> LogLikelihood:
        """log p_0 of every row, in NumPy arrays; rows beyond the finest grid are not converged.

        **Cost:** 2 `n_steps` + 2 evaluations of the score a row, half of them with tangents; `nfe`
        counts those of all its grids.
        """
        found, rows, nfe = None, np.arange(len(x)), 0
        for n_steps in self._grids():
            how = GridLikelihood(self.probe, self.n_probes, n_steps)
            finer = map_rows(
                how, (score, process, key), (x[rows],), chunk if found is None else FEW
            )
            finer = eqx.tree_at(lambda record: record.nfe, finer, finer.nfe + nfe)
            found = finer if found is None else _replaced(found, rows, finer)
            nfe += 2 * n_steps + 2
            # Rounding alone keeps a density of many nats, far from all data, from being closer.
            enough = self.tolerance * np.maximum(1, np.abs(finer.nats) / 100)
            rows = rows[~(finer.error <= enough)]
            if not len(rows):
                return found
        assert found is not None
        unconverged = np.isin(np.arange(len(x)), rows)
        return eqx.tree_at(lambda r: r.converged, found, found.converged & ~unconverged)

    def _grids(self) -> Iterator[int]:
        n_steps = self.n_steps
        while n_steps <= self.most_steps:
            yield n_steps
            n_steps *= 2


def _replaced(record: LogLikelihood, rows: np.ndarray, finer: LogLikelihood) -> LogLikelihood:
    def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        old = np.array(old)
        old[rows] = new
        return old

    return jax.tree.map(put, record, finer)
