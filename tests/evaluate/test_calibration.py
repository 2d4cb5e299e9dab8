"""Calibration against what is known: a Gaussian's latent points, and rows that are not its own."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from scoreode.evaluate import calibration
from scoreode.evaluate.held_out import _choose, _Rows
from scoreode.flow import Refined
from scoreode.process import VE
from scoreode.theory import MixtureOracle

PROCESS = VE(0.01, 10.0)
VARIANCES = np.array([0.5, 1.5])
N = 3000


@pytest.fixture(scope="module")
def latent():
    """x_T over the prior's scale of rows, under the exact score of N(0, diag VARIANCES)."""
    covariance = jnp.asarray(np.diag(VARIANCES)[None])
    oracle = MixtureOracle(PROCESS, jnp.ones(1), jnp.zeros((1, 2)), covariance)

    def latent(rows):
        found = Refined()(oracle, PROCESS, jr.key(0), rows.astype(np.float32))
        assert found.converged.all()
        return np.asarray(found.latent, np.float64) / float(PROCESS.prior_scale())

    return latent


def drawn(scale=1.0, n=N):
    return scale * np.sqrt(VARIANCES) * np.random.default_rng(3).normal(size=(n, 2))


def test_latent_points_of_a_gaussian_are_its_own_scaled(latent):
    rows = drawn(n=64)
    # Along the ODE of N(0, c) every x keeps its rank: x_t / √(c + σ_t²) is constant.
    low, high = (float(PROCESS.sigma(jnp.asarray(t))) for t in (PROCESS.t_min, PROCESS.t_max))
    closed = rows * np.sqrt((VARIANCES + high**2) / (VARIANCES + low**2) / (1 + high**2))
    np.testing.assert_allclose(latent(rows), closed, atol=2e-3)


def outside(band):
    return np.mean((band.found < band.low[: len(band.found)]) | (band.found > band.high[0]))


def test_its_rows_are_calibrated(latent):
    z = latent(drawn())
    assert outside(calibration.pit_histogram(z)) <= 0.2  # 1 of 20 bins on average
    assert stats.kstest(stats.norm.cdf(z).ravel(), "uniform").pvalue > 1e-3
    for level in calibration.coverage(z):
        assert level.coordinates.agrees(level.level, within=4)
        assert level.rows.agrees(level.level, within=4)
    norms = calibration.squared_norms(z)
    assert np.mean((norms.found < norms.low) | (norms.found > norms.high)) < 0.25


@pytest.mark.parametrize("scale", [0.85, 1.15])
def test_rows_of_another_scale_are_not(latent, scale):
    z = latent(drawn(scale))
    pit = calibration.pit_histogram(z)
    assert outside(pit) > 0.3
    # Rows narrower than the model: a hump. Wider: a valley.
    assert np.sign(pit.found[9:11].mean() - pit.found[[0, -1]].mean()) == np.sign(1 - scale)
    for level in calibration.coverage(z):
        assert not level.coordinates.agrees(level.level, within=4)
        assert not level.rows.agrees(level.level, within=4)
        # Closed forms: of a coordinate of this scale, and of χ²_2.
        half = stats.norm.ppf(0.5 + level.level / 2)
        assert level.coordinates.agrees(1 - 2 * stats.norm.sf(half / scale), within=4)
        radius = stats.chi2.ppf(level.level, 2) / scale**2
        assert level.rows.agrees(stats.chi2.cdf(radius, 2), within=4)


def test_bands_hold_95_of_100_right_models():
    rng = np.random.default_rng(5)
    inside = {"pit": [], "norms": []}
    for _ in range(300):
        z = rng.normal(size=(150, 3))
        pit, norms = calibration.pit_histogram(z), calibration.squared_norms(z)
        inside["pit"].append(np.mean((pit.found >= pit.low[0]) & (pit.found <= pit.high[0])))
        inside["norms"].append(np.mean((norms.found >= norms.low) & (norms.found <= norms.high)))
    # Counts are whole numbers: their band holds a little more.
    assert 0.945 < np.mean(inside["pit"]) < 0.97
    assert np.mean(inside["norms"]) == pytest.approx(0.95, abs=0.015)


def test_columns_are_compared_as_scipy_does():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(120, 3)), rng.normal(size=(90, 3)) * [1.0, 2.0, 1.0]
    found = calibration.columns(x, y, ["a", "b", "c"])
    assert found[0].name == "b"
    for column in found:
        i = "abc".index(column.name)
        assert column.ks == pytest.approx(stats.ks_2samp(x[:, i], y[:, i]).statistic)
        np.testing.assert_allclose(column.data, np.quantile(x[:, i], (0.05, 0.5, 0.95)))
    assert found[0].ks_limit == pytest.approx(
        stats.kstwobign.isf(0.05) * np.sqrt(210 / 120 / 90), rel=1e-3
    )


def test_rows_are_drawn_alike_whatever_the_blocks():
    rows = np.arange(100.0)[:, None]
    whole, parts = (
        _choose(_Rows("rows", ("x",), blocks), 10, 30, 1, 0)
        for blocks in ([rows], np.split(rows, [1, 40, 41]))
    )
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.evaluated, parts.evaluated)
    assert whole.total == parts.total == 100
    assert len(whole.rows) == 30
    assert len(whole.evaluated) == 10
    np.testing.assert_array_equal(whole.rows[:, 0] + 1, whole.numbers)
    counts = np.zeros(100)
    for seed in range(600):
        found = _choose(_Rows("rows", ("x",), [rows]), 10, 0, seed, 0)
        counts[found.numbers - 1] += 1
    assert stats.chisquare(counts).pvalue > 1e-3
