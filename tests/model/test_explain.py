"""What a fit says of itself: simple densities on the same rows, and means with their errors."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from scoreode.data import from_rows, on_grid
from scoreode.model.comparison import Findings, Gain, comparable, simple_nats
from scoreode.model.simple import kernel_bandwidth

RIDGE = 1e-3  # of variances, in standard deviations


def table(x):
    return from_rows("x", x, ("a", "b"), seed=0, validation=0.2)


@pytest.fixture(scope="module")
def normal():
    x = np.random.default_rng(0).normal(size=(400, 2)) @ np.array([[1.0, 0.8], [0.0, 30.0]])
    return table(x + 100)


def test_a_gaussian_and_kernels_as_their_formulas_have_them(normal):
    train, x = normal.train[:], normal.validation[:]
    found = simple_nats(normal, x)
    assert set(found) == {"a Gaussian", "kernels"}, "rows of one Gaussian need no mixture"
    std = train.std(0)
    cov = np.cov(train.T, bias=True) + RIDGE * np.diag(std**2)
    truth = stats.multivariate_normal(train.mean(0), cov).logpdf(x)
    np.testing.assert_allclose(found["a Gaussian"], truth, rtol=1e-6)
    h = kernel_bandwidth((train - train.mean(0)) / std) * std
    each = stats.norm(train, h).logpdf(x[:, None]).sum(2)
    np.testing.assert_allclose(
        found["kernels"], logsumexp(each, axis=1) - np.log(len(train)), rtol=1e-6
    )


def test_two_clusters_are_a_mixture_of_two():
    rng = np.random.default_rng(1)
    data = table(rng.normal(size=(400, 2)) + 10 * rng.integers(0, 2, (400, 1)))
    found = simple_nats(data, data.validation[:])
    gain = np.mean(found["a mixture of 2 Gaussians"] - found["a Gaussian"])
    assert gain > 0.5, "a Gaussian across both knows nothing of the gap"


def test_values_that_repeat_are_no_warnings():
    x = np.repeat(np.random.default_rng(2).normal(size=(4, 2)), 50, 0)
    data = table(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simple_nats(data, data.validation[:])


def test_values_whose_squares_overflow_are_not_compared():
    x = np.random.default_rng(4).normal(size=(50, 2)) * [1, 1e200]
    data = table(x)
    assert simple_nats(data, data.validation[:]) == {}


def test_weights_count_as_repetitions():
    values, counts = np.array([1.0, 2.0, 5.0]), np.array([1, 2, 1])
    assert Gain.of(values).nats == pytest.approx(8 / 3)
    assert Gain.of(values).stderr == pytest.approx(stats.sem(values))
    assert Gain.of(values, counts).nats == pytest.approx(np.mean([1, 2, 2, 5]))


def test_only_tables_of_numbers_are_compared(normal):
    assert comparable(normal)
    counts = table(np.random.default_rng(3).poisson(5, (100, 2)).astype(float))
    assert not comparable(on_grid(counts, [1.0, 1.0]))


def test_findings_survive_json():
    gain = Gain(1.5, 0.1)
    found = Findings(40, 1, ("a note",), 39, gain, {"a Gaussian": gain})
    assert Findings.from_json(found.to_json()) == found
    assert Findings.from_json(Findings(3).to_json()) == Findings(3)
