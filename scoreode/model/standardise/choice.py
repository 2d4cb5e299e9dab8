"""Which standardisation suits a table, by rows that it was not fitted to."""

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from scoreode.model.standardise.bijection import AbstractBijection
from scoreode.model.standardise.chain import Chain

_FOLDS = 5
_ENOUGH = 100  # rows left out in one fold tell as much as is needed
_MOST = 10_000  # rows that decide
_LEAST = 20  # rows; of fewer, folds are too small to fit anything to
_KERNELS, _TRIED = 2000, 500  # rows of a kernel estimate, and rows left out that it is tried on
_BANDWIDTHS = 2.0 ** np.arange(-6, 2)  # in units of z


def preferred(families: Mapping[str, tuple[type[AbstractBijection], ...]], x: np.ndarray) -> str:
    """The name of the chain under which rows left out are most likely, by cross-validation.

    Two densities in z = T(x) are compared, with log |det ∂T/∂x|, and the better one counts: the
    standard Gaussian that training starts from, and a kernel estimate, which knows the shape that
    training will learn. A chain that bends a mixture until it looks normal wins by the first alone.
    Equal chains, and too few rows, leave the choice to the first.
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
    others = rows[~np.isin(rows, fold)]
    with np.errstate(all="ignore"):  # a column may be constant in all other folds
        chain = Chain.fitted(families, x[others])
        z, log_det = map(np.asarray, chain.forward(x[fold]))
        kernels = np.asarray(chain.forward(x[others[:_KERNELS]])[0])
        gaussian = np.mean(log_det - 0.5 * np.sum(z**2, axis=-1))
        kernel = np.mean(log_det[:_TRIED]) + _kernel_estimate(kernels, z[:_TRIED])
    return max((float(nats) for nats in (gaussian, kernel) if np.isfinite(nats)), default=-np.inf)


def _kernel_estimate(kernels: np.ndarray, z: np.ndarray) -> float:
    """The mean log-density of z under Gaussian kernels of the best bandwidth; same constant."""
    squares, d = 0.5 * cdist(z, kernels, "sqeuclidean"), z.shape[1]
    shape = [np.mean(logsumexp(-squares / h**2, 1)) - d * np.log(h) for h in _BANDWIDTHS]
    return float(np.max(shape) - np.log(len(kernels)))
