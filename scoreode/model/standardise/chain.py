"""Compositions of bijections, and conditional bijections."""

from dataclasses import replace
from typing import Self

import equinox as eqx
import numpy as np

from scoreode.model.standardise.affine import Scaling
from scoreode.model.standardise.bijection import AbstractBijection, Array, product
from scoreode.model.standardise.observed import Roles
from scoreode.model.standardise.support import Support


class Chain(eqx.Module):
    """A composition of bijections.

    With a `condition`, which comes last, it is T(x | c) for standardised c.
    """

    parts: tuple[AbstractBijection, ...]
    condition: "Conditioning | Roles | None" = None

    @classmethod
    def fit(cls, families: tuple[type[AbstractBijection], ...], x: np.ndarray) -> Self:
        """Fits the families in order, each to the outputs of those before it, on rows (n, d)."""
        parts = []
        for family in families:
            parts.append(family.fit(x))
            x = parts[-1].forward(x)[0]
        return cls(tuple(parts))

    @classmethod
    def identity(cls, families: tuple[type[AbstractBijection], ...], d: int) -> Self:
        return cls(tuple(family.identity(d) for family in families))

    @property
    def support(self) -> tuple[Support, ...]:
        """The part that comes first where a support is declared, onto ℝᵈ."""
        return tuple(part for part in self.parts if isinstance(part, Support))

    def after(self, support: tuple[Support, ...]) -> Self:
        """The same after this part: of rows in its support."""
        return replace(self, parts=(*support, *self.parts))

    def standardise(self, c: Array | None) -> Array | None:
        """The standardised c (..., k); None without conditions."""
        if self.condition is None or c is None:
            return None
        return self.condition.standardise(c, self.parts)

    def forward(self, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """z (..., d) and log |det ∂T/∂x| (...,); without c, those of the parts only."""
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
    """Standardises the conditions, and removes the linear part of their effect on the rows.

        y = R(z − c W)

    W is the least-squares fit and R a bijection fitted to the residuals. The linear dependence on c
    is thus found in closed form and need not be learnt by a network. Without R, y = z.
    """

    scaling: Scaling
    W: np.ndarray
    residual: AbstractBijection | None

    @classmethod
    def fit(cls, c: np.ndarray, z: np.ndarray, family: type[AbstractBijection] | None) -> Self:
        """Fits the scaling, W and R to conditions c (n, k) and rows z (n, d)."""
        scaling, W = Scaling.fit(c), np.zeros((c.shape[1], z.shape[1]))
        if family is None:
            return cls(scaling, W, None)
        standard, _ = scaling.forward(c)
        W = np.linalg.lstsq(standard, z - z.mean(0))[0]
        return cls(scaling, W, family.fit(z - standard @ W))

    @classmethod
    def identity(cls, k: int, d: int, family: type[AbstractBijection] | None) -> Self:
        """The identity, with the same structure as a fitted one."""
        residual = None if family is None else family.identity(d)
        return cls(Scaling.identity(k), np.zeros((k, d)), residual)

    @property
    def size(self) -> int:
        """How many numbers the conditions are."""
        return len(self.W)

    def standardise(self, c: Array, parts: tuple[AbstractBijection, ...] = ()) -> Array:  # noqa: ARG002
        """c (..., k) with mean 0 and variance 1."""
        return self.scaling.forward(c)[0]

    def forward(self, z: Array, c: Array) -> tuple[Array, Array]:
        """y (..., d) and log |det ∂y/∂z| (...,), for standardised c."""
        if self.residual is None:
            return z, z.__array_namespace__().zeros(z.shape[:-1], z.dtype)
        return self.residual.forward(z - product(c, self.W))

    def inverse(self, y: Array, c: Array) -> Array:
        """z (..., d)."""
        return y if self.residual is None else self.residual.inverse(y) + product(c, self.W)
