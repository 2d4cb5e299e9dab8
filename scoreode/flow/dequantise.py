"""From densities to discrete data and back: what makes bits/dim mean something.

bits/dim is −log2 P(grid cell) / d, a probability, and exists only for data that lie on a declared
grid. Uniform dequantisation adds u ~ U[0, w)^d to values on a grid of width w. By Jensen,

    log P(cell) ≥ E_u log p(x + u) + d log w,

so the bits/dim that follow are an upper bound (Theis et al. 2016).
"""

import math

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


class Uniform(eqx.Module):
    """Uniform dequantisation of data on a grid of width `bin_width`, in the data's units."""

    bin_width: float

    def __call__(self, key: PRNGKeyArray, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """x + u, u ~ U[0, bin_width) independently for every value."""
        return x + self.bin_width * jr.uniform(key, x.shape, x.dtype)

    def fixed(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """x + u on the host, the same u for the same seed and shape."""
        return x + self.bin_width * np.random.default_rng(seed).random(x.shape)

    def quantised(self, x: np.ndarray) -> np.ndarray:
        """The grid values whose cells hold x."""
        return self.bin_width * np.floor(x / self.bin_width)

    def bits_per_dim(self, nats: float, d: int) -> float:
        """Bits/dim from the log-density in nats of dequantised rows of d dimensions."""
        return -(nats / d + math.log(self.bin_width)) / math.log(2)
