"""Probe vectors v with E[v vᵀ] = I: they turn a trace into a mean of vᵀ A v (Hutchinson 1989).

A draw is a set of k vectors and one weight w with Σ_k w v_k v_kᵀ = I, in expectation for random
probes and exactly for the basis. So "exact" is not another code path: it is another probe.

Which one: `Basis` while d evaluations are affordable, else `Rademacher`, whose trace estimate has
the least variance of all probes with independent components (twice the squared Frobenius norm of
the symmetric part without its diagonal).
"""

import abc
import math
from typing import TYPE_CHECKING

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar


class ProbeDraw(eqx.Module):
    """k vectors of the shape of x, flattened, and the weight that each carries in a sum."""

    vectors: Float[Array, "k d"]
    weight: Scalar


class AbstractProbe(eqx.Module):
    """A distribution of probe vectors; `exact` says that Σ_k w v_k v_kᵀ = I in every draw."""

    exact: AbstractClassVar[bool]

    @abc.abstractmethod
    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        """n probes of dimension d (the basis gives its d vectors, whatever n)."""


def _equally_weighted(vectors: Float[Array, "k d"]) -> ProbeDraw:
    return ProbeDraw(vectors, jnp.asarray(1 / vectors.shape[0], vectors.dtype))


class Rademacher(AbstractProbe):
    """Independent signs."""

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        return _equally_weighted(jr.rademacher(key, (n, d), dtype))


class Gaussian(AbstractProbe):
    """Independent standard normals: any rotation of them is the same probe."""

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        return _equally_weighted(jr.normal(key, (n, d), dtype))


class Sphere(AbstractProbe):
    """Uniform on the sphere of radius √d: normals without the variance of their length."""

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        normals = jr.normal(key, (n, d), dtype)
        length = jnp.linalg.norm(normals, axis=1, keepdims=True)
        return _equally_weighted(math.sqrt(d) * normals / length)


class Basis(AbstractProbe):
    """The d unit vectors, each with weight 1: sums over them are exact."""

    exact = True

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        return ProbeDraw(jnp.eye(d, dtype=dtype), jnp.ones((), dtype))
