"""How unlike the training rows a row is: minus the log of their density made smooth by noise.

    score(x) = −log E_{x' ~ p} N(x; x', h² diag(s²)),   h = 0.3

with the columns' standard deviations s. Noise of the same share of every column fills the spikes of
values that repeat, and forgets by what little a row misses a narrow relation between columns: both
decide log p, and neither makes an anomaly. The mean is over training rows where the model keeps
some, and over draws where it does not.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from scoreode.model.density import Density
from scoreode.model.stack import Stack

NOISE = 0.3  # standard deviations of a column; from 0.1 to 0.5 ranks are almost the same
DRAWN = 4000  # rows, where the model keeps none
_AT_ONCE = 512
Rows = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class NoisyDensity:
    """The density of `rows` x' with noise from N(0, diag(`std`²))."""

    rows: Rows
    std: Float[np.ndarray, " d"]

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """With noise of 0.3 standard deviations of every column."""
        return cls(rows, NOISE * rows.std(0))

    def nats(self, x: Rows) -> Float[np.ndarray, " n"]:
        """The log-density of every row in nats, in the units of x."""
        squares = (
            cdist(x[i : i + _AT_ONCE] / self.std, self.rows / self.std, "sqeuclidean")
            for i in range(0, len(x), _AT_ONCE)
        )
        logs = np.concatenate([logsumexp(-part / 2, axis=1) for part in squares])
        n, d = self.rows.shape
        return logs - math.log(n) - d / 2 * math.log(2 * math.pi) - np.sum(np.log(self.std))


def noisy_density(
    whole: Density | Stack, low: Float[np.ndarray, " d"], high: Float[np.ndarray, " d"]
) -> NoisyDensity:
    """That of the training rows, of which kernels are made, or else of draws of the diffusions.

    **Arguments:** `low` and `high`, of every column in training; draws are moved between them.

    **Cost:** 4000 draws where the model keeps no rows.
    """
    kernels = whole.kernels if isinstance(whole, Stack) else None
    if kernels is not None:
        return NoisyDensity.of(np.asarray(kernels.bijection.inverse(kernels.means)))
    densities = whole.densities if isinstance(whole, Stack) else (whole,)
    drawn = [
        density.sample(DRAWN // len(densities), len(low), seed)
        for seed, density in enumerate(densities)
    ]
    return NoisyDensity.of(np.clip(np.concatenate(drawn), low, high))
