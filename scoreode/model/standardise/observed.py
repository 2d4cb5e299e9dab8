"""Standardisations of rows with missing values: column by column, fitted to the values there.

A missing value is NaN. It becomes 0, and has no part in the determinant. Without the others it is
not known where a column lies that is mixed with them, so no column is mixed with another.
"""

from collections.abc import Callable
from typing import Self

import equinox as eqx
import numpy as np

from scoreode.model.standardise.affine import Scaling, deviation
from scoreode.model.standardise.bijection import AbstractBijection, Array
from scoreode.model.standardise.power import Power


class ObservedScaling(AbstractBijection):
    """z = (x − mean) / scale of every column, and 0 where x is missing."""

    scaling: Scaling

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        return cls._of_columns(x, Scaling.fit)

    @classmethod
    def of_quartiles(cls, x: np.ndarray) -> Self:
        """See `Scaling.of_quartiles`."""
        return cls._of_columns(x, Scaling.of_quartiles)

    @classmethod
    def _of_columns(cls, x: np.ndarray, fit: Callable[[np.ndarray], Scaling]) -> Self:
        found = [fit(_there(column)) for column in x.T]
        mean, scale = (np.concatenate([getattr(f, n) for f in found]) for n in ("mean", "scale"))
        return cls(Scaling(mean, scale))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(Scaling.identity(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        there = ~xp.isnan(x)
        z, _ = self.scaling.forward(xp.where(there, x, self.scaling.mean))
        log_det = -xp.sum(xp.where(there, xp.log(self.scaling.scale), 0.0), axis=-1)
        return xp.where(there, z, 0.0), log_det

    def inverse(self, z: Array) -> Array:
        return self.scaling.inverse(z)


class ObservedPower(AbstractBijection):
    """The power transforms of single columns; missing values stay missing."""

    power: Power

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        found = [Power.fit(_there(column)) for column in x.T]
        names = ("origin", "scale", "first", "second", "two_sided")
        return cls(Power(*(np.concatenate([getattr(p, name) for p in found]) for name in names)))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(Power.identity(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        there = ~xp.isnan(x)
        z, slopes = self.power.by_column(xp.where(there, x, self.power.origin))
        return xp.where(there, z, xp.nan), xp.sum(xp.where(there, slopes, 0.0), axis=-1)

    def inverse(self, z: Array) -> Array:
        return self.power.inverse(z)


class Roles(eqx.Module):
    """Standardises conditions that end with the roles of d columns and the values given.

    Given values have the coordinates of their columns, and 0 where none is given. The rows stay.
    """

    scaling: Scaling
    d: int = eqx.field(static=True)

    @classmethod
    def fit(cls, c: np.ndarray, d: int) -> Self:
        """Fits the scaling to the conditions (n, k) before the roles."""
        k = c.shape[1] - 4 * d
        spread = deviation(c[:, :k])
        return cls(Scaling(c[:, :k].mean(0), np.where(spread > 0, spread, 1.0)), d)

    @classmethod
    def identity(cls, size: int, d: int) -> Self:
        return cls(Scaling.identity(size - 4 * d), d)

    @property
    def size(self) -> int:
        """How many numbers the conditions are."""
        return len(self.scaling.mean) + 4 * self.d

    def standardise(self, c: Array, parts: tuple[AbstractBijection, ...]) -> Array:
        """c (..., size), the values standardised by the parts of the rows' bijection."""
        xp, k = c.__array_namespace__(), len(self.scaling.mean)
        values = c[..., -self.d :]
        for part in parts:
            values, _ = part.forward(values)
        return xp.concat(
            [self.scaling.forward(c[..., :k])[0], c[..., k : -self.d], values], axis=-1
        )

    def forward(self, z: Array, c: Array) -> tuple[Array, Array]:  # noqa: ARG002
        """The same z."""
        return z, z.__array_namespace__().zeros(z.shape[:-1], z.dtype)

    def inverse(self, y: Array, c: Array) -> Array:  # noqa: ARG002
        """The same y."""
        return y


def _there(column: np.ndarray) -> np.ndarray:
    """The values that are not missing, (n, 1)."""
    return column[~np.isnan(column)][:, None]
