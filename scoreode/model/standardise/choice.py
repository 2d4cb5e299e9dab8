"""Chooses the standardisation of a table by cross-validation."""

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from scoreode.model.standardise.bijection import AbstractBijection
from scoreode.model.standardise.chain import Chain

_FOLDS = 5
_ENOUGH = 100  # held-out rows in a fold from which one fold is enough
_MOST = 10_000  # at most this many rows decide
_LEAST = 20  # with fewer rows, folds are too small to fit
_KERNELS, _TEST = 2000, 500  # rows with a kernel, and held-out rows at which they are evaluated
_EQUAL = 1e-6  # nats: by less than this, only rounding tells chains apart
_BANDWIDTHS = 2.0 ** np.arange(-6, 2)  # in units of z


def choose(families: Mapping[str, tuple[type[AbstractBijection], ...]], x: np.ndarray) -> str:
    """The name of the chain with the highest held-out likelihood, by cross-validation.

    The likelihood of a chain is the better of two densities in z = T(x), times |det ∂T/∂x|: the
    standard Gaussian, where training starts, and a kernel estimate, which has the shape that
    training will learn. The Gaussian alone would favour a chain that distorts a mixture until it
    looks normal. The first chain is chosen if chains are equal or there are too few rows.
    """
    n = len(x)
    if n < _LEAST:
        return next(iter(families))
    rows = np.random.default_rng(0).permutation(n)[:_MOST]
    folds = np.array_split(rows, _FOLDS)
    if len(rows) >= _FOLDS * _ENOUGH:
        folds = folds[:1]
    nats = {
        name: np.mean([_held_out_nats(chain, x, rows, fold) for fold in folds])
        for name, chain in families.items()
    }
    best = max(nats.values())
    return next(name for name in families if nats[name] >= best - _EQUAL)


def _held_out_nats(
    families: tuple[type[AbstractBijection], ...], x: np.ndarray, rows: np.ndarray, fold: np.ndarray
) -> float:
    """The mean log-density of the rows in a fold, in nats up to a constant."""
    train = rows[~np.isin(rows, fold)]
    with np.errstate(all="ignore"):  # a column may be constant in all other folds
        chain = Chain.fit(families, x[train])
        z, log_det = map(np.asarray, chain.forward(x[fold]))
        kernels = np.asarray(chain.forward(x[train[:_KERNELS]])[0])
        gaussian = np.mean(log_det - 0.5 * np.sum(z**2, axis=-1))
        kernel = np.mean(log_det[:_TEST]) + _kernel_estimate(kernels, z[:_TEST])
    return max((float(nats) for nats in (gaussian, kernel) if np.isfinite(nats)), default=-np.inf)


def _kernel_estimate(kernels: np.ndarray, z: np.ndarray) -> float:
    """The mean log-density of z under Gaussian kernels of the best bandwidth, up to a constant.

    The constant is that of `_held_out_nats`.
    """
    squares, d = 0.5 * cdist(z, kernels, "sqeuclidean"), z.shape[1]
    shape = [
        np.mean(np.asarray(logsumexp(-squares / h**2, 1))) - d * np.log(h) for h in _BANDWIDTHS
    ]
    return float(np.max(shape) - np.log(len(kernels)))
