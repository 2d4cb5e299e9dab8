"""What every standardisation is: a bijection of rows, with its Jacobian."""

import abc
from typing import Self

import equinox as eqx
import jax
import numpy as np

Array = np.ndarray | jax.Array


class AbstractBijection(eqx.Module):
    """z = T(x) for rows (..., d) of NumPy (float64) or JAX, onto all of ℝᵈ.

    Every z has an x, also far from the rows that T was fitted to: a sampler may end anywhere.
    """

    @classmethod
    @abc.abstractmethod
    def fitted(cls, x: np.ndarray) -> Self:
        """The member of the family that suits rows (n, d)."""

    @classmethod
    @abc.abstractmethod
    def identity(cls, d: int) -> Self:
        """The member that changes nothing."""

    @abc.abstractmethod
    def forward(self, x: Array) -> tuple[Array, Array]:
        """z (..., d), and log |det ∂T/∂x| (...,)."""

    @abc.abstractmethod
    def inverse(self, z: Array) -> Array:
        """x (..., d)."""
