r"""Kernels on all rows, of one bandwidth; rows of other categories count for less.

    p(z | k) = Σ_i P(i | k) N(z; z_i, h² I),   P(i | k) ∝ exp(−λ · categories of i that are not k's)

for rows i, after Aitchison and Aitken (1976).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp

from scoreode.model.simple.density import Conditions, SimpleDensity
from scoreode.model.simple.gates import groups_of, linear
from scoreode.model.standardise import Chain

_QUERIES = 512  # rows whose density the others estimate
_LEAST, _MOST = 0.01, 1.0  # bandwidths
_PENALTIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # nats a category
Rows = Float[np.ndarray, "n d"]


def fit_kernels(
    bijection: Chain, x: Rows, c: Conditions = None, sizes: Sequence[int] = ()
) -> SimpleDensity:
    """A normal kernel on every row, of the best bandwidth and penalty.

    **Arguments:** `c`, conditions, which begin with indicators of categories, and `sizes`, how many
    each category has.
    """
    z = np.asarray(bijection.forward(x, bijection.standardise(c))[0])
    n, d = z.shape
    weights, gate = np.full(n, -np.log(n)), None
    if c is None or not sum(sizes):
        h = kernel_bandwidth(z)
    else:
        groups = groups_of(c, sizes)
        h, penalty = _best(z, groups)
        levels = [
            -penalty * (column[:, None] != np.arange(size + 1))
            for column, size in zip(groups.T, sizes, strict=True)
        ]
        weights, gate = linear(weights, levels)
    A = np.eye(d)[None] / h
    return SimpleDensity(bijection, weights, z, A, np.array(np.inf), gate)


def kernel_bandwidth(z: Rows) -> float:
    r"""The h of the greatest likelihood of rows under the kernels on all other rows.

    h maximises the mean of log Σ_{j≠i} N(z_i; z_j, h² I) over rows i, at most 512 of them, between
    0.01 and 1.
    """
    squares, _ = _others(z)
    return _bandwidth(squares, z.shape[1])[0]


def _best(z: Rows, groups: np.ndarray) -> tuple[float, float]:
    """The bandwidth and the penalty of the greatest likelihood, over 512 rows as well."""
    squares, some = _others(z)
    differ = cdist(groups[some], groups, "hamming") * groups.shape[1]
    found = []
    for penalty in _PENALTIES:
        logs = np.where(np.isinf(squares), -np.inf, -penalty * differ)
        h, nll = _bandwidth(squares, z.shape[1], log_softmax(logs, axis=1))
        found.append((nll, h, penalty))
    _, h, penalty = min(found)
    return h, penalty


def _others(z: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances of some rows to all, infinite to themselves; and which rows these are."""
    some = np.random.default_rng(0).permutation(len(z))[:_QUERIES]
    squares = cdist(z[some], z, "sqeuclidean")
    squares[np.arange(len(some)), some] = np.inf
    return squares, some


def _bandwidth(
    squares: np.ndarray, d: int, log_weights: np.ndarray | float = 0.0
) -> tuple[float, float]:
    """The bandwidth of the least NLL, and that NLL up to a constant."""

    def nll(log_h: float) -> float:
        logs = logsumexp(log_weights - squares / (2 * np.exp(2 * log_h)), axis=1)
        return d * log_h - float(np.mean(np.asarray(logs)))

    found = minimize_scalar(nll, bounds=(math.log(_LEAST), math.log(_MOST)), method="bounded")
    return float(np.exp(found.x)), float(found.fun)
