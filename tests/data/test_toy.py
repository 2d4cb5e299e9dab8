"""Toys: the entropy is that of the density, and the sampler draws from the density."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import TOYS
from densities import DENSITIES, Board
from scipy import interpolate, special
from standard_errors import assert_mean

POINTS = 50_000


@pytest.fixture(params=TOYS)
def name(request):
    return request.param


@eqx.filter_jit
def sample(toy, key, n):
    return toy(key, n)


def grid(density, dim):
    """Midpoints of cells along an axis, the density on their grid, a cell's volume."""
    cells = 440
    axis = density.half * ((2 * np.arange(cells) + 1) / cells - 1)
    p = density.on_grid(*[axis] * dim)
    return axis, p, (2 * density.half / cells) ** dim


def test_entropy_is_that_of_the_density(name):
    toy = TOYS[name]()
    _, p, volume = grid(DENSITIES[name](), toy.dim)
    np.testing.assert_allclose(p.sum() * volume, 1, atol=2e-5)
    np.testing.assert_allclose(special.entr(p).sum() * volume, toy.entropy, atol=1e-4)


def log_density(density, dim, x):
    """log p at rows: a cubic spline through the grid, whose error is far below a standard error."""
    axis, p, _ = grid(density, dim)
    log_p = np.log(np.maximum(p, 1e-250))
    if dim == 1:
        return interpolate.CubicSpline(axis, log_p)(x[:, 0])
    return interpolate.RectBivariateSpline(axis, axis, log_p).ev(*x.T)


@pytest.mark.slow
def test_samples_are_of_the_density(name):
    """The mean log-density of samples is −entropy only if both are the same distribution."""
    toy, density = TOYS[name](), DENSITIES[name]()
    x = np.asarray(sample(toy, jr.key(0), POINTS), np.float64)
    assert x.shape == (POINTS, toy.dim)
    if isinstance(density, Board):  # flat, with edges that no spline follows
        assert np.all(density(x) == 1 / 32)
    else:
        assert_mean(log_density(density, toy.dim, x), -toy.entropy)


def test_moments_are_those_of_the_density(name):
    """Means of x and of xy would show a mirrored or turned toy, whose entropy is the same."""
    toy, density = TOYS[name](), DENSITIES[name]()
    x = np.asarray(sample(toy, jr.key(1), POINTS), np.float64)
    axis, p, volume = grid(density, toy.dim)
    for k in range(toy.dim):
        assert_mean(x[:, k], np.tensordot(p, axis, ((k,), (0,))).sum() * volume)
    if toy.dim == 2:
        assert_mean(x[:, 0] * x[:, 1], axis @ p @ axis * volume)


def test_same_key_same_points(name):
    toy = TOYS[name]()
    a, b = sample(toy, jr.key(2), 64), sample(toy, jr.key(2), 64)
    np.testing.assert_array_equal(a, b)
    assert a.dtype == jnp.float32
    assert not np.array_equal(a, sample(toy, jr.key(3), 64))
