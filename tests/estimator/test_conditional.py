"""The estimator of p(x | c): what it learns, how conditions are given, and that none is ignored."""

import re

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.network import MLP, NCSNpp

W, NOISE = np.array([[0.02], [-1.0]]), 0.5


def small(**options):
    tiny = {"order": 1, "steps": 20, "network": MLP(16, 1), "batch_size": 32}
    return ScoreODE(**tiny | options)


def pairs(n, seed):
    """x | c ~ N(W c, NOISE²), with conditions in unlike units."""
    rng = np.random.default_rng(seed)
    C = np.array([0.0, 7.0]) + np.array([50.0, 0.5]) * rng.normal(size=(n, 2))
    return C @ W + NOISE * rng.normal(size=(n, 1)), C


@pytest.fixture(scope="module")
def fitted():
    return small(steps=800, network=MLP(32, 1), batch_size=128, learning_rate=5e-3).fit(
        *pairs(4000, 0)
    )


@pytest.mark.slow
def test_it_learns_the_density_given_c(fitted):
    """What ignores c loses the mutual information at least: ½ log(var x / NOISE²) = 0.81 nats."""
    X, C = pairs(500, 1)
    truth = stats.norm(C @ W, NOISE).logpdf(X)[:, 0]
    loss = truth - fitted.score_samples(X, C)
    information = 0.5 * np.log(1 + np.sum((W[:, 0] * [50.0, 0.5]) ** 2) / NOISE**2)
    assert loss.mean() < 0.05 * information + 4 * loss.std() / 500**0.5
    assert fitted.score(X, C) == fitted.score(X, C=C) == fitted.score_samples(X, C).mean()
    # Given another row's c, log N(x; W c', NOISE²) is less by E (W c − W c')² / 2 NOISE² in nats.
    others = np.roll(C, 1, axis=0)
    expected = stats.norm(others @ W, NOISE).logpdf(X).mean()
    assert fitted.score(X, others) < truth.mean() + 0.5 * (expected - truth.mean())


@pytest.mark.slow
def test_samples_and_scores_are_given_c(fitted):
    C = np.array([[50.0, 7.0], [-50.0, 6.5]])
    drawn = fitted.sample(400, C, random_state=0)
    assert drawn.shape == (400, 2, 1)
    one = fitted.sample(400, C[0], random_state=0)
    assert one.shape == (400, 1)
    np.testing.assert_array_equal(one, fitted.sample(400, C[:1], random_state=0))
    for samples, mean in ((drawn[:, 0], C[0] @ W), (drawn[:, 1], C[1] @ W), (one, C[0] @ W)):
        assert samples.mean() == pytest.approx(mean[0], abs=0.25 * NOISE)
        assert samples.std() == pytest.approx(NOISE, rel=0.25)
    x = C @ W + NOISE
    t = 0.4
    level = float(fitted.fitted_.density.score_model.process.sigma(jnp.asarray(t)))
    variance = NOISE**2 + (level * pairs(4000, 0)[0].std()) ** 2
    np.testing.assert_allclose(
        fitted.score_function(x, t, C=C), -(x - C @ W) / variance, atol=0.3 / variance**0.5
    )
    hessian = fitted.hessian_product(x, np.ones((2, 1)), t, C=C)
    np.testing.assert_allclose(hessian, -1 / variance, rtol=0.3)


def test_one_condition_for_all_rows(fitted):
    X, C = pairs(5, 2)
    alike = np.tile(C[:1], (5, 1))
    expected = fitted.score_samples(X, alike)
    np.testing.assert_array_equal(fitted.score_samples(X, C[:1]), expected)
    np.testing.assert_array_equal(fitted.score_samples(X, C[0]), expected)


def test_save_and_load(fitted, tmp_path):
    X, C = pairs(5, 3)
    fitted.save(tmp_path / "model")
    loaded = ScoreODE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(X, C), fitted.score_samples(X, C))
    assert loaded.n_features_in_ == 1
    with pytest.raises(ValueError, match="conditional on c0, c1: give C"):
        loaded.score_samples(X)


@pytest.mark.parametrize(
    ("C", "message"),
    [
        (None, "conditional on c0, c1: give C"),
        (3, "seeds are given as random_state"),
        (np.zeros((4, 2)), "C has 4 rows, and X has 5"),
        (np.zeros((5, 3)), "C has 3 columns, but the density is conditional on 2: c0, c1"),
        (np.zeros(5), "C has 5 columns"),
        (np.full((5, 2), np.nan), "NaN"),
        (np.zeros((5, 2, 1)), "C has 3 dimensions"),
    ],
)
def test_conditions_that_cannot_be_used(fitted, C, message):
    X = np.zeros((5, 1))
    for call in (
        fitted.score_samples,
        lambda X, C: fitted.score_function(X, C=C),
        lambda X, C: fitted.hessian_product(X, X, C=C),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(X, C)


@pytest.mark.slow
def test_a_density_without_conditions_takes_none():
    """A y of one dimension is a target, as everywhere in scikit-learn."""
    X, C = pairs(60, 4)
    labels = np.arange(60) % 2
    est = small().fit(X, labels)
    assert est.score(X, labels) == est.score(X)
    for call in (
        lambda: est.score_samples(X, C),
        lambda: est.score_samples(X, labels),
        lambda: est.score(X, C),
        lambda: est.log_likelihood(X, C),
        lambda: est.sample(3, C),
        lambda: est.sample(3, 0),
        lambda: est.score_function(X, C=C),
    ):
        with pytest.raises(ValueError, match=r"fitted without conditions.*random_state"):
            call()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda C: {"y": C[:, 0]}, "give it as C=y"),
        (lambda C: {"y": C, "C": C}, "given twice"),
        (lambda C: {"y": C[:, :, None]}, "y has 3 dimensions"),
        (lambda C: {"y": C[:9]}, "C has 9 rows, and X has 60"),
        (lambda C: {"C": C[0, 0]}, "C has 0 dimensions"),
        (
            lambda C: {"y": np.hstack([C, 0 * C])},
            "constant columns c2, c3: a constant tells",
        ),
        (lambda C: {"y": pd.DataFrame(C, columns=["c", "x0"])}, "both have a column x0"),
    ],
)
def test_conditions_that_cannot_be_learnt_from(given, message):
    X, C = pairs(60, 4)
    with pytest.raises(ValueError, match=re.escape(message)):
        small().fit(X, **given(C))


@pytest.mark.slow
def test_frames_name_the_conditions_of_cells():
    """And a condition of one dimension is one column."""
    X, C = pairs(60, 6)
    X, dose = np.floor(X), C[:, 1]
    frame = pd.DataFrame({"dose": dose})
    est = small(bin_width=1).fit(X, frame)
    mass = est.score_samples(X, frame)
    assert (mass < 1e-3).all(), "of cells, at most 1"
    np.testing.assert_array_equal(est.score_samples(X, dose), mass)
    assert set(np.unique(est.sample(20, dose[:1]) % 1)) == {0.0}
    with pytest.raises(ValueError, match="name and order them so"):
        est.score_samples(X, frame.rename(columns={"dose": "age"}))


def test_networks_without_conditions():
    X = np.random.default_rng(0).normal(size=(40, 2, 2, 1))
    with pytest.raises(ValueError, match="NCSNpp takes no conditions"):
        small(network=NCSNpp((2, 2, 1))).fit(X, C=np.arange(40.0))
