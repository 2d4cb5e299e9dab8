"""Dequantised log-masses against closed forms: the bound's own value, and what it rises to."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr
from standard_errors import assert_mean

from scoreode.flow import LogitNormal, LogLikelihood, TruncatedNormal, Uniform

WEIGHTS = np.array([0.3, 0.5, 0.2])
MEANS = np.array([0.6, 2.5, 3.4])
STDS = np.array([0.2, 0.35, 0.5])
CELLS = np.arange(-3.0, 8.0)
WIDTHS = np.array([1.0, 0.5, 0.0])  # the third column is continuous


def column_density(x):
    """One column: a mixture of normals, sharper than the cells."""
    return np.sum(WEIGHTS * stats.norm.pdf(x[..., None], MEANS, STDS), -1)


def column_mass(low, width):
    edges = np.stack([low, low + width])[..., None]
    below, above = np.sum(WEIGHTS * ndtr((edges - MEANS) / STDS), -1)
    return above - below


def slope(x):
    """What the second column's mean takes from the first: an autoregressive table."""
    return 0.4 * np.floor(x)


def log_density(x):
    """log p(x_1) p(x_2 | cell of x_1) p(x_3 | cell of x_1), as an estimator would record it."""
    p = column_density(x[:, 0])
    p = p * column_density(x[:, 1] - slope(x[:, 0]))
    nats = np.log(p) + stats.norm.logpdf(x[:, 2], slope(x[:, 0]))
    n, nothing = len(x), np.zeros(len(x))
    return LogLikelihood(nats, nothing, np.full(n, 82), np.full(n, True), x, nothing)


def drawn(n):
    """Rows of that law, discrete columns on their grids."""
    rng = np.random.default_rng(0)
    k = rng.choice(3, size=(2, n), p=WEIGHTS)
    a, b = MEANS[k] + STDS[k] * rng.normal(size=(2, n))
    first = np.floor(a)
    second = 0.5 * np.floor((b + slope(first)) / 0.5)
    return np.stack([first, second, slope(first) + rng.normal(size=n)], 1)


def log_mass(x):
    """The truth: the mass of the discrete columns times the density of the third."""
    shifted = x[:, 1] - slope(x[:, 0])
    mass = column_mass(x[:, 0], 1.0) * column_mass(shifted, 0.5)
    return np.log(mass) + stats.norm.logpdf(x[:, 2], slope(x[:, 0]))


