"""Which standardisation suits a table, by rows that it was not fitted to."""

from collections.abc import Mapping

import numpy as np

from scoreode.standardise.bijection import AbstractBijection
from scoreode.standardise.chain import Chain

_FOLDS = 5
_ENOUGH = 100  # rows left out in one fold tell as much as is needed
_MOST = 10_000  # rows that decide
_LEAST = 20  # rows; of fewer, folds are too small to fit anything to


def preferred(families: Mapping[str, tuple[type[AbstractBijection], ...]], x: np.ndarray) -> str:
    """The name of the chain under which rows left out are most likely, by cross-validation.

    What is compared is the density that training starts from, a standard Gaussian in z = T(x): the
    mean of log N(T(x); 0, I) + log |det ∂T/∂x|. Tails that a chain gets wrong count by the rows
    that they hold. Equal chains, and too few rows, leave the choice to the first.
    """
    n = len(x)
    if n < _LEAST:
        return next(iter(families))
    rows = np.random.default_rng(0).permutation(n)[:_MOST]
    folds = np.array_split(rows, _FOLDS)
    if len(rows) >= _FOLDS * _ENOUGH:
        folds = folds[:1]
    found = {
        name: np.mean([_left_out(chain, x, rows, fold) for fold in folds])
        for name, chain in families.items()
    }
    return max(found, key=lambda name: found[name])


def _left_out(
    families: tuple[type[AbstractBijection], ...], x: np.ndarray, rows: np.ndarray, fold: np.ndarray
) -> float:
    """The mean log-density in nats of the rows in a fold, up to a constant."""
    with np.errstate(all="ignore"):  # a column may be constant in all other folds
        z, log_det = Chain.fitted(families, x[np.setdiff1d(rows, fold)]).forward(x[fold])
        nats = np.mean(log_det - 0.5 * np.sum(z**2, axis=-1))
    return float(nats) if np.isfinite(nats) else -np.inf
