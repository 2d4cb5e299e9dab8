"""How good a model is on rows that do not train it: by a bound, or by the exact NLL.

The bound is cheap, and it is the ScoreSDE's. What orders 2 and 3 improve is the ODE, which it does
not see: what it chose is therefore compared with the last model by the exact NLL of some rows.
"""

import numpy as np

from scoreode.data import Dataset
from scoreode.density import Density
from scoreode.flow import Refined, declared
from scoreode.recipes import Run
from scoreode.train import devices

BOUND_ROWS, EXACT_ROWS = 4096, 512  # at most; an exact NLL costs a hundred times as much as a bound
_BOUND_VALUES, _EXACT_VALUES = 2**18, 2**15  # that they hold: few images, whose networks cost more
_FEW_PROBES = Refined(n_probes=2)  # models are compared on the same rows and probes


class Validation:
    """NLL in nats of a run's validation rows; `absent` where there are none."""

    def __init__(self, run: Run, data: Dataset):
        self.absent = data.sampler is not None or len(data.validation) == 0
        self._exact, self._order = run.validation == "exact", run.objective.order
        d = len(data.columns)
        self._bounded = _dequantised(data, max(64, min(BOUND_ROWS, _BOUND_VALUES // d)))
        self._solved = _dequantised(data, max(8, min(EXACT_ROWS, _EXACT_VALUES // d)))

    def nats(self, density: Density) -> float:
        """What the run was asked to measure: the mean bound, or the mean exact NLL."""
        if self._exact:
            return self._exact_nats(density)
        bound = density.nll_bound(self._bounded)
        (mean,) = devices.agreed([np.mean(bound)])
        return float(mean)

    def chosen(self, best: Density, last: Density) -> Density:
        """The best by `nats`, or the last where that was a bound and the exact NLL prefers it."""
        if self.absent or self._exact or self._order == 1:
            return best
        return min(best, last, key=self._exact_nats)

    def _exact_nats(self, density: Density) -> float:
        found = density.log_likelihood(self._solved, how=_FEW_PROBES)
        (mean,) = devices.agreed([np.mean(found.nats)])
        return -float(mean)


def _dequantised(data: Dataset, most: int) -> np.ndarray:
    """At most so many validation rows, with fixed noise where the data lie on a grid."""
    rows, noise = data.validation[:most], declared(data.bin_width, data.bin_edge)
    return rows if noise is None else noise.fixed(rows)
