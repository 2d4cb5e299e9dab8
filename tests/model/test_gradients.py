"""Derivatives of the ODE's log-density in the units of the data, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import random_model

from scoreode.calculus import AbstractProbe, ProbeDraw
from scoreode.errors import InputError
from scoreode.flow import GridLikelihood, Refined, draw_probes, map_rows
from scoreode.model.config import STANDARDISATIONS
from scoreode.model.density import Density
from scoreode.model.gradients import NetworkScore, ODEScore
from scoreode.model.standardise import Chain, Conditioning, Scaling, Whitening
from scoreode.process import VE
from scoreode.score import Score, ScoreModel
from scoreode.theory import AugmentedODE

PROCESS = VE(sigma_min=0.01, sigma_max=10.0)
S = np.array([0.4, 0.7, 1.2])  # of the standardised rows, along the axes of R
R = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
ONE = Refined(tolerance=1.0, most_steps=40)  # grid, compiled once
A = np.array([[0.8, -0.5], [0.3, 1.0], [-0.2, 0.4]])  # their mean by the condition


class Gaussian(eqx.Module):
    """∇log N(z; A c, R S² Rᵀ + σ²), as a network sees z and t."""

    R: jax.Array
    S: jax.Array
    A: jax.Array

    def __call__(self, y, log_snr, c=None):
        variance = jnp.exp(-log_snr)
        centred = y * jnp.sqrt(1 + variance) - (0 if c is None else self.A @ c)
        return -self.R @ (self.R.T @ centred / (self.S**2 + variance))


def model(r=R, s=S, dtype=jnp.float32):
    arrays = (jnp.asarray(array, dtype) for array in (r, s, A))
    return ScoreModel(PROCESS, Score(), Gaussian(*arrays))


def moments(c, r=R, s=S):
    """Mean and covariance of z: those of the prior N(0, 1 + σ_T²), carried back by the ODE."""
    shrunk = np.sqrt((s**2 + 0.01**2) / (s**2 + 100))
    return c @ A.T @ r @ np.diag(1 - shrunk) @ r.T, r @ np.diag(101 * shrunk**2) @ r.T


def log_density(bijection, x, c=None):
    """Of rows, in float64 NumPy: no derivative of T is taken."""
    z, log_det = bijection.forward(x, c)
    mean, covariance = (0, moments(np.zeros(2))[1]) if c is None else moments(c)
    return log_det - 0.5 * np.sum((z - mean) * np.linalg.solve(covariance, (z - mean).T).T, 1)


def differences(function, x, v, h):
    """Along v, central, of order 4."""
    near, far = (function(x + k * h * v) - function(x - k * h * v) for k in (1, 2))
    return (8 * near - far) / (12 * h)


def rows(n=200):
    return np.random.default_rng(0).normal(size=(n, 3)) * S @ R.T


COLUMNS = {
    "plain": (np.zeros(3), np.ones(3)),
    "units": (np.array([3.0, -200.0, 1e5]), np.array([0.5, 10.0, 2e3])),
    "offset": (np.array([1.7e9, -1.7e9, 0.0]), np.ones(3)),
    "scales": (np.zeros(3), np.array([1e9, 1e-9, 1.0])),
    "extremes": (np.zeros(3), np.array([1e60, 1e-60, 1.0])),
}


@pytest.mark.slow
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("family", [Scaling, Whitening])
def test_derivatives_of_a_gaussian_in_any_units(family, columns):
    shift, scale = COLUMNS[columns]
    x = shift + scale * rows()
    bijection = Chain.fit((family,), x)
    density = Density(bijection, model())
    z, _ = bijection.forward(x)
    J = (bijection.forward(x[:1] + np.diag(scale))[0] - bijection.forward(x[:1])[0]).T  # per scale
    precision = np.linalg.inv(moments(np.zeros(2))[1])
    H = -J.T @ precision @ J
    x, z = x[:40], z[:40]
    # float32 keeps 7 digits of every step; 41 of them and their reverse sweep.
    np.testing.assert_allclose(density.score(x) * scale, -z @ precision @ J, rtol=0, atol=1e-3)
    v = np.random.default_rng(1).normal(size=(40, 3))
    product = density.hessian_product(x, scale * v) * scale
    np.testing.assert_allclose(product, v @ H, rtol=0, atol=2e-3 * np.abs(H).max())
    values, errors = density.laplacian(x)
    np.testing.assert_allclose(values, np.sum(np.diag(H) / scale**2), rtol=1e-3)
    assert (errors == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", STANDARDISATIONS)
def test_derivatives_through_every_standardisation(name):
    """Against differences of the closed form, in which the bijection is NumPy's."""
    rng = np.random.default_rng(1)
    scale = np.array([0.3, 1.0, 3.0])
    table = scale * np.exp(0.5 * rng.normal(size=(400, 3)))
    bijection = Chain.fit(STANDARDISATIONS[name], table)
    density = Density(bijection, model())
    # Inside, as differences see both sides of a seam at the least value.
    x = table[np.all(table > table.min(0) + 0.05 * scale, 1)][:30]
    density_at = lambda x: log_density(bijection, x)  # noqa: E731
    gradient = np.stack([differences(density_at, x, e, 1e-3) for e in np.diag(scale)], 1)
    size = 1 + np.abs(gradient)
    np.testing.assert_allclose(density.score(x) * scale / size, gradient / size, atol=1e-3)

    v = scale * rng.normal(size=x.shape)
    gradient_at = lambda x: np.stack(  # noqa: E731
        [differences(density_at, x, e, 1e-3) for e in np.diag(scale)], 1
    )
    product = differences(gradient_at, x, v, 3e-3)
    size = np.abs(product).max(1, keepdims=True)
    found = density.hessian_product(x, v) * scale
    np.testing.assert_allclose(found / size, product / size, atol=5e-3)

    second = sum(
        differences(lambda x, e=e: differences(density_at, x, e, 1e-3), x, e, 3e-3) / e.sum() ** 2
        for e in np.diag(scale)
    )
    np.testing.assert_allclose(density.laplacian(x)[0], second, rtol=5e-3)


