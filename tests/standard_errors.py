"""Is a sample mean what it should be? Answered in standard errors."""

import numpy as np
from jaxtyping import ArrayLike


def z_scores(samples: ArrayLike, expected: ArrayLike = 0.0) -> np.ndarray:
    """(mean − expected) / standard error over the first axis, for every other index."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    difference = samples.mean(0) - np.asarray(expected, np.float64)
    # A statistic without spread is exact up to rounding, which has no standard error.
    rounding = 1e-12 * (1 + np.abs(np.asarray(expected, np.float64)))
    return np.where(np.abs(difference) <= rounding, 0.0, difference / np.maximum(error, 1e-300))


def assert_mean(samples: ArrayLike, expected: ArrayLike, within: float = 4.0) -> None:
    """The mean over the first axis is the expected one within so many standard errors."""
    assert np.all(np.isfinite(np.asarray(samples)))
    worst = np.max(np.abs(z_scores(samples, expected)))
    assert worst < within, f"{worst:.1f} standard errors from the expected mean"


def assert_covariance(samples: ArrayLike, expected: ArrayLike, within: float = 4.0) -> None:
    """The covariance of rows (n, d), about their own mean, within so many standard errors."""
    centred = np.asarray(samples, np.float64) - np.mean(np.asarray(samples, np.float64), 0)
    assert_mean(np.einsum("ni,nj->nij", centred, centred), expected, within)
