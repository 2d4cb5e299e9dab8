"""Student's t with a tail so heavy that no row costs much."""

import math

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from scoreode.model.simple.density import SimpleDensity
from scoreode.model.simple.observed import Observed
from scoreode.model.standardise import Chain

_RIDGE = 1e-3  # of deviations in standardised coordinates
_LIGHTEST = 4.0  # tails have 1 to 4 degrees of freedom
_LOG_DF = (0.0, math.log(_LIGHTEST))
_ITERATIONS = 50
Rows = Float[np.ndarray, "n d"]


def fit_tail(bijection: Chain, x: Rows) -> SimpleDensity:
    """Student's t of the greatest likelihood, with 1 to 4 degrees of freedom.

    Its location and scatter are found by EM, and the degrees of freedom between its steps (ECME,
    Liu and Rubin 1995), of rows that may lack values (NaN), too. Rows far out hardly count.
    """
    z, there = np.asarray(bijection.forward(x)[0]), ~np.isnan(x)
    rows, (n, d), df = Observed.of(z, there), z.shape, _LIGHTEST
    masked = np.where(there, z, np.nan)
    location = np.nanmedian(masked, 0)
    spread = np.nanmean((masked - np.nanmean(masked, 0)) ** 2, 0)
    scatter = np.cov(z.T, bias=True).reshape(d, d) if there.all() else np.diag(spread)
    for _ in range(_ITERATIONS):
        ridged = scatter + _RIDGE**2 * np.eye(d)
        given = rows.given(location, ridged)
        found = minimize_scalar(
            _t_nll, args=(given.squares, rows.counts), bounds=_LOG_DF, method="bounded"
        )
        df = float(np.exp(found.x))
        w = (df + rows.counts) / (df + given.squares)
        location = w @ given.filled / np.sum(w)
        off = given.filled - location
        scatter = ((w * off.T) @ off + rows.unexplained(given, ridged, np.ones(n))) / n
    A = np.linalg.inv(np.linalg.cholesky(scatter + _RIDGE**2 * np.eye(d)))
    return SimpleDensity(bijection, np.zeros(1), location[None], A[None], np.array(df))


def _t_nll(log_df: float, squares: np.ndarray, counts: np.ndarray) -> float:
    """Of squared distances, without what does not depend on the degrees of freedom."""
    df = np.exp(log_df)
    gammas = gammaln((df + counts) / 2) - gammaln(df / 2) - counts / 2 * np.log(df)
    return float(np.mean((df + counts) / 2 * np.log1p(squares / df) - gammas))
