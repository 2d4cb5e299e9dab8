"""The interface of a standardisation: a bijection of rows with its log-determinant."""

import abc
from typing import Self

import equinox as eqx
import jax
import numpy as np

Array = np.ndarray | jax.Array


def product(x: Array, W: Array) -> Array:
    """x W for rows x (..., d) and a matrix W (d, e).

    A row has the same product in any batch, to the last bit, which `x @ W` does not promise: BLAS
    adds in another order for one row than for many.
    """
    return x.__array_namespace__().einsum("...d,de->...e", x, W)


class AbstractBijection(eqx.Module):
    """z = T(x) onto ℝᵈ, for NumPy (float64) or JAX rows (..., d).

    Every z has an x, even far from the rows to which T was fitted: a sampler may end anywhere.
    """

    @classmethod
    @abc.abstractmethod
    def fit(cls, x: np.ndarray) -> Self:
        """The bijection of this family fitted to rows (n, d)."""

    @classmethod
    @abc.abstractmethod
    def identity(cls, d: int) -> Self:
        """The identity on ℝᵈ as a bijection of this family."""

    @abc.abstractmethod
    def forward(self, x: Array) -> tuple[Array, Array]:
        """z (..., d), and log |det ∂T/∂x| (...,)."""

    @abc.abstractmethod
    def inverse(self, z: Array) -> Array:
        """x (..., d)."""
