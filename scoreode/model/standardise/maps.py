r"""Maps from an interval and from a half-line onto ℝ, in two families; see `support`.

`interval` maps u in (0, ½], the part of an interval that lies on the shorter side, to (−∞, 0]; the
other half is its mirror image. `half_line` maps v > 0, a distance from a bound, to ℝ. Both return
the logarithm of the slope, too.

- `Normal`: z = Φ⁻¹(u) and z = log(e^v − 1).
- `Heavy`: z = −cot(πu) and z = v − 1/v. Student's t of one degree of freedom or more then has a
  bounded density up to the bound, and for a half-line its own tail far out.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr as jax_ndtr
from jax.scipy.special import ndtri as jax_ndtri
from scipy.special import ndtr, ndtri

from scoreode.model.standardise.bijection import Array

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal:
    """Maps under which a uniform law becomes normal, and a light tail stays light."""

    @staticmethod
    def interval(u: Array) -> tuple[Array, Array]:
        z = _probit(u)
        return z, 0.5 * z**2 + _HALF_LOG_2PI

    @staticmethod
    def part(z: Array) -> Array:
        """u from z ≤ 0."""
        return ndtr(z) if isinstance(z, np.ndarray | np.generic) else jax_ndtr(z)

    @staticmethod
    def half_line(v: Array) -> tuple[Array, Array]:
        xp = v.__array_namespace__()
        log_part = xp.log(-xp.expm1(-v))
        return v + log_part, -log_part

    @staticmethod
    def distance(z: Array) -> Array:
        """v from z."""
        xp = z.__array_namespace__()
        return xp.maximum(z, 0.0) + xp.log1p(xp.exp(-xp.abs(z)))


class Heavy:
    """Maps for a law with tails like Student's t."""

    @staticmethod
    def interval(u: Array) -> tuple[Array, Array]:
        xp = u.__array_namespace__()
        return -1 / xp.tan(math.pi * u), math.log(math.pi) - 2 * xp.log(xp.sin(math.pi * u))

    @staticmethod
    def part(z: Array) -> Array:
        """u from z ≤ 0."""
        xp = z.__array_namespace__()
        return xp.arctan2(xp.ones_like(z), -z) / math.pi

    @staticmethod
    def half_line(v: Array) -> tuple[Array, Array]:
        xp = v.__array_namespace__()
        return v - 1 / v, xp.log1p(v**2) - 2 * xp.log(v)

    @staticmethod
    def distance(z: Array) -> Array:
        """v from z."""
        xp = z.__array_namespace__()
        far = (xp.hypot(z, xp.full_like(z, 2.0)) + xp.abs(z)) / 2
        return xp.where(z < 0, 1 / far, far)


def _probit(u: Array) -> Array:
    """Φ⁻¹(u)."""
    return ndtri(u) if isinstance(u, np.ndarray | np.generic) else _traced_probit(jnp.asarray(u))


@jax.custom_jvp
def _traced_probit(u: jax.Array) -> jax.Array:
    return jax_ndtri(u)


@_traced_probit.defjvp
def _probit_tangent(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """dz/du = 1 / φ(z), which stays exact in every further derivative."""
    z = _traced_probit(*primals)
    return z, jnp.exp(0.5 * z**2 + _HALF_LOG_2PI) * tangents[0]
