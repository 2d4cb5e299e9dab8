"""The sampler of a run's training batches, from its data: see `samplers` for its parts."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scoreode._typing import Batch, Pairs, RowSampler, Sampler
from scoreode.data import Dataset, Stored, keep_inside
from scoreode.errors import InputError
from scoreode.flow import uniform_noise
from scoreode.model.config import Run
from scoreode.model.dequantised import AbstractTrainingNoise, UniformNoise
from scoreode.model.standardise import Chain
from scoreode.train import Rows, Windows
from scoreode.train.samplers import (
    Dequantised,
    Flipped,
    Smoothed,
    Standardised,
    WithReference,
    WithRoles,
)


def check_batch(run: Run) -> None:
    """Raises `InputError` unless every device has an equal part of every micro-batch."""
    parts = run.micro_batches * jax.device_count()
    if run.batch_size % parts:
        raise InputError(
            f"batch_size {run.batch_size}: not a multiple of {parts}, into which"
            f" {run.micro_batches} micro-batches on {jax.device_count()} devices divide it"
        )


def batches(
    data: Dataset,
    bijection: Chain,
    *,
    dequantise: AbstractTrainingNoise = UniformNoise(),
    flip: bool = False,
    window: int = 2**15,
    seed: int = 0,
    smoothing: float = 0.0,
    n_reference: int = 0,
) -> Sampler | Windows:
    """The sampler of training batches.

    It gives new draws of the data's sampler, or stored rows in proportion to their weights, with
    new noise if they lie on a grid. For conditional data it gives pairs (x, c).

    **Arguments:** `dequantise`, the run's noise on a grid; if the loss adds it, rows stay in the
    units of the data; `flip` images left to right at random; `window`, the rows in memory at a time
    if the data are not, chosen by the `seed`; `smoothing`, the standard deviation of normal noise
    on stored rows in standardised coordinates; `n_reference`, the rows that come beside a batch.
    """

    has_roles, subsets = data.has_roles, data.subsets
    data = data.coded

    def with_reference(sampler: RowSampler) -> Sampler:
        return WithReference(sampler, n_reference) if n_reference else sampler

    if data.sampler is not None:
        return with_reference(Standardised(data.sampler, bijection))
    c = _conditions(data, bijection)

    def sampler_of(x: np.ndarray) -> Sampler:
        sampler: RowSampler = _sampler(data, x, c, bijection, dequantise, flip)
        sampler = Smoothed(sampler, jnp.float32(smoothing)) if smoothing else sampler
        return with_reference(WithRoles(sampler, subsets) if has_roles else sampler)

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
    if data.support:  # also in float32
        x = keep_inside(np.asarray(x, np.float64), data.columns, data.support)
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
    return np.asarray(bijection.standardise(np.asarray(data.conditions.train, np.float64)))


def _with_conditions(x: Array, c: Array | np.ndarray | None) -> Batch:
    """The pairs (x, c); x without conditions."""
    return x if c is None else Pairs(x, jnp.asarray(c, jnp.float32))
