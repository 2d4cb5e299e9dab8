"""The NLL of validation rows: a bound, or exact.

The bound is cheap, but it belongs to the ScoreSDE, and the ODE may be better when it is worse. The
model with the best bound is therefore compared with the last model by the exact NLL of some rows.
"""

import math

import numpy as np

from scoreode.data import Dataset
from scoreode.flow import DEFAULT_PROBES, Refined, uniform_noise
from scoreode.flow.parallel import LEAST_CHUNK
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.nlls import JDiff, NLLs
from scoreode.score import ScoreModel
from scoreode.train import devices

BOUND_ROWS, EXACT_ROWS = 4096, 512  # at most; an exact NLL costs a hundred times as much as a bound
_BOUND_VALUES, _EXACT_VALUES = 2**18, 2**15  # at most; fewer images, whose networks cost more
_MORE_ROWS = 2048  # at most, for J_Diff and between cycles
_FEW_PROBES = 2  # enough to compare models on the same rows and probes


class Best:
    """The best validated model so far; without validation, whatever comes last.

    `order` is the highest that has acted on it.
    """

    def __init__(
        self, model: ScoreModel, order: int = 1, value: float | None = None, waited: int = 0
    ):
        self.model, self.order, self.value, self.waited = model, order, value, waited

    def update(self, model: ScoreModel, order: int, value: float) -> None:
        if math.isfinite(value) and (self.value is None or value < self.value):
            self.model, self.order, self.value, self.waited = model, order, value, 0
        else:
            self.waited += 1


def how_for(n: int, n_probes: int = DEFAULT_PROBES) -> Refined:
    """How to evaluate n rows that are few: chunks are padded, and few rows need no large ones."""
    return Refined(n_probes=n_probes, chunk=max(LEAST_CHUNK, 1 << (n - 1).bit_length()))


def is_absent(data: Dataset) -> bool:
    """Whether a data set has no validation rows; of endless ones no row is held out."""
    return data.sampler is not None or len(data.validation) == 0


class Validation:
    """The NLL in nats of a run's validation rows; `absent` if there are none.

    **Arguments:** `log_mass` (n,) of what belongs to these rows and is not trained: categories.
    """

    def __init__(self, run: Run, data: Dataset, log_mass: np.ndarray | None = None):
        self.absent: bool = is_absent(data)
        self._exact = run.validation == "exact"
        self._noise, self._grid = run.dequantise, uniform_noise(data.bin_width, data.bin_edge)
        d = len(data.columns)
        self._weights = data.validation_weights
        self._log_mass = np.zeros(len(data.validation)) if log_mass is None else log_mass
        data = data.coded
        self._bound_rows = _rows(data, max(64, min(BOUND_ROWS, _BOUND_VALUES // d)))
        self._exact_rows = _rows(data, max(8, min(EXACT_ROWS, _EXACT_VALUES // d)))
        self._more_rows = _rows(data, max(8, min(_MORE_ROWS, _EXACT_VALUES // d)))

    def nats(self, density: Density) -> float:
        """The mean exact NLL if the run asks for it, else the mean bound."""
        if self._exact:
            return self.exact_nats(density)
        x, c, log_r = self._dequantise(density, *self._bound_rows)
        return self._mean(density.nll_bound(x, c=c) + log_r - self._log_mass[: len(x)])

    def choose(self, best: Density, last: Density, *, closely: bool = False) -> Density:
        """The best model by `nats`; if that is a bound, the last one if its exact NLL is lower.

        **Arguments:** `closely`: over more rows.
        """
        if self.absent or self._exact or best.score_model is last.score_model:
            return best
        return min(best, last, key=lambda density: self.exact_nats(density, closely=closely))

    def exact_nats(self, density: Density, *, closely: bool = False) -> float:
        """The mean exact NLL of some validation rows; infinite if it is not a number."""
        rows = self._more_rows if closely else self._exact_rows
        x, c, log_r = self._dequantise(density, *rows)
        record = density.log_likelihood(x, how=how_for(len(x), _FEW_PROBES), c=c)
        nats = self._mean(log_r - np.asarray(record.nats) - self._log_mass[: len(x)])
        return nats if np.isfinite(nats) else np.inf  # every other model is better

    def j_diff(self, density: Density, most: int = _MORE_ROWS) -> JDiff | None:
        """J_Diff of some validation rows, of endless data too; None where there are none.

        **Arguments:** `most`, so many rows.
        """
        x, c = self._more_rows
        x, c, _ = self._dequantise(density, x[:most], None if c is None else c[:most])
        if len(x) < 2:
            return None
        how = how_for(len(x), _FEW_PROBES)
        found, nats = density.nlls(x, how=how, c=c), self._log_mass[: len(x)]
        nlls = NLLs(found.ode - nats, found.bound - nats)
        return JDiff.of(nlls, None if self._weights is None else self._weights[: len(x)])

    def rows(self, density: Density) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Some validation rows, with noise if they lie on a grid, their c, and their weights."""
        x, c, _ = self._dequantise(density, *self._more_rows)
        return x, c, None if self._weights is None else self._weights[: len(x)]

    def _mean(self, nats: np.ndarray) -> float:
        weights = None if self._weights is None else self._weights[: len(nats)]
        (mean,) = devices.broadcast([np.average(nats, weights=weights)])
        return float(mean)

    def _dequantise(self, density: Density, x: np.ndarray, c: np.ndarray | None) -> tuple:
        """Rows with fixed noise if they lie on a grid, their c, and log r of the noise."""
        if self._grid is None:
            return x, c, 0.0
        x, log_r = self._noise.dequantisation(density, self._grid).add_noise(x)
        return x, c, log_r


def _rows(data: Dataset, most: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The first validation rows, at most `most`, and their conditions."""
    c = None if data.conditions is None else data.conditions.validation[:most]
    return data.validation[:most], c