@pytest.mark.parametrize("name", ["scale", "whiten", "power"])
def test_a_row_at_the_least_value_has_a_score(name):
    """Between those of both sides, where a transform has a seam; not half of either."""
    table = np.exp(0.5 * np.random.default_rng(1).normal(size=(400, 3)))
    bijection = Chain.fit(STANDARDISATIONS[name], table)
    x, h = table[np.argmin(table, 0)], 1e-4
    found = np.diag(Density(bijection, model()).score(x))
    here = log_density(bijection, x)
    sides = [
        np.diag([(log_density(bijection, x + s * e) - here) / (s * h) for e in h * np.eye(3)])
        for s in (1, -1)
    ]
    assert (found > np.min(sides, 0) - 0.02).all()
    assert (found < np.max(sides, 0) + 0.02).all()


@pytest.mark.slow
def test_derivatives_given_conditions():
    """Of x in every row, by its own c, where a regression on c comes last."""
    rng = np.random.default_rng(2)
    c = rng.normal(size=(400, 2))
    table = np.array([5.0, 0.0, -1.0]) + np.exp(rows(400) + c @ A.T)
    inner = Chain.fit((STANDARDISATIONS["power"][0],), table)
    conditions = np.array([10.0, 0.0]) + np.array([3.0, 0.1]) * c
    condition = Conditioning.fit(conditions, inner.forward(table)[0], Whitening)
    density = Density(Chain(inner.parts, condition), model())
    standard = condition.standardise(conditions)
    keep = np.flatnonzero(np.all(table > table.min(0) + 0.05, 1))[:20]
    x, c, given = table[keep], standard[keep], conditions[keep]
    at = lambda x: log_density(density.bijection, x, c)  # noqa: E731
    gradient = np.stack([differences(at, x, e, 1e-3) for e in np.eye(3)], 1)
    found = density.score(x, c=given)
    np.testing.assert_allclose(found, gradient, atol=2e-3 * (1 + np.abs(gradient).max()))
    np.testing.assert_array_equal(density.score(x[::-1], c=given[::-1])[::-1], found)
    v = rng.normal(size=x.shape)
    product = np.stack(
        [differences(lambda x, e=e: differences(at, x, e, 1e-3), x, v, 3e-3) for e in np.eye(3)], 1
    )
    size = np.abs(product).max(1, keepdims=True)
    found = density.hessian_product(x, v, c=given)
    np.testing.assert_allclose(found / size, product / size, atol=5e-3)


