"""How far to shrink a sample correlation matrix R, to (1 − a) R + a I, by cross-validation."""

import numpy as np

MIN_RELATIVE_VARIANCE = 1e-12  # of a whitened direction; below, float64 has no digits left
_SHRINKAGES = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 25)])
_FOLDS = 5
_FREE = 0.01  # nats that a sample covariance may cost before shrinkage is tried
_ROWS = 8000  # at most this many rows decide the shrinkage


def shrinkage(standard: np.ndarray) -> float:
    """The a for standardised rows (n, d); 0 if there are enough rows."""
    n, d = standard.shape
    # The covariance of n rows costs a Gaussian d (d + 1) / 4n nats on average (Stein's loss).
    if d * (d + 1) / (4 * n) < _FREE or n < 2 * _FOLDS:
        return 0.0 if n >= 2 * _FOLDS else 1.0
    rows = np.random.default_rng(0).permutation(n)[:_ROWS]
    losses = np.zeros(len(_SHRINKAGES))
    for fold in np.array_split(rows, _FOLDS):
        train = standard[np.setdiff1d(rows, fold)]
        mean = train.mean(0)
        values, vectors = np.linalg.eigh(np.cov(train.T, bias=True).reshape(d, d))
        values = np.maximum(values, MIN_RELATIVE_VARIANCE)
        shrunk = (1 - _SHRINKAGES)[:, None] * values + _SHRINKAGES[:, None]
        squares = ((standard[fold] - mean) @ vectors) ** 2
        losses += len(fold) * np.log(shrunk).sum(1) + (squares.sum(0) / shrunk).sum(1)
    return float(_SHRINKAGES[np.argmin(losses)])
