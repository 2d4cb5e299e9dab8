"""The front door for Python: scikit-learn's conventions, units, and what is kept on disk."""

import re

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from scoreode import ScoreODE
from scoreode.flow import LogLikelihood
from scoreode.network import MLP
from scoreode.process import VP

TINY = MLP(width=16, depth=1)
EXPECTED_FAILURES: dict[str, str] = {}


@pytest.mark.slow
@parametrize_with_checks(
    [ScoreODE(order=1, steps=20, network=TINY, batch_size=32)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
@pytest.mark.filterwarnings("ignore::scoreode.errors.TiesWarning")  # some of its rows are codes
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def small(**options):
    return ScoreODE(**{"order": 1, "steps": 20, "network": TINY, "batch_size": 32} | options)


@pytest.fixture(scope="module")
def X():
    """Correlated columns in unlike units."""
    x = np.random.default_rng(3).normal(size=(120, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    return x * np.array([0.01, 50.0]) + np.array([0.0, 300.0])


@pytest.fixture(scope="module")
def fitted(X):
    return small().fit(X)


@pytest.mark.slow
def test_log_densities(fitted, X):
    record = fitted.log_likelihood(X)
    assert isinstance(record, LogLikelihood)
    assert record.nats.shape == record.stderr.shape == record.nfe.shape == (120,)
    assert record.latent.shape == (120, 2)
    assert record.converged.all()
    assert (record.stderr == 0).all(), "two dimensions: the divergence is exact"
    np.testing.assert_array_equal(fitted.score_samples(X), record.nats)
    assert fitted.score(X) == pytest.approx(record.nats.mean())
    # Gaussian rows, and a network that starts as their score.
    gaussian = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(X.T, bias=True))[1]
    assert fitted.score(X) == pytest.approx(gaussian, abs=0.3)


def test_a_row_has_one_density_in_any_company(fitted, X):
    whole = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.score_samples(X[5:6]), whole[5:6])
    np.testing.assert_array_equal(fitted.score_samples(X[::-1]), whole[::-1])
    np.testing.assert_array_equal(fitted.score_samples(np.tile(X, (6, 1)))[-120:], whole)


@pytest.mark.slow
@pytest.mark.parametrize("standardise", ["scale", "whiten"])
def test_densities_are_in_the_units_of_the_data(X, standardise):
    a, b = np.array([1000.0, 0.02]), np.array([-7.0, 5.0])
    one = small(standardise=standardise).fit(X)
    other = small(standardise=standardise).fit(a * X + b)
    difference = one.score_samples(X) - other.score_samples(a * X + b)
    np.testing.assert_allclose(difference, np.log(a).sum(), atol=2e-3)
    np.testing.assert_allclose(
        one.score_function(X, 0.5), other.score_function(a * X + b, 0.5) * a, rtol=0.02, atol=1e-2
    )
    drawn = other.sample(50, random_state=0)
    scale = X.std(0)
    np.testing.assert_allclose(
        one.sample(50, random_state=0) / scale, (drawn - b) / a / scale, atol=5e-3
    )


def test_hessian_products_are_the_scores_directional_derivatives(fitted, X):
    t, scale = 0.4, X.std(0)
    V = scale * np.random.default_rng(0).normal(size=X.shape)
    h = 1e-2
    ahead, behind = (fitted.score_function(X + step * V, t) for step in (h, -h))
    numeric = (ahead - behind) / (2 * h)
    product = fitted.hessian_product(X, V, t)
    assert product.shape == X.shape
    # In units of the columns, where both are of order one.
    np.testing.assert_allclose(product * scale, numeric * scale, atol=5e-3)
    assert np.abs(product * scale).max() > 0.1
    np.testing.assert_allclose(
        fitted.hessian_product(X, 2 * V, t) * scale, 2 * product * scale, atol=1e-4
    )


def test_a_vector_for_every_row(fitted, X):
    with pytest.raises(ValueError, match=r"V has shape \(3, 2\); one vector a row of X is"):
        fitted.hessian_product(X, X[:3])


def test_samples(fitted):
    many, few = fitted.sample(7, random_state=1), fitted.sample(3, random_state=1)
    assert many.shape == (7, 2)
    np.testing.assert_array_equal(many[:3], few)
    assert not np.allclose(fitted.sample(3, random_state=2), few)
    drawn = fitted.sample(2000, random_state=0)
    assert drawn[:, 1].mean() == pytest.approx(300, abs=10)
    assert drawn[:, 1].std() == pytest.approx(50, rel=0.3)


@pytest.mark.parametrize("n", [0, -1])
def test_no_samples(fitted, n):
    with pytest.raises(ValueError, match=str(n)):
        fitted.sample(n)


@pytest.mark.slow
def test_equal_seeds_give_equal_results(fitted, X):
    again, other = small().fit(X), small(random_state=1).fit(X)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    assert not np.array_equal(other.score_samples(X), fitted.score_samples(X))
    generator = small(random_state=np.random.RandomState(5)).fit(X)
    same = small(random_state=np.random.RandomState(5)).fit(X)
    np.testing.assert_array_equal(generator.score_samples(X), same.score_samples(X))


def test_save_and_load(fitted, X, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    assert {file.name for file in path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "rows.safetensors",
        "summary.json",
    }
    loaded = ScoreODE.load(path)
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(
        loaded.sample(3, random_state=0), fitted.sample(3, random_state=0)
    )
    assert loaded.n_features_in_ == 2
    assert not hasattr(loaded, "feature_names_in_")


@pytest.mark.slow
def test_loaded_parameters_fit_the_same_model(X, tmp_path):
    options = {"process": VP(beta_1=15.0), "learning_rate": 1e-3, "validation_fraction": 0.25}
    original = small(standardise="whiten", n_probes=2, random_state=4, **options).fit(X)
    original.save(tmp_path / "model")
    loaded = ScoreODE.load(str(tmp_path / "model"))
    asked, found = original.get_params(deep=False), loaded.get_params(deep=False)
    # The seed that the generator drew is what a run keeps.
    assert {k: v for k, v in found.items() if k != "random_state"} == {
        k: v for k, v in asked.items() if k != "random_state"
    }


def test_nothing_is_overwritten(fitted, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists"):
        fitted.save(tmp_path / "model")
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


def test_a_model_loads_where_float64_is_the_default(fitted, X, tmp_path):
    fitted.save(tmp_path / "model")
    with jax.enable_x64(True):
        loaded = ScoreODE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))


def test_load_of_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="not a run"):
        ScoreODE.load(tmp_path / "none")


def test_frames_keep_their_names(X, tmp_path):
    frame = pd.DataFrame(X, columns=["length", "weight"])
    est = small().fit(frame)
    assert est.feature_names_in_.tolist() == ["length", "weight"]
    est.score_samples(frame)
    for bad in (frame[["weight", "length"]], frame.rename(columns={"weight": "mass"})):
        with pytest.raises(ValueError, match="feature names"):
            est.score_samples(bad)
    est.save(tmp_path / "model")
    loaded = ScoreODE.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == ["length", "weight"]
    np.testing.assert_array_equal(loaded.score_samples(frame), est.score_samples(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.score_samples(frame[["weight", "length"]])


@pytest.mark.slow
def test_images_are_rows():
    images = np.random.default_rng(0).normal(size=(40, 2, 3, 1))
    est = small().fit(images)
    assert est.n_features_in_ == 6
    rows = images.reshape(40, 6)
    np.testing.assert_array_equal(est.score_samples(images), est.score_samples(rows))
    assert est.sample(2).shape == (2, 6)
    with pytest.raises(ValueError, match="features"):
        est.score_samples(images[:, :1])


@pytest.mark.slow
def test_bytes_have_a_mass_whatever_units_they_came_in():
    rng = np.random.default_rng(0)
    brightness = rng.uniform(60, 200, (60, 1, 1, 1))
    images = np.clip(brightness + 20 * rng.normal(size=(60, 3, 3, 1)), 0, 255).astype(np.uint8)
    mass = small(bin_width=1).fit(images).score_samples(images)
    bits = -mass.mean() / 9 / np.log(2)
    assert np.log2(20) < bits < 8, "above the noise's own width, below uniform bytes"
    for scaled, width in [(images / 255, 1 / 255), (images / 127.5 - 1, 1 / 127.5)]:
        other = small(bin_width=width).fit(scaled).score_samples(scaled)
        np.testing.assert_allclose(other, mass, atol=2e-3 * 9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_and_infinite_values(fitted, X, bad):
    spoilt = X.copy()
    spoilt[7, 1] = bad
    calls = (fitted.score_samples, fitted.score_function)
    for call in calls if np.isnan(bad) else (small().fit, *calls):
        with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
            call(spoilt)


def test_constant_columns_are_named(X):
    frame = pd.DataFrame({"good": X[:, 0], "always": 1.0, "never": 0.0})
    with pytest.raises(ValueError, match="constant columns always, never"):
        small().fit(frame)
    with pytest.raises(ValueError, match="constant column x1"):
        small().fit(np.column_stack([X[:, 0], np.ones(120)]))


def test_too_few_rows(X):
    with pytest.raises(ValueError, match="1 sample"):
        small().fit(X[:1])


@pytest.mark.slow
def test_few_rows_and_no_validation(X):
    assert np.isfinite(small().fit(X[:3]).score(X[:3]))
    assert np.isfinite(small(validation_fraction=0.0).fit(X[:10]).score(X[:10]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 4}, "order"),
        ({"steps": 0}, "steps"),
        ({"steps": -3}, "steps"),
        ({"steps": None, "seconds": 0.0}, "seconds"),
        ({"steps": None, "seconds": float("nan")}, "seconds"),
        ({"steps": 5, "seconds": 5.0}, "steps or seconds"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"n_probes": 0}, "n_probes"),
        ({"n_reference": -1}, "n_reference -1: must be a whole number, at least 0"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"network": MLP(width=0)}, "width"),
        ({"network": MLP(depth=-1)}, "depth"),
        ({"process": "vee"}, "did you mean 've'"),
        ({"standardise": "whitened"}, "did you mean 'whiten'"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"validation_fraction": -0.1}, "validation_fraction"),
    ],
)
def test_parameters_that_cannot_be_used(X, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**options).fit(X)


def test_nothing_before_fit(X, tmp_path):
    est = small()
    for call in (
        lambda: est.score_samples(X),
        lambda: est.score(X),
        lambda: est.sample(1),
        lambda: est.score_function(X),
        lambda: est.hessian_product(X, X),
        lambda: est.save(tmp_path / "model"),
    ):
        with pytest.raises(NotFittedError):
            call()
    assert not (tmp_path / "model").exists()


def test_clones_and_parameters(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "fitted_")
    assert copy.set_params(order=2).order == 2
    assert clone(small(process=VP())).process == VP()
    assert "order=1" in repr(copy.set_params(order=1))


def test_verbose_shows_progress(X, capsys):
    small(verbose=True).fit(X)
    shown = capsys.readouterr()
    assert "step 20" in shown.err
    assert shown.out == ""
    small().fit(X)
    assert capsys.readouterr().err == ""