@pytest.mark.slow
def test_in_either_precision_the_error_is_that_of_the_grid(dtype):
    """Of the flow alone, at points in that precision."""
    field = ODEScore(GridLikelihood(n_steps=320), jr.key(0))
    z = jnp.asarray(rows(5), dtype)
    precision = np.linalg.inv(moments(np.zeros(2))[1])
    score = model(dtype=dtype)

    @eqx.filter_jit
    def both(score, z):
        along = lambda z: jax.jvp(lambda z: field(score, z), (z,), (jnp.ones_like(z),))  # noqa: E731
        return jax.vmap(along)(z)

    g, Hv = both(score, z)
    assert g.dtype == Hv.dtype == dtype
    tolerance = {"float32": 1e-3, "float64": 1e-5}[dtype.name]
    np.testing.assert_allclose(g, -z @ precision, atol=tolerance)
    np.testing.assert_allclose(Hv, -np.tile(precision.sum(1), (5, 1)), atol=tolerance)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_two_ways_to_the_score_of_the_ode():
    """A reverse sweep over the likelihood, and the ODE that its score obeys, of a network."""
    score = random_model(PROCESS, 3, 0.5)
    z = np.asarray(jr.normal(jr.key(1), (6, 3)))
    field = ODEScore(GridLikelihood(n_steps=320), jr.key(0))
    t_min = jnp.asarray(PROCESS.t_min)
    truth = map_rows(AugmentedODE(), (score, PROCESS), (z, np.full(6, t_min)), 6)
    found = map_rows(field, (score,), (z,), 6)
    np.testing.assert_allclose(found, truth.score, atol=1e-3)
    network = map_rows(NetworkScore(t_min), (score,), (z,), 6)
    assert np.abs(network - truth.score).max() > 0.5, "the network's own is another"


class Fixed(AbstractProbe):
    """The same vectors for every row."""

    vectors: jax.Array
    exact = False

    def draw(self, key, n, d, dtype):  # noqa: ARG002 (of probes that are drawn)
        k = len(self.vectors)
        return ProbeDraw(self.vectors, jnp.asarray(1 / k, dtype), jnp.ones((), dtype))


@pytest.fixture(scope="module")
def wide():
    """A density of 40 columns by a random network, and rows."""
    d = 40
    x = np.random.default_rng(0).normal(size=(100, d)) * np.geomspace(0.1, 10, d)
    return Density(Chain.fit((Scaling,), x), random_model(PROCESS, d, 0.5)), x[:4]


@pytest.mark.slow
def test_above_32_dimensions_derivatives_are_those_of_the_estimate(wide):
    """With its very probes, which depend on the row's bits and are constant all the same."""
    density, table = wide
    z, _, _ = density.standardise(table)
    found = density.score(table, seed=3, how=ONE)
    for i in range(2):
        x = table[i : i + 1]
        _, draw = draw_probes(None, 16, jr.key(3), jnp.asarray(z[i]))
        how = Refined(1.0, Fixed(draw.vectors), most_steps=40)
        at = lambda x, how=how: density.log_likelihood(x, how=how).nats  # noqa: E731
        np.testing.assert_allclose(at(x), density.log_likelihood(x, 3, ONE).nats)
        np.testing.assert_allclose(density.score(x, how=how), found[i : i + 1], rtol=1e-4)
        v = table.std(0) * np.random.default_rng(i).normal(size=(1, 40))
        slope = differences(at, x, v, 2e-2)
        np.testing.assert_allclose(found[i] @ v[0], slope, atol=0.01 * np.abs(v * found[i]).sum())


