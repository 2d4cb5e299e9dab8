"""Estimates: their errors are what they say, and evenly spread points keep them small."""

import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from scoreode.theory import Estimate, spread_points


def test_errors_of_independent_samples_are_calibrated():
    samples = np.random.default_rng(0).exponential(size=(400, 64))
    found = Estimate.from_samples(samples.T)
    assert np.shape(found.value) == (400,)
    assert stats.kstest(found.z(1.0), "norm").pvalue > 1e-3


def test_sums_are_of_independent_terms():
    a, b = Estimate(2.0, 0.3), Estimate(1.0, 0.4)
    assert (a + b).value == 3
    assert (a - b).stderr == pytest.approx(0.5)
    assert (-2 * a).stderr == pytest.approx(0.6)
    assert a.z(b) == pytest.approx(2)
    assert a.agrees(b)
    assert not a.agrees(b, within=1.9)
    assert not Estimate(np.array([0.0, 5.0]), np.ones(2)).agrees(0.0)


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.01302, 0.00021, "0.0130 ± 0.0002"),
        (0.01302, 0.00996, "0.01 ± 0.01"),
        (123.4, 20.0, "123 ± 20"),
        (1.5, 0.0, "1.5 ± 0"),
    ],
)
def test_digits_follow_the_error(value, stderr, text):
    assert str(Estimate(value, stderr)) == text


@pytest.mark.parametrize("d", [1, 2, 6])
def test_spread_points_are_uniform_and_beat_independent_ones(d):
    points = spread_points(jr.key(0), 64, 256, d)
    assert points.shape == (64, 256, d)
    single = points[:, 17]  # over shifts, any one point is uniform
    assert stats.kstest(single.ravel(), "uniform").pvalue > 1e-3
    f = np.prod(1 + 0.5 * np.sin(2 * np.pi * points), 2)  # of mean 1
    found = Estimate.from_samples(f.mean(1))
    assert found.agrees(1.0, within=4)
    independent = np.sqrt((1.125**d - 1) / (64 * 256))
    assert found.stderr < 0.5 * independent
