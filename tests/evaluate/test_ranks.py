"""Ranks under posteriors that are right, and under ones that are wrong in a known way.

θ ~ N(0, 1) and x | θ ~ N(θ, 1): the posterior is N(x/2, 1/2).
"""

import numpy as np
import pytest
from scipy import stats

from scoreode.errors import InputError
from scoreode.evaluate.ranks import rank_calibration

N, M = 2000, 199


def posterior(scale, n=N, seed=0):
    """θ, x, and draws given every x from the posterior with its deviation multiplied by `scale`."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=n)
    x = rng.normal(theta)
    return theta, x, rng.normal(x / 2, scale * 0.5**0.5, (M, n))


def distance(F):
    """∫|F(u) − u| du by the midpoint rule."""
    u = (np.arange(20_000) + 0.5) / 20_000
    return np.mean(np.abs(F(u) - u))


def test_the_posterior_is_calibrated():
    theta, x, draws = posterior(1.0)
    found = rank_calibration(theta, draws)
    assert found.ranks.shape == (N, 1)
    assert found.ranks.min() >= 0
    assert found.ranks.max() <= M
    assert found.p_values[0] > 1e-3
    counts = np.bincount(found.ranks[:, 0] // 10, minlength=20)
    assert stats.chisquare(counts).pvalue > 1e-3
    regions = rank_calibration(-((theta - x / 2) ** 2), -((draws - x / 2) ** 2))
    assert regions.p_values[0] > 1e-3


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_errors_of_a_wrong_width_are_its_integrals(scale):
    theta, x, draws = posterior(scale)
    found = rank_calibration(theta, draws)
    normal = stats.norm
    expected = distance(lambda u: normal.cdf(scale * normal.ppf(u)))
    noise = 4 * found.expected_error
    assert found.errors[0] == pytest.approx(expected, abs=noise)
    assert found.p_values[0] < 1e-6
    # |θ − x/2| in units of the posterior is half-normal; the model believes another width.
    regions = rank_calibration(-((theta - x / 2) ** 2), -((draws - x / 2) ** 2))
    expected = distance(lambda u: 2 * normal.sf(scale * normal.isf(u / 2)))
    assert regions.errors[0] == pytest.approx(expected, abs=noise)


def test_a_shifted_column_is_found_among_right_ones():
    theta, _, draws = posterior(1.0)
    found = rank_calibration(np.c_[theta, theta], np.stack([draws, draws + 0.3], 2))
    assert found.p_values[0] > 1e-3
    assert found.p_values[1] < 1e-6
    # Ranks of the truth below those of right draws: F(u) = Φ(Φ⁻¹(u) + 0.3/√½) lies above u.
    shift = 0.3 / 0.5**0.5
    expected = distance(lambda u: stats.norm.cdf(stats.norm.ppf(u) + shift))
    assert found.errors[1] == pytest.approx(expected, abs=4 * found.expected_error)


def test_expected_error_is_the_mean_of_errors():
    rng = np.random.default_rng(0)
    columns = 100
    found = rank_calibration(rng.normal(size=(100, columns)), rng.normal(size=(M, 100, columns)))
    error = found.errors.std() / columns**0.5
    assert found.errors.mean() == pytest.approx(found.expected_error, abs=4 * error)


def test_equal_values_have_uniform_ranks():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (M + 1, N))
    found = rank_calibration(counts[0], counts[1:])
    assert found.p_values[0] > 1e-3
    assert stats.chisquare(np.bincount(found.ranks[:, 0] // 10, minlength=20)).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(M, 3), (M, 4, 2), (0, 4)])
def test_shapes_that_do_not_belong_together(shape):
    with pytest.raises(InputError, match="draws have the shape"):
        rank_calibration(np.zeros(4), np.zeros(shape))


def test_nan_has_no_rank():
    draws = np.zeros((M, 4))
    draws[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        rank_calibration(np.zeros(4), draws)