@pytest.mark.slow
def test_exact_divergences_above_32_dimensions(wide):
    density, x = wide
    how = Refined(1.0, stderr=0.0, most_steps=40)
    v = x.std(0) * np.random.default_rng(0).normal(size=x.shape)
    slope = differences(lambda x: density.log_likelihood(x, how=how).nats, x, v, 2e-2)
    found = np.sum(v * density.score(x, how=how), 1)
    np.testing.assert_allclose(found, slope, atol=0.01 * np.abs(slope).max())


@pytest.mark.slow
def test_laplacians_above_32_dimensions_have_their_standard_error():
    d = 40
    rng = np.random.default_rng(0)
    r, s = np.linalg.qr(rng.normal(size=(d, d)))[0], np.linspace(0.4, 1.6, d)
    z = rng.normal(size=(24, d)) * s @ r.T
    scale = np.geomspace(0.5, 2, d)
    score = ScoreModel(
        PROCESS, Score(), Gaussian(*(jnp.asarray(a, jnp.float32) for a in (r, s, np.zeros((d, 1)))))
    )
    density = Density(Chain((Scaling(np.zeros(d), scale),)), score)
    shrunk = np.sqrt((s**2 + 0.01**2) / (s**2 + 100))
    truth = -np.trace(np.linalg.inv(r @ np.diag(101 * shrunk**2) @ r.T) / np.outer(scale, scale))
    values, errors = density.laplacian(z * scale, how=ONE)
    wrong = (values - truth) / errors
    assert errors.min() > 0
    assert abs(wrong.mean()) < 4 / np.sqrt(len(z))
    assert 0.6 < np.sqrt(np.mean(wrong**2)) < 1.6


@pytest.mark.slow
def test_rows_take_the_grid_that_their_density_took():
    """And what is derived from it is that of this grid, whatever the row's company."""
    how = Refined(tolerance=1e-3, n_steps=16, most_steps=32)
    density = Density(Chain.identity((Scaling,), 3), model())
    x = rows(30)
    z = x.astype(np.float32)
    record, grids = how.solve(density.score_model, PROCESS, jr.key(0), z)
    assert len(grids) > 1
    found = density.score(x, how=how)
    np.testing.assert_array_equal(found[::-1], density.score(x[::-1], how=how))
    for grid, index in grids:
        again = map_rows(grid, (density.score_model, PROCESS, jr.key(0)), (z[index],), 64)
        np.testing.assert_allclose(again.nats, record.nats[index], atol=1e-5)
        alone = Refined(n_steps=grid.n_steps, most_steps=grid.n_steps, tolerance=0.0)
        np.testing.assert_allclose(density.score(x[index], how=alone), found[index], atol=1e-5)


def test_the_networks_score_at_later_times():
    """In float64 where the columns ask for it: the same closed form with more noise."""
    shift, scale = COLUMNS["offset"]
    x = shift + scale * rows()
    bijection = Chain.fit((Whitening,), x)
    density, t = Density(bijection, model()), 0.5
    z, _ = bijection.forward(x)
    J = bijection.parts[0].W / bijection.parts[0].scale[:, None]
    variance = float(PROCESS.sigma(jnp.asarray(t))) ** 2
    precision = np.linalg.inv(R @ np.diag(S**2 + variance) @ R.T)
    expected = -z @ precision @ J.T
    for found in (density.score(x, t), density.network_score(x, t)):
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    values, errors = density.laplacian(x, t)
    np.testing.assert_allclose(values, -np.trace(J @ precision @ J.T), rtol=1e-4)
    assert (errors == 0).all()
    np.testing.assert_array_equal(
        density.network_score(x, 0.0), density.network_score(x, PROCESS.t_min)
    )


@pytest.mark.parametrize("t", [-0.1, 1.01, np.nan, np.inf])
def test_times_that_do_not_exist(t):
    density, x = Density(Chain.identity((Scaling,), 3), model()), rows(2)
    for call in (
        lambda: density.score(x, t),
        lambda: density.network_score(x, t),
        lambda: density.hessian_product(x, x, t),
        lambda: density.laplacian(x, t),
    ):
        with pytest.raises(InputError, match=r"must be between 0, the data, and T = 1\.0"):
            call()
