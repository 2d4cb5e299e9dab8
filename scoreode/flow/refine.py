"""Log-densities of many rows to a tolerance: few steps and probes for all, more for those in need.

Each row is solved on the coarsest grid, and again with twice the steps until its estimated error is
below the tolerance, and, where a standard error is asked for, again with as many probes as that
should take, or the exact divergence if it would take as many. Rows that are done drop out, and what
is left fills whole chunks again. A row's value depends on itself alone, and every pair of a grid
and a number of probes is compiled once.
"""

from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from scoreode._typing import ScoreFunction
from scoreode.calculus import AbstractProbe, Basis
from scoreode.flow.grid import GridLikelihood
from scoreode.flow.likelihood import DEFAULT_PROBES, LogLikelihood, tangents
from scoreode.flow.parallel import map_rows, rows_at_once
from scoreode.process import AbstractProcess
from scoreode.score import Given

FEW = 64  # rows that are solved for again at a time
EXACT = 0  # in place of a number of probes
_UNDER_NOISE = 50  # times less than the probes' standard error, an error tells nothing


class Refined(eqx.Module):
    """Log-densities to a tolerance, by grids of `n_steps` and of twice as many up to `most_steps`.

    **Arguments:** `tolerance`, of the estimated error, in nats, or in % of |log p| above 100 nats;
    a fiftieth of the probes' standard error suffices; `probe` and `n_probes`, as for `Likelihood`,
    to begin with; `stderr`, the largest standard error in nats that a row may have from its probes,
    0 for the exact divergence. By default the mean error of trained models is below 1e-3 nats, and
    the largest below 1e-2.
    """

    tolerance: float = 5e-3
    probe: AbstractProbe | None = None
    n_probes: int = DEFAULT_PROBES
    n_steps: int = 40
    most_steps: int = 1280
    stderr: float | None = None

    def __check_init__(self) -> None:
        if self.most_steps < self.n_steps:
            raise ValueError(f"most_steps={self.most_steps}: at least n_steps, {self.n_steps}")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance={self.tolerance}: at least 0")
        if self.stderr is not None and not self.stderr >= 0:
            raise ValueError(f"stderr={self.stderr}: at least 0")

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        key: PRNGKeyArray,
        x: Float[np.ndarray, "n ..."],
        chunk: int | None = None,
        c: Float[np.ndarray, "n k"] | None = None,
    ) -> LogLikelihood:
        """log p_0 of every row, in NumPy arrays; rows beyond the finest grid are not converged.

        **Arguments:** `chunk` rows are evaluated together, by default as many as suit the machine;
        `c`, of every row, for a score that has `given`.

        **Cost:** 2 `n_steps` + 2 evaluations of the score a row, half of them with tangents; `nfe`
        counts those of all its grids.
        """
        return self.solve(score, process, key, x, chunk, c)[0]

    def solve(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        key: PRNGKeyArray,
        x: Float[np.ndarray, "n ..."],
        chunk: int | None = None,
        c: Float[np.ndarray, "n k"] | None = None,
    ) -> tuple[LogLikelihood, list[tuple[GridLikelihood, np.ndarray]]]:
        """The record of `__call__`, and each last grid with the indices of the rows solved on it.

        What is derived from a log-density, such as its gradient, takes the row's last grid.
        """
        found, rows, d = None, np.arange(len(x)), x[0].size
        hidden = getattr(score, "hidden_size", 0)
        first = EXACT if self.stderr == 0 else self.n_probes
        steps, probes = np.full(len(x), self.n_steps), np.full(len(x), first)
        while True:
            for how, group in self._grids(steps, probes, rows):
                size = chunk or rows_at_once(d, tangents(how.probe, how.n_probes, d), hidden)
                size = size if found is None else min(size, FEW)
                picked = x[group], None if c is None else c[group]
                again = map_rows(Given(how), (score, process, key), picked, size)
                found = again if found is None else _replaced(found, group, again)
            assert found is not None
            coarse, noisy = self._coarse(found), self._noisy(found)
            finer = coarse & (2 * steps <= self.most_steps)
            rows = np.flatnonzero(finer | noisy)
            if not len(rows):
                found = eqx.tree_at(lambda r: r.converged, found, found.converged & ~coarse)
                return found, list(self._grids(steps, probes, np.arange(len(x))))
            steps[finer] *= 2
            if self.stderr:
                ratio = np.asarray(found.stderr)[noisy] / self.stderr
                probes[noisy] = _needed(probes[noisy], ratio, d)

    def _grids(
        self, steps: np.ndarray, probes: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[GridLikelihood, np.ndarray]]:
        """Every grid that some of these rows take, with these."""
        for n_steps, k in np.unique(np.stack([steps, probes], 1)[rows], axis=0).tolist():
            group = rows[(steps[rows] == n_steps) & (probes[rows] == k)]
            yield GridLikelihood(Basis() if k == EXACT else self.probe, k or 1, n_steps), group

    def _coarse(self, found: LogLikelihood) -> np.ndarray:
        # Rounding alone keeps a density of many nats, far from all data, from being closer.
        enough = self.tolerance * np.maximum(1, np.abs(found.nats) / 100)
        enough = np.maximum(enough, np.nan_to_num(found.stderr) / _UNDER_NOISE)
        return ~(np.asarray(found.error) <= enough)

    def _noisy(self, found: LogLikelihood) -> np.ndarray:
        target = np.inf if self.stderr is None else self.stderr
        return np.isfinite(found.nats) & ~(np.asarray(found.stderr) <= target)


def _needed(probes: np.ndarray, ratio: np.ndarray, d: int) -> np.ndarray:
    """Twice the probes, or four times, …, as the error falls by 1/√k; EXACT from d on."""
    known = np.where(ratio > 1, ratio, 1.001)  # nan where a single probe knows no error
    needed = probes * 2 ** np.ceil(2 * np.log2(known))
    return np.where(needed < d, needed, EXACT).astype(int)


def _replaced(record: LogLikelihood, rows: np.ndarray, again: LogLikelihood) -> LogLikelihood:
    """The record with these rows anew; what they had cost is added to."""

    def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        old = np.array(old)
        old[rows] = new
        return old

    again = eqx.tree_at(lambda r: r.nfe, again, again.nfe + record.nfe[rows])
    return jax.tree.map(put, record, again)
