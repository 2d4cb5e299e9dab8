"""What a training step draws: rows in standardised coordinates, without end."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Sampler
from scoreode.data import Dataset
from scoreode.flow import Uniform, declared
from scoreode.standardise import Chain
from scoreode.train import Rows


def batches(data: Dataset, bijection: Chain, *, flip: bool = False) -> Sampler:
    """A sampler of training rows: fresh draws, or stored ones with new noise where on a grid.

    **Arguments:** `flip` images left to right at random.
    """
    if data.sampler is not None:
        return Standardised(data.sampler, bijection)
    dequantisation = declared(data.bin_width, data.bin_edge)
    if dequantisation is None:
        z, _ = bijection.forward(np.asarray(data.train, np.float64))
        return Rows(jnp.asarray(z, jnp.float32))
    kind = data.train.dtype if data.train.dtype == np.uint8 else np.float32
    rows = Rows(jnp.asarray(data.train, kind))  # bytes stay bytes until they are drawn
    drawn = Dequantised(rows, dequantisation)
    if flip and data.image_shape is not None:
        drawn = Flipped(drawn, data.image_shape)
    return Standardised(drawn, bijection)


class Standardised(eqx.Module):
    """Fresh draws of a sampler in standardised coordinates."""

    sampler: Sampler
    bijection: Chain

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        return jnp.asarray(self.bijection.forward(self.sampler(key, n))[0])


class Dequantised(eqx.Module):
    """Rows on a grid, with new noise at every draw."""

    rows: Rows
    dequantisation: Uniform

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_rows, key_noise = jr.split(key)
        return self.dequantisation(key_noise, self.rows(key_rows, n).astype(jnp.float32))


class Flipped(eqx.Module):
    """Images of a sampler, each turned left to right with probability ½."""

    sampler: Sampler
    image_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_images, key_flips = jr.split(key)
        x = self.sampler(key_images, n)
        turned = x.reshape(n, *self.image_shape)[:, :, ::-1].reshape(n, -1)
        return jnp.where(jr.bernoulli(key_flips, 0.5, (n, 1)), turned, x)
