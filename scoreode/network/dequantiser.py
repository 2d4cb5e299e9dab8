"""The network of variational dequantisation: it places a value within its cell of the grid."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Network
from scoreode.network.specification import Specification

_NEAREST = math.log(1.6)  # the log-scale at which a logit-normal is closest to uniform


class CellNoise(eqx.Module):
    """(a, b)(z): location and log-scale of the noise's logit, for every cell of an example.

    a and b come from two networks, whose outputs start near 0: the noise is nearly uniform then.
    """

    location: Network
    log_scale: Network

    @classmethod
    def build(cls, spec: Specification, d: int, key: PRNGKeyArray) -> "CellNoise":
        """Newly initialised networks for examples of shape (d,)."""
        return cls(*(spec.build((d,), key) for key in jr.split(key)))

    def __call__(self, z: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        no_level = jnp.zeros((), z.dtype)  # score networks need a noise level; there is none here
        return self.location(z, no_level), _NEAREST + self.log_scale(z, no_level)
