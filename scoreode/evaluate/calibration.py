r"""Whether a density is right about rows that it has not seen, by statements that are exact.

The ODE carries every row to x_T. If the rows are the model's, z = x_T / √(α_T² + σ_T²) is N(0, I):
Φ of every coordinate is uniform on [0, 1], its probability integral transform, and ‖z‖² is χ²_d.
What the model gets wrong shows as a departure from these, in any dimension.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from scoreode.theory import Estimate

LEVELS = (0.5, 0.8, 0.9, 0.95)
QUANTILES = (0.05, 0.5, 0.95)
_BINS, _RANKS = 20, 200
_BAND = (0.025, 0.975)  # pointwise, 95 %
_KS_5_PERCENT = 1.358  # Kolmogorov's distribution
Latent = Float[np.ndarray, "n d"]


class Band(NamedTuple):
    """What was found over x, and between what it lies in 95 % of cases where the model is right."""

    x: np.ndarray
    found: np.ndarray
    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Coverage(NamedTuple):
    """How often the central region of probability `level` holds a coordinate, and a whole row."""

    level: float
    coordinates: Estimate
    rows: Estimate


class Column(NamedTuple):
    """A column of data beside samples: their `QUANTILES`, their largest distance in probability."""

    name: str
    data: np.ndarray
    samples: np.ndarray
    ks: float
    ks_limit: float
    """What `ks` stays below in 95 % of cases where both are of one distribution."""


def pit_histogram(z: Latent) -> Band:
    """The density of Φ(z) over all coordinates in equal bins, whose edges are x; uniform is 1."""
    counts, edges = np.histogram(stats.norm.cdf(z), _BINS, (0, 1))
    expected, ones = z.size / _BINS, np.ones(_BINS + 1)
    low, high = (stats.binom.ppf(q, z.size, 1 / _BINS) / expected * ones for q in _BAND)
    return Band(edges, counts / expected, ones, low, high)


def squared_norms(z: Latent) -> Band:
    """‖z‖² in order beside the χ²_d quantiles x of the same ranks."""
    n, d = z.shape
    rank = np.unique(np.linspace(1, n, min(n, _RANKS)).round())
    found = np.sort(np.sum(z.astype(np.float64) ** 2, 1))[rank.astype(int) - 1]
    expected = stats.chi2.ppf((rank - 0.5) / n, d)
    # The rank-th of n uniforms is Beta(rank, n + 1 − rank).
    low, high = (stats.chi2.ppf(stats.beta.ppf(q, rank, n + 1 - rank), d) for q in _BAND)
    return Band(expected, found, expected, low, high)


def coverage(z: Latent) -> list[Coverage]:
    """Coverage at every level, with standard errors over rows."""
    norms, d = np.sum(z.astype(np.float64) ** 2, 1), z.shape[1]
    return [
        Coverage(
            level,
            Estimate.from_samples(np.mean(np.abs(z) <= stats.norm.ppf(0.5 + level / 2), 1)),
            Estimate.from_samples(norms <= stats.chi2.ppf(level, d)),
        )
        for level in LEVELS
    ]


def columns(
    data: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"], names: Sequence[str]
) -> list[Column]:
    """Every column of data beside samples, those that differ most first."""
    n, m = len(data), len(samples)
    limit = _KS_5_PERCENT * ((n + m) / (n * m)) ** 0.5
    found = [
        Column(
            name,
            np.quantile(x, QUANTILES),
            np.quantile(y, QUANTILES),
            float(np.asarray(stats.ks_2samp(x, y, method="asymp"))[0]),
            limit,
        )
        for name, x, y in zip(names, data.T, samples.T, strict=True)
    ]
    return sorted(found, key=lambda column: -column.ks)
