"""Probe vectors v with E[v vᵀ] = I: tr A is the mean of vᵀ A v (Hutchinson 1989).

A draw is a set of k vectors and one weight w with Σ_k w v_k v_kᵀ = I: in expectation for random
probes, exactly for the basis. An exact trace therefore needs no other code, only another probe.

Use `Basis` while d tangents are affordable, else `Hadamard`. Random signs have the least variance
of all probes with independent components: twice the squared Frobenius norm of the symmetric part
without its diagonal. With orthogonal signs every further probe removes a part of that variance.
"""

import abc
import math
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar


class ProbeDraw(eqx.Module):
    """k flattened vectors and the weight of each in a sum.

    `variance` is the variance of the mean of the k estimates, divided by (sample variance) / k, its
    value for independent estimates. It is 0 if the mean is exact.
    """

    vectors: Float[Array, "k d"]
    weight: Scalar
    variance: Scalar


class AbstractProbe(eqx.Module):
    """A distribution of probe vectors; `exact`: whether Σ_k w v_k v_kᵀ = I in every draw."""

    exact: AbstractClassVar[bool]

    @abc.abstractmethod
    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        """n probes of dimension d (`Basis` ignores n and gives d vectors)."""


def _weigh_equally(vectors: Float[Array, "k d"], variance: float = 1.0) -> ProbeDraw:
    weight, variance_ = (jnp.asarray(c, vectors.dtype) for c in (1 / len(vectors), variance))
    return ProbeDraw(vectors, weight, variance_)


class Rademacher(AbstractProbe):
    """Independent signs."""

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        return _weigh_equally(jr.rademacher(key, (n, d), dtype))


class Gaussian(AbstractProbe):
    """Independent standard normals: their distribution is invariant under rotations."""

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        return _weigh_equally(jr.normal(key, (n, d), dtype))


class Sphere(AbstractProbe):
    """Uniform on the sphere of radius √d: normal vectors scaled to the same length."""

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        normals = jr.normal(key, (n, d), dtype)
        length = jnp.linalg.norm(normals, axis=1, keepdims=True)
        return _weigh_equally(math.sqrt(d) * normals / length)


class Hadamard(AbstractProbe):
    """Orthogonal signs: n of the D = 2^m ≥ d rows of a Hadamard matrix, columns with random signs.

    Rows are drawn without replacement. The mean of n estimates has 1 − (n − 1)/(D − 1) times the
    variance of n independent signs, and D rows are exact.
    """

    exact = False

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        """At most D probes."""
        D = 1 << (d - 1).bit_length()
        n = min(n, D)
        key_rows, key_signs = jr.split(key)
        rows = jr.permutation(key_rows, jnp.arange(D, dtype=jnp.uint32))[:n]
        # Sylvester's construction: the sign is the parity of the common bits of row and column.
        shared = rows[:, None] & jnp.arange(d, dtype=jnp.uint32)[None]
        signs = 1 - 2 * (jax.lax.population_count(shared) & 1).astype(dtype)
        signs = signs * jr.rademacher(key_signs, (1, d), dtype)
        return _weigh_equally(signs, 1 - n / D)


class Basis(AbstractProbe):
    """The d unit vectors, each with weight 1: sums over them are exact."""

    exact = True

    def draw(self, key: PRNGKeyArray, n: int, d: int, dtype: jnp.dtype) -> ProbeDraw:
        return ProbeDraw(jnp.eye(d, dtype=dtype), jnp.ones((), dtype), jnp.zeros((), dtype))
