"""What a training step draws: rows in standardised coordinates, without end."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from scoreode._typing import Batch, Pairs, Sampler
from scoreode.data import Dataset, Stored
from scoreode.flow import Uniform, uniform_noise
from scoreode.model.standardise import Chain
from scoreode.train import Rows, Windows


def batches(
    data: Dataset,
    bijection: Chain,
    *,
    dequantise: str = "uniform",
    flip: bool = False,
    window: int = 2**15,
    seed: int = 0,
) -> Sampler | Windows:
    """A sampler of training rows: fresh draws, or stored ones with new noise where on a grid,
    drawn as often as their weights say; of pairs, where rows are conditioned on others.

    **Arguments:** `dequantise`, the run's: only "uniform" noise is added here, and where it is
    "variational" rows stay in their own units, as the loss adds it; `flip` images left to right at
    random; `window`, how many rows at a time, by the `seed`, of sets that are not in memory.
    """
    if data.sampler is not None:
        return Standardised(data.sampler, bijection)
    c = _conditions(data, bijection)

    def sampler_of(x: np.ndarray) -> Sampler:
        return _sampler(data, x, c, bijection, dequantise, flip)

    if isinstance(data.train, Stored):
        return Windows(data.train, window, seed, sampler_of)
    return sampler_of(data.train)


def _sampler(
    data: Dataset,
    x: np.ndarray,
    c: np.ndarray | None,
    bijection: Chain,
    dequantise: str,
    flip: bool,
) -> Sampler:
    """Of these rows of the data."""
    noise = uniform_noise(data.bin_width, data.bin_edge)
    if noise is None:
        # In float64, and rounded last: residuals of a regression may be thin.
        z, _ = bijection.forward(np.asarray(x, np.float64), c)
        return Rows.padded(_paired(jnp.asarray(z, jnp.float32), c), data.train_weights)
    kind = x.dtype if x.dtype == np.uint8 else np.float32
    stored = jnp.asarray(x, kind)  # bytes stay bytes until they are drawn
    rows = Rows.padded(_paired(stored, c), data.train_weights)
    drawn = Dequantised(rows, noise if dequantise == "uniform" else None)
    if flip and data.image_shape is not None:
        drawn = Flipped(drawn, data.image_shape)
    return drawn if dequantise == "variational" else Standardised(drawn, bijection)


def _conditions(data: Dataset, bijection: Chain) -> np.ndarray | None:
    """What training rows are conditioned on, standardised, in float64."""
    if data.conditions is None or bijection.condition is None:
        return None
    c = bijection.condition.standardised(np.asarray(data.conditions.train, np.float64))
    return np.asarray(c)


def _paired(x: Array, c: Array | np.ndarray | None) -> Batch:
    """Rows, beside each what it is conditioned on."""
    return x if c is None else Pairs(x, jnp.asarray(c, jnp.float32))


def _of_x(change: Callable[[Array, Array | None], Array], batch: Batch) -> Batch:
    """A batch whose x is changed, given c if there is one; c stays."""
    if isinstance(batch, Pairs):
        return Pairs(change(batch.x, batch.c), batch.c)
    return change(batch, None)


class Standardised(eqx.Module):
    """Fresh draws of a sampler in standardised coordinates."""

    sampler: Sampler
    bijection: Chain

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        def standardised(x: Array, c: Array | None) -> Array:
            return jnp.asarray(self.bijection.forward(x, c)[0])

        return _of_x(standardised, self.sampler(key, n))


class Dequantised(eqx.Module):
    """Rows on a grid, with new noise at every draw, or as they are."""

    rows: Rows
    noise: Uniform | None

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        key_rows, key_noise = jr.split(key)

        def noisy(x: Array, _: Array | None) -> Array:
            x = x.astype(jnp.float32)
            return x if self.noise is None else self.noise(key_noise, x)

        return _of_x(noisy, self.rows(key_rows, n))


class Flipped(eqx.Module):
    """Images of a sampler, each turned left to right with probability ½."""

    sampler: Sampler
    image_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        key_images, key_flips = jr.split(key)

        def flipped(x: Array, _: Array | None) -> Array:
            turned = x.reshape(n, *self.image_shape)[:, :, ::-1].reshape(n, -1)
            return jnp.where(jr.bernoulli(key_flips, 0.5, (n, 1)), turned, x)

        return _of_x(flipped, self.sampler(key_images, n))
