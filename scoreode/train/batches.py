"""Samplers of training batches: endless streams of rows in standardised coordinates."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from scoreode._typing import Batch, Pairs, Referenced, RowSampler, Sampler
from scoreode.data import Dataset, Stored
from scoreode.flow import uniform_noise
from scoreode.model.dequantised import AbstractTrainingNoise, AddNoise, UniformNoise
from scoreode.model.standardise import Chain
from scoreode.train import Rows, Windows


def batches(
    data: Dataset,
    bijection: Chain,
    *,
    dequantise: AbstractTrainingNoise = UniformNoise(),
    flip: bool = False,
    window: int = 2**15,
    seed: int = 0,
    n_reference: int = 0,
) -> Sampler | Windows:
    """The sampler of training batches.

    It gives new draws of the data's sampler, or stored rows in proportion to their weights, with
    new noise if they lie on a grid. For conditional data it gives pairs (x, c).

    **Arguments:** `dequantise`, the run's noise on a grid; if the loss adds it, rows stay in the
    units of the data; `flip` images left to right at random; `window`, the rows in memory at a time
    if the data are not, chosen by the `seed`; `n_reference`, the rows that come beside a batch.
    """

    def with_reference(sampler: RowSampler) -> Sampler:
        return WithReference(sampler, n_reference) if n_reference else sampler

    if data.sampler is not None:
        return with_reference(Standardised(data.sampler, bijection))
    c = _conditions(data, bijection)

    def sampler_of(x: np.ndarray) -> Sampler:
        return with_reference(_sampler(data, x, c, bijection, dequantise, flip))

    if isinstance(data.train, Stored):
        return Windows(data.train, window, seed, sampler_of)
    return sampler_of(data.train)


def _sampler(
    data: Dataset,
    x: np.ndarray,
    c: np.ndarray | None,
    bijection: Chain,
    dequantise: AbstractTrainingNoise,
    flip: bool,
) -> RowSampler:
    """The sampler of batches from these rows of the data."""
    noise = uniform_noise(data.bin_width, data.bin_edge)
    if noise is None:
        # In float64, rounded at the end: residuals of a regression may have a tiny scale.
        z, _ = bijection.forward(np.asarray(x, np.float64), c)
        return Rows.with_padding(
            _with_conditions(jnp.asarray(z, jnp.float32), c), data.train_weights
        )
    dtype = x.dtype if x.dtype == np.uint8 else np.float32
    stored = jnp.asarray(x, dtype)  # uint8 saves memory until a batch is drawn
    rows = Rows.with_padding(_with_conditions(stored, c), data.train_weights)
    sampler = Dequantised(rows, dequantise.in_batches(noise))
    if flip and data.image_shape is not None:
        sampler = Flipped(sampler, data.image_shape)
    return sampler if dequantise.in_loss else Standardised(sampler, bijection)


def _conditions(data: Dataset, bijection: Chain) -> np.ndarray | None:
    """The standardised conditions of the training rows, in float64."""
    if data.conditions is None or bijection.condition is None:
        return None
    c = bijection.condition.standardise(np.asarray(data.conditions.train, np.float64))
    return np.asarray(c)


def _with_conditions(x: Array, c: Array | np.ndarray | None) -> Batch:
    """The pairs (x, c); x without conditions."""
    return x if c is None else Pairs(x, jnp.asarray(c, jnp.float32))


def _map_x(function: Callable[[Array, Array | None], Array], batch: Batch) -> Batch:
    """The batch with `function(x, c)` in place of x; c is None without conditions."""
    if isinstance(batch, Pairs):
        return Pairs(function(batch.x, batch.c), batch.c)
    return function(batch, None)


class Standardised(eqx.Module):
    """The batches of a sampler in standardised coordinates."""

    sampler: RowSampler
    bijection: Chain

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        def standardise(x: Array, c: Array | None) -> Array:
            return jnp.asarray(self.bijection.forward(x, c)[0])

        return _map_x(standardise, self.sampler(key, n))


class WithReference(eqx.Module):
    """The batches of a sampler, each with more rows of the same distribution beside it."""

    sampler: RowSampler
    n_reference: int

    def __call__(self, key: PRNGKeyArray, n: int) -> Referenced:
        rows = self.sampler(key, n + self.n_reference)
        return Referenced(jax.tree.map(lambda a: a[:n], rows), jax.tree.map(lambda a: a[n:], rows))


class Dequantised(eqx.Module):
    """Rows on a grid, with new noise in every batch, or without noise."""

    rows: Rows
    noise: AddNoise | None

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        key_rows, key_noise = jr.split(key)

        def add_noise(x: Array, _: Array | None) -> Array:
            x = x.astype(jnp.float32)
            return x if self.noise is None else self.noise(key_noise, x)

        return _map_x(add_noise, self.rows(key_rows, n))


class Flipped(eqx.Module):
    """Images of a sampler, each flipped left to right with probability ½."""

    sampler: RowSampler
    image_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        key_images, key_flips = jr.split(key)

        def flip(x: Array, _: Array | None) -> Array:
            mirrored = x.reshape(n, *self.image_shape)[:, :, ::-1].reshape(n, -1)
            return jnp.where(jr.bernoulli(key_flips, 0.5, (n, 1)), mirrored, x)

        return _map_x(flip, self.sampler(key_images, n))
