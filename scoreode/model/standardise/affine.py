"""Affine standardisations: one scale for all values, one per column, or a full whitening."""

from typing import Self

import numpy as np

from scoreode.model.standardise.bijection import AbstractBijection, Array, product
from scoreode.model.standardise.shrinkage import MIN_RELATIVE_VARIANCE, shrinkage

_QUARTILES = 1.3490  # how far they are apart in a standard normal law


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
    def of_quartiles(cls, x: np.ndarray) -> Self:
        """The median, and the deviation of a normal law with these quartiles: absurd values hardly
        count. Where both quartiles are equal, the deviation as it is."""
        low, median, high = np.quantile(x, (0.25, 0.5, 0.75), axis=0)
        spread = (high - low) / _QUARTILES
        return cls(median, np.where(spread > 0, spread, deviation(x)))

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
        a = shrinkage(standard)
        values = (1 - a) * np.maximum(values, MIN_RELATIVE_VARIANCE) + a
        return cls(mean, scale, vectors / np.sqrt(values))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.ones(d), np.eye(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        log_det = xp.linalg.slogdet(self.W)[1] - xp.sum(xp.log(self.scale))
        return product((x - self.mean) / self.scale, self.W), xp.full(x.shape[:-1], log_det)

    def inverse(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        return self.scale * product(z, xp.linalg.inv(self.W)) + self.mean
