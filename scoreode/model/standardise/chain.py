"""Bijections one after another, and given conditions."""

from typing import Self

import equinox as eqx
import numpy as np

from scoreode.model.standardise.affine import Scaling
from scoreode.model.standardise.bijection import AbstractBijection, Array


class Chain(eqx.Module):
    """One bijection after another; itself used as one.

    With a `condition`, which comes last, it is T(x | c) for standardised c.
    """

    parts: tuple[AbstractBijection, ...]
    condition: "Conditioning | None" = None

    @classmethod
    def fitted(cls, families: tuple[type[AbstractBijection], ...], x: np.ndarray) -> Self:
        """Every family fitted to what the ones before it made of rows (n, d)."""
        parts = []
        for family in families:
            parts.append(family.fitted(x))
            x = parts[-1].forward(x)[0]
        return cls(tuple(parts))

    @classmethod
    def identity(cls, families: tuple[type[AbstractBijection], ...], d: int) -> Self:
        return cls(tuple(family.identity(d) for family in families))

    def forward(self, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """z (..., d), and log |det ∂T/∂x| (...,); without c, of the parts alone."""
        xp = x.__array_namespace__()
        total = xp.zeros(x.shape[:-1], x.dtype)
        for part in self.parts:
            x, log_det = part.forward(x)
            total = total + log_det
        if self.condition is not None and c is not None:
            x, log_det = self.condition.forward(x, c)
            total = total + log_det
        return x, total

    def inverse(self, z: Array, c: Array | None = None) -> Array:
        """x (..., d)."""
        if self.condition is not None and c is not None:
            z = self.condition.inverse(z, c)
        for part in reversed(self.parts):
            z = part.inverse(z)
        return z


class Conditioning(eqx.Module):
    """What rows are conditioned on, standardised, and what a regression on it leaves of the rows.

        y = R(z − c W)

    with W of least squares and R the bijection that suits the residuals: what is linear in c is
    found in closed form and not left to a network. Without R, y = z.
    """

    scaling: Scaling
    W: np.ndarray
    residual: AbstractBijection | None

    @classmethod
    def fitted(cls, c: np.ndarray, z: np.ndarray, family: type[AbstractBijection] | None) -> Self:
        """By rows c (n, k) and z (n, d), in the order given."""
        scaling, W = Scaling.fitted(c), np.zeros((c.shape[1], z.shape[1]))
        if family is None:
            return cls(scaling, W, None)
        standard, _ = scaling.forward(c)
        W = np.linalg.lstsq(standard, z - z.mean(0))[0]
        return cls(scaling, W, family.fitted(z - standard @ W))

    @classmethod
    def identity(cls, k: int, d: int, family: type[AbstractBijection] | None) -> Self:
        """Of the same structure, changing nothing."""
        residual = None if family is None else family.identity(d)
        return cls(Scaling.identity(k), np.zeros((k, d)), residual)

    def standardised(self, c: Array) -> Array:
        """c (..., k) to mean 0 and variance 1."""
        return self.scaling.forward(c)[0]

    def forward(self, z: Array, c: Array) -> tuple[Array, Array]:
        """y (..., d) for standardised c, and log |det ∂y/∂z| (...,)."""
        if self.residual is None:
            return z, z.__array_namespace__().zeros(z.shape[:-1], z.dtype)
        return self.residual.forward(z - c @ self.W)

    def inverse(self, y: Array, c: Array) -> Array:
        """z (..., d)."""
        return y if self.residual is None else self.residual.inverse(y) + c @ self.W
