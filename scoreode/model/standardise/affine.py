"""Affine standardisations: one scale for all values, one per column, or a full whitening."""

from typing import Self

import numpy as np

from scoreode.model.standardise.bijection import AbstractBijection, Array

MIN_RELATIVE_VARIANCE = 1e-12  # of a whitened direction; below, float64 has no digits left
_SHRINKAGES = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 25)])
_FOLDS = 5
_FREE = 0.01  # nats that a sample covariance may cost before shrinkage is tried
_ROWS = 8000  # at most this many rows decide the shrinkage


def deviation(x: np.ndarray) -> np.ndarray:
    """The standard deviation of every column (n, d), even if its square underflows."""
    centred = x - x.mean(0)
    largest = np.abs(centred).max(0)
    return largest * np.sqrt(np.mean((centred / np.where(largest > 0, largest, 1.0)) ** 2, 0))


class Scaling(AbstractBijection):
    """z = (x − mean) / scale: every column gets mean 0 and variance 1."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        return cls(x.mean(0), deviation(x))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.ones(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        return (x - self.mean) / self.scale, xp.full(x.shape[:-1], -xp.sum(xp.log(self.scale)))

    def inverse(self, z: Array) -> Array:
        return self.scale * z + self.mean


class Centring(AbstractBijection):
    """z = (x − mean) / scale with one mean and one scale for all columns, as pixels need it."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        values = x.reshape(-1, 1)
        return cls(values.mean(0), deviation(values))

    @classmethod
    def identity(cls, d: int) -> Self:  # noqa: ARG003 (the same for any number of columns)
        return cls(np.zeros(1), np.ones(1))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        log_det = -x.shape[-1] * xp.log(self.scale[0])
        return (x - self.mean) / self.scale, xp.full(x.shape[:-1], log_det)

    def inverse(self, z: Array) -> Array:
        return self.scale * z + self.mean


class Whitening(AbstractBijection):
    """z = ((x − mean) / scale) W: the covariance becomes the identity, along its eigenvectors.

    With few rows, the eigenvalues of the sample correlation matrix R are spread too widely. R is
    then shrunk to (1 − a) R + a I, where a maximises the Gaussian likelihood of held-out rows in
    five-fold cross-validation.
    """

    mean: np.ndarray
    scale: np.ndarray
    W: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        mean, scale = x.mean(0), deviation(x)
        standard = (x - mean) / scale
        values, vectors = np.linalg.eigh(standard.T @ standard / len(x))
        shrinkage = _shrinkage(standard)
        values = (1 - shrinkage) * np.maximum(values, MIN_RELATIVE_VARIANCE) + shrinkage
        return cls(mean, scale, vectors / np.sqrt(values))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.ones(d), np.eye(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        log_det = xp.linalg.slogdet(self.W)[1] - xp.sum(xp.log(self.scale))
        return ((x - self.mean) / self.scale) @ self.W, xp.full(x.shape[:-1], log_det)

    def inverse(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        return self.scale * (z @ xp.linalg.inv(self.W)) + self.mean


def _shrinkage(standard: np.ndarray) -> float:
    """The a of `Whitening` for standardised rows; 0 if there are enough rows."""
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
