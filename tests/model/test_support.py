"""Bijections from declared supports onto ℝ: their Jacobians, inverses, cuts and scales."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from scoreode.model.standardise import Support

INF = np.inf
# An interval, both half-lines, a circle, no bound.
LOW, HIGH = np.array([-2.0, 5.0, -INF, -INF, -INF]), np.array([3.0, INF, 1.0, INF, INF])
PERIOD = np.array([0.0, 0.0, 0.0, 360.0, 0.0])
START = np.array([0.0, 0.0, 0.0, -180.0, 0.0])
RNG = np.random.default_rng(0)
N = 400
ROWS = np.column_stack(
    [
        -2 + 5 * RNG.beta(0.5, 2, N),
        5 + RNG.gamma(0.7, size=N),
        1 - RNG.lognormal(0, 2, N),
        np.degrees(RNG.vonmises(3, 1, N)),
        RNG.normal(size=N),
    ]
)
SUPPORT = Support.within(LOW, HIGH, PERIOD, START, ROWS)
HEAVY = SUPPORT.with_heavy_tails(ROWS)
BOTH = pytest.mark.parametrize("support", [SUPPORT, HEAVY], ids=["normal", "heavy"])
latent = hnp.arrays(np.float64, (1, 5), elements=st.floats(-5, 5))
jacobian = eqx.filter_jit(lambda T, x: jax.vmap(jax.jacfwd(lambda x: T.forward(x)[0]))(x))
backward = eqx.filter_jit(lambda T, x: jax.vmap(jax.grad(lambda x: T.forward(x)[1]))(x))


@BOTH
@settings(max_examples=60)
@given(z=latent)
def test_the_inverse_is_exact_to_rounding(support, z):
    """To the rounding of x, which a slope of z multiplies."""
    x = support.inverse(z)
    again, slopes = support.columns(x)
    rounding = np.array([3.0, 5.0, 1.0, 360.0, 1.0]) + np.abs(x)
    assert np.all(np.abs(again - z) <= 1e-14 * (np.exp(slopes) * rounding + np.abs(z) + 1))
    np.testing.assert_allclose(support.inverse(again), x, rtol=1e-11, atol=1e-11)


@BOTH
@pytest.mark.parametrize(("type_", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-3)])
def test_log_det_is_that_of_the_jacobian(support, type_, tolerance):
    """Of rows that lie far enough from their bounds for float32."""
    with jax.enable_x64(type_ == np.float64):
        z = RNG.uniform(-2, 2, (200, 5))
        x = jnp.asarray(support.inverse(z), type_)
        found = jacobian(support, x)
        assert found.dtype == type_
        matrices = np.asarray(found, np.float64)
        slopes = np.diagonal(matrices, axis1=1, axis2=2)
        assert np.all(matrices == matrices * np.eye(5)), "column by column"
        np.testing.assert_allclose(
            support.forward(x)[1], np.log(slopes).sum(1), rtol=0, atol=tolerance
        )


@BOTH
def test_numpy_and_jax_agree(support):
    with jax.enable_x64(True):
        z = RNG.uniform(-5, 5, (200, 5))
        x = support.inverse(z)
        np.testing.assert_allclose(support.inverse(jnp.asarray(z)), x, rtol=1e-12, atol=1e-300)
        for host, device in zip(support.forward(x), support.forward(jnp.asarray(x)), strict=True):
            assert isinstance(host, np.ndarray)
            np.testing.assert_allclose(host, device, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_log_det_is_that_of_differences():
    z = RNG.uniform(-2, 2, (50, 5))
    with jax.enable_x64(True):
        x, h = SUPPORT.inverse(z), 1e-5
        steps = h * np.eye(5)
        ends = [SUPPORT.forward(x[:, None] + sign * steps)[1] for sign in (1, -1)]
        np.testing.assert_allclose(
            backward(SUPPORT, jnp.asarray(x)), (ends[0] - ends[1]) / (2 * h), rtol=1e-4, atol=1e-4
        )


@BOTH
@pytest.mark.parametrize("type_", [np.float64, np.float32])
def test_every_z_has_an_x_strictly_inside(support, type_):
    z = np.outer([-1e30, -1e4, -40, -9, 9, 40, 1e4, 1e30], np.ones(5)).astype(type_)
    with jax.enable_x64(type_ == np.float64):
        for x in (support.inverse(z), np.asarray(support.inverse(jnp.asarray(z)))):
            assert np.all(np.isfinite(x))
            assert np.all((x > LOW) & (x < HIGH))
            assert np.all((x[:, 3] >= -180) & (x[:, 3] < 180))


def test_a_missing_value_stays_missing_and_counts_nothing():
    whole, gaps = ROWS[:6].copy(), ROWS[:6].copy()
    gaps[np.arange(5), np.arange(5)] = np.nan
    (z, slopes), (z_gaps, slopes_gaps) = SUPPORT.columns(whole), SUPPORT.columns(gaps)
    there = ~np.isnan(gaps)
    np.testing.assert_array_equal(np.isnan(z_gaps), ~there)
    np.testing.assert_array_equal(z_gaps[there], z[there])
    np.testing.assert_array_equal(slopes_gaps, np.where(there, slopes, 0.0))
    np.testing.assert_array_equal(np.isnan(SUPPORT.inverse(z_gaps)), ~there)


def test_outside_the_density_is_zero_and_its_gradient_finite():
    x = np.array([[3.5, 6, 0, 0, 0], [0, 4.9, 0, 0, 0], [0, 6, 1.5, 0, 0], [-2, 6, 0, 0, 0]])
    z, log_det = SUPPORT.forward(x)
    assert np.all(np.isfinite(z))
    assert np.all(log_det == -np.inf)
    assert np.all(np.isfinite(backward(SUPPORT, jnp.asarray(x))))


def test_without_bounds_it_is_the_identity():
    z, log_det = Support.identity(5).forward(ROWS)
    np.testing.assert_array_equal(z, ROWS)
    np.testing.assert_array_equal(log_det, 0)
    np.testing.assert_array_equal(Support.fit(ROWS).inverse(ROWS), ROWS)


def test_angles_one_period_apart_are_one_point():
    for turns in (-3, 1, 7):
        x = ROWS.copy()
        x[:, 3] += 360 * turns
        for found, expected in zip(SUPPORT.forward(x), SUPPORT.forward(ROWS), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(SUPPORT.inverse(SUPPORT.forward(x)[0]), ROWS, atol=1e-9)


@pytest.mark.parametrize("mode", [-180, -100, 0, 10, 150])
def test_the_cut_is_where_angles_are_rare_and_on_no_angle(mode):
    """Opposite to the mode of a von Mises law of κ = 2, where the density is 1/50 of its mode."""
    angles = mode + np.degrees(np.random.default_rng(1).vonmises(0, 2, 2000))
    nothing = np.array([-INF]), np.array([INF])
    support = Support.within(*nothing, np.array([360.0]), np.zeros(1), angles[:, None])
    away = (support.low[0] - mode) % 360
    assert 120 < away < 240
    assert np.min(np.abs((angles - support.low[0] + 180) % 360 - 180)) > 1e-3


@pytest.mark.parametrize(
    ("law", "logarithmic"),
    [(stats.lognorm(1), True), (stats.lognorm(2.5), True), (stats.expon(), False)],
)
def test_a_half_line_has_the_scale_that_its_law_asks_for(law, logarithmic):
    """A logarithm is a normal law's where x is log-normal; a light tail keeps its distances."""
    x = law.rvs((2000, 1), random_state=np.random.default_rng(2))
    support = Support.within(np.zeros(1), np.array([INF]), np.zeros(1), np.zeros(1), x)
    assert (support.scale[0] > 8 * np.median(x)) == logarithmic


def test_a_uniform_law_becomes_normal():
    u = (np.arange(2000) + 0.5)[:, None] / 2000
    z = Support.within(np.zeros(1), np.ones(1), np.zeros(1), np.zeros(1), u).forward(u)[0]
    np.testing.assert_allclose(z, stats.norm.ppf(u), rtol=1e-12, atol=1e-12)


def test_a_heavy_tail_is_bounded_up_to_the_bounds():
    """Student's t in the heavy coordinates; in the others its density there has no limit."""
    near = np.geomspace(1e-14, 1e-2, 60)
    x = np.zeros((60, 5)) + ROWS[0]
    x[:, 1] = 5 + near
    x[:, 3] = SUPPORT.low[3] + 360 * near
    for df in (1, 4):
        for support, bounded in ((HEAVY, True), (SUPPORT, False)):
            z, slopes = support.columns(x)
            for j in (1, 3):
                nats = stats.t(df).logpdf(z[:, j]) + slopes[:, j]
                assert (nats.max() < nats[-1] + 3) == bounded
