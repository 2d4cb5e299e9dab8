r"""Calibration of a density on held-out rows, by exact tests in any dimension.

The ODE maps every row to x_T. If the rows follow the model, z = x_T / √(α_T² + σ_T²) is N(0, I).
Then the probability integral transform Φ(z_i) of every coordinate is uniform on [0, 1], and ‖z‖²
is χ²_d. Departures show the errors of the model.
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
    """Values over x, and a band that contains them in 95 % of cases if the model is correct."""

    x: np.ndarray
    found: np.ndarray
    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Coverage(NamedTuple):
    """The share of coordinates, and of rows, in the central region of probability `level`."""

    level: float
    coordinates: Estimate
    rows: Estimate


class Column(NamedTuple):
    """A column of data and of samples: their `QUANTILES`, and `ks`, the Kolmogorov distance."""

    name: str
    data: np.ndarray
    samples: np.ndarray
    ks: float
    ks_limit: float
    """The 95 % quantile of `ks` if both have the same distribution."""


def pit_histogram(z: Latent) -> Band:
    """The histogram of Φ(z) over all coordinates, as a density; x are the edges of the bins."""
    counts, edges = np.histogram(stats.norm.cdf(z), _BINS, (0, 1))
    expected, ones = z.size / _BINS, np.ones(_BINS + 1)
    low, high = (stats.binom.ppf(q, z.size, 1 / _BINS) / expected * ones for q in _BAND)
    return Band(edges, counts / expected, ones, low, high)


def squared_norms(z: Latent) -> Band:
    """The order statistics of ‖z‖² against the χ²_d quantiles x of the same ranks."""
    n, d = z.shape
    rank = np.unique(np.linspace(1, n, min(n, _RANKS)).round())
    found = np.sort(np.sum(z.astype(np.float64) ** 2, 1))[rank.astype(int) - 1]
    expected = stats.chi2.ppf((rank - 0.5) / n, d)
    # The order statistic of this rank among n uniforms is Beta(rank, n + 1 − rank).
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
    """Compares every column of data and samples, in the values that are there; those that differ
    most come first."""
    there = [
        (name, x[~np.isnan(x)], y[~np.isnan(y)])
        for name, x, y in zip(names, data.T, samples.T, strict=True)
    ]
    compared = [_column(name, x, y) for name, x, y in there if len(x) and len(y)]
    return sorted(compared, key=lambda column: -column.ks)


def _column(name: str, x: np.ndarray, y: np.ndarray) -> Column:
    n, m = len(x), len(y)
    return Column(
        name,
        np.quantile(x, QUANTILES),
        np.quantile(y, QUANTILES),
        float(np.asarray(stats.ks_2samp(x, y, method="asymp"))[0]),
        _KS_5_PERCENT * ((n + m) / (n * m)) ** 0.5,
    )
