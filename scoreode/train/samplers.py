"""Samplers of training batches, each around another one: endless streams of rows."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from scoreode._typing import Batch, Pairs, Referenced, RowSampler
from scoreode.data.roles import split_roles
from scoreode.model.dequantised import AddNoise
from scoreode.model.standardise import Chain
from scoreode.train import Rows


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


class Smoothed(eqx.Module):
    """The batches of a sampler, with new noise from N(0, h² I) on every row, in these coordinates.

    The rows' law becomes that of a kernel density estimate of bandwidth h.
    """

    sampler: RowSampler
    h: Array

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch:
        key_rows, key_noise = jr.split(key)

        def smooth(x: Array, _: Array | None) -> Array:
            return x + self.h * jr.normal(key_noise, x.shape, x.dtype)

        return _map_x(smooth, self.sampler(key_rows, n))


class WithRoles(eqx.Module):
    """The batches of a sampler of pairs, with roles of the columns that are drawn for every row.

    Half of the rows have the density of what is there as their task, given which values are
    missing; the others a random part of it given another part, whatever else is missing. With
    `subsets` a random part is absent, too. Columns that are not diffused are standard normal, which
    is the law that a masked network has there.
    """

    sampler: RowSampler
    subsets: bool = eqx.field(static=True)

    def __call__(self, key: PRNGKeyArray, n: int) -> Pairs:
        key_rows, key_noise, key_task, *keys = jr.split(key, 7)
        batch = self.sampler(key_rows, n)
        assert isinstance(batch, Pairs)
        x = batch.x
        c, _, absent, missing, _ = split_roles(batch.c, x.shape[1])
        whole, pooled = jr.bernoulli(key_task, 0.5, (2, n, 1))
        there = 1 - absent - missing
        given = jnp.where(whole, 0, there * _part(keys[0], keys[1], x))
        left_out = there * (1 - given) * _part(keys[2], keys[3], x)
        left_out = jnp.where(pooled & self.subsets, left_out, 0)
        absent = absent + left_out + jnp.where(whole, 0, missing)
        missing = jnp.where(whole, missing, 0)
        hidden = given + absent + missing > 0
        roles = given, absent, missing, given * x
        noise = jr.normal(key_noise, x.shape, x.dtype)
        return Pairs(jnp.where(hidden, noise, x), jnp.concatenate([c, *roles], axis=1))


def _part(key: PRNGKeyArray, key_share: PRNGKeyArray, x: Array) -> Array:
    """Indicators of a random part of every row's columns, whose share is uniform."""
    share = jr.uniform(key_share, (len(x), 1), x.dtype)
    return (jr.uniform(key, x.shape, x.dtype) < share).astype(x.dtype)


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
