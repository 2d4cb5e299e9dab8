"""Simulation-based calibration of conditional densities, by ranks.

Draw θ from the prior and x from the simulator, and then m values from the posterior given x. If the
posterior is right, the rank of θ among the m is uniform on 0, …, m (Talts et al. 2018). So is the
rank of any statistic f(θ, x) among the f of the draws. With f = log p(θ | x) it says how often the
truth lies in regions of highest density.

    found = rank_calibration(theta, est.sample(99, x))  # fresh pairs, not those of the fit
    found.p_values, found.errors                        # of every parameter
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real
from scipy import stats

from scoreode.errors import InputError

_EXPECTED = np.pi / 8 * (2 / np.pi) ** 0.5  # E ∫|B(u)| du of a Brownian bridge B


class RankCalibration(NamedTuple):
    """Ranks of n truths among m draws each, by column, and how far from uniform they are."""

    ranks: Int[np.ndarray, "n k"]
    """How many draws lie below the truth: 0 to m. Equal ones take either side by chance."""
    pit: Float[np.ndarray, "n k"]
    """(ranks + a uniform number) / (m + 1): uniform on [0, 1] if the posterior is right."""
    p_values: np.ndarray
    """Of Kolmogorov's and Smirnov's test of `pit`, one a column."""
    errors: np.ndarray
    """∫|F(u) − u| du of the distribution F of `pit`. Of ranks of log p this is the error of the
    coverage of regions of highest density, averaged over their probabilities."""
    expected_error: float
    """The mean of `errors` that n truths have if the posterior is right."""


def rank_calibration(
    truth: Real[np.ndarray, "..."], draws: Real[np.ndarray, "..."], *, seed: int = 0
) -> RankCalibration:
    """Compares every row of `truth` with draws of the posterior given what it simulated.

    **Arguments:** `truth`, parameters, or statistics of them such as log p, of shape (n, k) or
    (n,); `draws`, (m, n, k) or (m, n), as `ScoreODE.sample(m, x)` returns them; `seed`, of the
    numbers that make ranks continuous.

    **Raises:** `InputError` for shapes that do not belong together, and for NaN.
    """
    truth, draws = np.asarray(truth), np.asarray(draws)
    if truth.ndim not in (1, 2) or draws.shape[1:] != truth.shape or not len(draws):
        raise InputError(
            f"draws have the shape {draws.shape}, and truth {truth.shape}: give m draws beside"
            " every row, as (m, n, k) beside (n, k), or (m, n) beside (n,)"
        )
    if np.isnan(truth).any() or np.isnan(draws).any():
        raise InputError("truth or draws: some are NaN, and have no rank; leave these rows out")
    if truth.ndim == 1:
        truth, draws = truth[..., None], draws[..., None]
    m, n = draws.shape[:2]
    rng = np.random.default_rng(seed)
    ranks = (draws < truth).sum(0) + rng.integers(0, (draws == truth).sum(0) + 1)
    pit = (ranks + rng.random(ranks.shape)) / (m + 1)
    p_values = [stats.kstest(column, "uniform").pvalue for column in pit.T]
    errors = [_distance(column) for column in pit.T]
    return RankCalibration(
        ranks, pit, np.array(p_values), np.array(errors), float(_EXPECTED / n**0.5)
    )


def _distance(u: np.ndarray) -> float:
    """∫|F(u) − u| du over [0, 1] of the empirical distribution F: it has n + 1 levels."""
    ends = np.concatenate([[0.0], np.sort(u), [1.0]])
    levels = np.arange(len(u) + 1) / len(u)
    a, b = ends[:-1] - levels, ends[1:] - levels
    return float(np.sum(b * np.abs(b) - a * np.abs(a)) / 2)