def bound(x):
    """E log p(x + u) − log r for u uniform, by Gauss–Legendre in either discrete column."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    u, weights = (nodes + 1) / 2, weights / 2
    first = np.log(column_density(x[:, :1] + u)) @ weights
    shifted = x[:, 1:2] - slope(x[:, :1])
    second = np.log(column_density(shifted + 0.5 * u)) @ weights + math.log(0.5)
    return first + second + stats.norm.logpdf(x[:, 2], slope(x[:, 0]))


def test_one_sample_is_the_bound_and_more_rise_to_the_truth():
    x = drawn(4000)
    how, truth, lowest = Uniform(WIDTHS), log_mass(x), bound(x)
    found = {k: how.log_mass(log_density, x, samples=k).nats for k in (1, 4, 16, 64)}
    assert_mean(found[1] - lowest, 0)
    means = [np.mean(lowest), *(np.mean(nats) for nats in found.values()), np.mean(truth)]
    assert means[0] < means[2] < means[3] < means[4] < means[5]
    # The gap is half the relative variance of the mean of K ratios, so it falls by four.
    gaps = [np.mean(truth - found[k]) for k in (4, 16, 64)]
    assert gaps[1] < gaps[0] / 2.5
    assert gaps[2] < gaps[1] / 2.5
    # No bound in probability, but the mean of its exponential is the mass itself.
    assert_mean(np.exp(found[4] - truth), 1)


def test_truncated_normal_noise_is_a_bound_too():
    """Exact for a density that is a normal of that very width around every value."""
    std, values = 0.11, np.array([0.0, 1.0, 2.0])
    p = np.array([0.2, 0.5, 0.3])

    def log_density(x):
        nats = np.log(np.sum(p * stats.norm.pdf(x, values, std), 1))
        n, nothing = len(x), np.zeros(len(x))
        return LogLikelihood(nats, nothing, np.full(n, 1), np.full(n, True), x, nothing)

    x = np.repeat(values, 200)[:, None]
    found = TruncatedNormal(1.0, std).log_mass(log_density, x)
    inside = 1 - 2 * ndtr(-0.5 / std)
    np.testing.assert_allclose(found.nats, np.repeat(np.log(p * inside), 200), atol=1e-4)
    uniform = Uniform(1.0).log_mass(log_density, x - 0.5)
    assert np.mean(uniform.nats) < np.mean(found.nats) - 1


OFFSET = np.array([0.25, -0.1, 7.0])  # of the grids from 0


@pytest.mark.parametrize(
    "how",
    [
        Uniform(WIDTHS),
        Uniform(WIDTHS, OFFSET),
        TruncatedNormal(WIDTHS, 0.2),
        TruncatedNormal(WIDTHS, 0.2, OFFSET),
        LogitNormal(WIDTHS, 0.0, lambda x: (0.3 * np.ones_like(x), 0.4 * np.ones_like(x))),
        LogitNormal(WIDTHS, OFFSET, lambda x: (-0.2 * np.ones_like(x), 0.5 * np.ones_like(x))),
    ],
)
def test_noise_has_the_density_that_it_says(how):
    u = np.random.default_rng(1).random((20_000, 3))
    offset, log_r = how.noise(u, u)
    low = -WIDTHS / 2 if isinstance(how, TruncatedNormal) else 0.0
    assert np.all((offset >= low) & (offset <= low + WIDTHS))
    assert np.all(offset[:, 2] == 0)
    # E 1/r is the volume of the cell, and a transformed uniform is a draw of r.
    assert_mean(np.exp(-log_r), 0.5)
    origin = how.bin_middle if isinstance(how, TruncatedNormal) else how.bin_edge
    x = np.array([[3.0, -1.5, 0.123]]) + origin
    np.testing.assert_allclose(how.quantise(x + 0.999 * offset), np.repeat(x, len(u), 0))


def test_noise_depends_on_the_row_and_not_on_its_block():
    how, x = Uniform(1.0), drawn(50)
    whole = how.dequantise(x, seed=3, draw=1)
    np.testing.assert_array_equal(how.dequantise(x[20:], seed=3, draw=1, first_row=20), whole[20:])
    assert not np.any(how.dequantise(x, seed=4, draw=1) == whole)
    assert not np.any(how.dequantise(x, seed=3, draw=2) == whole)


def test_training_noise_is_uniform_in_the_cells_of_discrete_columns():
    x = jnp.asarray(drawn(2000), jnp.float32)
    u = np.asarray(jax.jit(lambda how, x: how(jr.key(0), x))(Uniform(WIDTHS), x) - x)
    assert np.all(u[:, 2] == 0)
    assert_mean(u[:, :2] - WIDTHS[:2] / 2, 0)
    assert_mean((u[:, :2] - WIDTHS[:2] / 2) ** 2, WIDTHS[:2] ** 2 / 12)


def test_bits_per_dim_are_of_discrete_columns_only():
    assert Uniform(0.25).bits_per_dim(-3 * math.log(8), 3) == pytest.approx(3)
    assert Uniform(WIDTHS).bits_per_dim(-1.0, 3) is None


def test_errors_are_those_of_the_mean():
    x = drawn(10)

    def noisy(x):
        found = log_density(x)
        return LogLikelihood(
            found.nats, np.full(10, 0.3), found.nfe, np.arange(10) != 4, x, np.full(10, 0.01)
        )

    found = Uniform(WIDTHS).log_mass(noisy, x, samples=9)
    assert np.all((found.stderr >= 0.1 - 1e-12) & (found.stderr <= 0.3))
    np.testing.assert_allclose(found.error, 0.01)
    np.testing.assert_array_equal(found.nfe, 9 * 82)
    np.testing.assert_array_equal(found.converged, np.arange(10) != 4)
