"""Networks that say where in its cell of a grid a value is to be put."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Network
from scoreode.network.specification import Specification

_NEAREST = math.log(1.6)  # of a logit-normal's log-scale: the nearest to uniform


class CellNoise(eqx.Module):
    """(a, b)(z): location and log-scale of the logit of the noise in every cell of an example.

    Two networks, which start near 0: the noise then is nearly uniform.
    """

    location: Network
    log_scale: Network

    @classmethod
    def built(cls, spec: Specification, d: int, key: PRNGKeyArray) -> "CellNoise":
        """Freshly initialised, for examples of shape (d,)."""
        return cls(*(spec.build((d,), key) for key in jr.split(key)))

    def __call__(self, z: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        no_level = jnp.zeros((), z.dtype)  # the networks are those of scores, which have one
        return self.location(z, no_level), _NEAREST + self.log_scale(z, no_level)
