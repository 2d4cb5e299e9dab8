"""Toys: the entropy is that of the density, and the sampler draws from the density."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import TOYS
from densities import DENSITIES
from scipy import special
from standard_errors import assert_mean

POINTS = 50_000


@pytest.fixture(params=TOYS)
def name(request):
    return request.param


@eqx.filter_jit
def sample(toy, key, n):
    return toy(key, n)


def grid_values(density, dim):
    """The density on a grid of cells' midpoints, and a cell's volume."""
    cells = 440
    axis = density.half * ((2 * np.arange(cells) + 1) / cells - 1)
    volume = (2 * density.half / cells) ** dim
    if dim == 1:
        return density(axis[:, None]), volume
    if hasattr(density, "on_grid"):
        return density.on_grid(axis, axis), volume
    return density(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)), volume


def test_entropy_is_that_of_the_density(name):
    toy = TOYS[name]()
    p, volume = grid_values(DENSITIES[name](), toy.dim)
    np.testing.assert_allclose(p.sum() * volume, 1, atol=2e-5)
    np.testing.assert_allclose(special.entr(p).sum() * volume, toy.entropy, atol=1e-4)


def test_samples_are_of_the_density(name):
    """The mean log-density of samples is −entropy only if both are the same distribution."""
    toy, density = TOYS[name](), DENSITIES[name]()
    x = np.asarray(sample(toy, jr.key(0), POINTS), np.float64)
    assert x.shape == (POINTS, toy.dim)
    log_p = np.log(np.concatenate([density(part) for part in np.array_split(x, 50)]))
    assert_mean(log_p, -toy.entropy)


def test_moments_are_those_of_the_density(name):
    toy, density = TOYS[name](), DENSITIES[name]()
    x = np.asarray(sample(toy, jr.key(1), POINTS), np.float64)
    p, volume = grid_values(density, toy.dim)
    cells = p.shape[0] if toy.dim == 1 else round(p.size**0.5)
    axis = density.half * ((2 * np.arange(cells) + 1) / cells - 1)
    if toy.dim == 1:
        assert_mean(x[:, 0], axis @ p * volume)
        assert_mean(x[:, 0] ** 2, axis**2 @ p * volume)
        return
    p = p.reshape(cells, cells)
    first = axis if hasattr(density, "on_grid") else axis  # rows of the grid are x or y
    assert_mean(x.sum(1), (first @ p.sum(1) + first @ p.sum(0)) * volume)
    assert_mean(x[:, 0] * x[:, 1], axis @ p @ axis * volume)


def test_same_key_same_points(name):
    toy = TOYS[name]()
    a, b = sample(toy, jr.key(2), 64), sample(toy, jr.key(2), 64)
    np.testing.assert_array_equal(a, b)
    assert a.dtype == jnp.float32
    assert not np.array_equal(a, sample(toy, jr.key(3), 64))
