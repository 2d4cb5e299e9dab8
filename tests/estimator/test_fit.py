"""What fit takes beyond rows: discrete columns, weights, a model to go on from; bad input."""

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from scoreode import ScoreODE
from scoreode.data import Dataset, Description, from_rows
from scoreode.errors import FailureError
from scoreode.model.build import prepare
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.network import MLP
from scoreode.objective import Antithetic
from scoreode.process import VP
from scoreode.score import ScoreModel, Velocity
from scoreode.train import RunFolder, loop, saved
from scoreode.train.trainer import Trainer
from scoreode.train.validation import Best, Validation

TINY = MLP(width=16, depth=1)


def small(**options):
    return ScoreODE(**{"order": 1, "steps": 20, "network": TINY, "batch_size": 32} | options)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    flag = rng.random(120) < 0.3
    return pd.DataFrame({"size": rng.normal(size=120) + 2 * flag, "flag": flag})


@pytest.mark.slow
def test_the_mass_of_a_coin():
    """Of one column the law is known, and what the bound leaves out is little."""
    coin = (np.random.default_rng(0).random((2000, 1)) < 0.3).astype(float)
    network = MLP(width=32, depth=2, n_features=16, bandwidth=0.5)
    est = small(discrete=[0], steps=500, batch_size=256, network=network).fit(coin)
    masses = np.exp(est.log_likelihood([[0.0], [1.0]], samples=64).nats)
    # σ_min of noise leaks over the edges, and few steps are blunt: 0.05 of the mass.
    assert masses == pytest.approx([1 - coin.mean(), coin.mean()], abs=0.05)
    assert 0.92 < masses.sum() < 1.01
    drawn = est.sample(1000, random_state=0)
    assert drawn.mean() == pytest.approx(coin.mean(), abs=0.06)  # four standard errors


@pytest.mark.slow
def test_discrete_columns_are_found_and_come_back(frame, tmp_path):
    est = small(discrete=["flag"]).fit(frame)
    auto = small(discrete="auto").fit(frame)
    assert est.fitted_.data.bin_width == auto.fitted_.data.bin_width == (0, 1)
    np.testing.assert_array_equal(auto.score_samples(frame), est.score_samples(frame))
    rows = est.sample(200, random_state=0)
    assert rows.dtype == np.float64
    assert set(np.unique(rows[:, 1])) <= {0, 1}
    assert len(np.unique(rows[:, 0])) == 200
    est.save(tmp_path / "model")
    loaded = ScoreODE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(frame), est.score_samples(frame))
    np.testing.assert_array_equal(loaded.sample(200, random_state=0), rows)
    with pytest.raises(ValueError, match="not on the grid of width 1"):
        est.score_samples(frame.assign(flag=0.5))
    with pytest.raises(ValueError, match="discrete or bin_width"):
        small(discrete="auto", bin_width=1).fit(frame)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_samples_as_frames(frame, output):
    given = pl.DataFrame({"size": frame["size"], "flag": frame["flag"]})
    est = small(discrete=["flag"]).fit(given if output == "polars" else frame)
    drawn = est.sample(5, random_state=1, output=output)
    assert isinstance(drawn, {"pandas": pd.DataFrame, "polars": pl.DataFrame}[output])
    assert list(drawn.columns) == ["size", "flag"]
    np.testing.assert_array_equal(drawn, est.sample(5, random_state=1))
    assert np.asarray(drawn["flag"]).dtype == np.int64
    assert est.score_samples(drawn).shape == (5,)
    with pytest.raises(ValueError, match="output 'arrow': choose from numpy, pandas, polars"):
        est.sample(5, output="arrow")


@pytest.mark.slow
def test_weights_make_one_law_of_another():
    """Equal parts of two normals, weighted into 9 : 1; with only the second, into it alone."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-3, 1, (1000, 1)), rng.normal(3, 1, (1000, 1))])
    weights = np.repeat([0.9, 0.1], 1000)
    options = {"steps": 500, "batch_size": 256, "network": MLP(width=32, depth=2)}
    est = small(**options, standardise="scale", smoothing=0.0).fit(X, sample_weight=weights)
    density = est.fitted_.density.bijection.parts[0]
    mean = np.average(X[:, 0], weights=weights)
    assert density.mean[0] == pytest.approx(mean, abs=0.05), "standardised by the weighted mean"
    drawn = est.sample(2000, random_state=0)
    assert np.mean(drawn > 0) == pytest.approx(0.1, abs=0.03)  # 4 standard errors, and the fit
    truth = 0.9 * stats.norm(-3).pdf(X) + 0.1 * stats.norm(3).pdf(X)
    assert np.average(np.log(truth[:, 0]) - est.score_samples(X), weights=weights) < 0.05
    # Of weight zero is no row, whatever it holds: a scale that had seen it would be another.
    second = X[1000:]
    alone = small().fit(second).score_samples(second)
    absent = small().fit(X, sample_weight=np.repeat([0.0, 2.0], 1000)).score_samples(second)
    np.testing.assert_allclose(absent, alone, atol=0.3)


def test_validation_is_weighted():
    """The weighted mean of the bound is that of rows as often as their weights say."""
    x = np.random.default_rng(0).normal(size=(40, 2))
    weights = np.random.default_rng(1).integers(1, 4, 40)
    run = for_table(
        40, 2, order=1, process=PROCESSES["ve"], steps=1, network=TINY, validation="exact"
    )
    names, none = ("a", "b"), x[:0]
    weighted = Dataset("x", x, x, none, names, validation_weights=weights.astype(float))
    run, density = prepare(run, weighted)
    repeated = Dataset("x", x, np.repeat(x, weights, 0), none, names)
    assert Validation(run, weighted).nats(density) == pytest.approx(
        Validation(run, repeated).nats(density), rel=1e-6
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(7), r"sample_weight has shape \(7,\); one number a row is \(120,\)"),
        (np.full(120, -1.0), "row 1 has a negative one"),
        (np.eye(1, 120)[0], "two rows have to count"),
        (np.full(120, np.nan), "NaN"),
    ],
)
def test_weights_that_cannot_be_used(frame, weights, message):
    with pytest.raises(ValueError, match=message):
        small().fit(frame, sample_weight=weights)


def test_a_warm_start_goes_on(frame):
    X = frame[["size", "flag"]] + np.random.default_rng(1).normal(size=(120, 2))
    est = small(steps=300, warm_start=True).fit(X)
    before, fitted = est.score_samples(X), est.fitted_
    # Steps too small to move anything: what comes out is what went in.
    again = est.set_params(steps=2, learning_rate=1e-9).fit(X)
    assert again.fitted_ is not fitted
    np.testing.assert_allclose(again.score_samples(X), before, atol=1e-4)
    cold = small(steps=2, learning_rate=1e-9).fit(X).score_samples(X)
    assert np.abs(cold - before).max() > 0.05
    for bad, message in [
        (X.rename(columns={"flag": "other"}), "feature names"),
        (X[["size"]], "feature names"),
    ]:
        with pytest.raises(ValueError, match=message):
            est.fit(bad)
    for option in (
        {"network": MLP(width=8, depth=1)},
        {"process": VP()},
        {"standardise": "whiten"},
    ):
        changed = small(warm_start=True, **option)
        changed.fitted_, changed.n_features_in_ = est.fitted_, 2
        with pytest.raises(ValueError, match="a warm start keeps the fitted model"):
            changed.fit(np.asarray(X))


def test_training_stops_when_validation_does(frame):
    X = frame[["size", "flag"]] + np.random.default_rng(1).normal(size=(120, 2))
    # Nothing is learnt, so that no validation after the first is better.
    stopped = small(steps=2000, learning_rate=1e-12, patience=2).fit(X)
    assert stopped.fitted_.steps <= 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"size": np.nan}, r"X: missing.* in row 4, column size \(the first is NaN\)"),
        ({"size": np.inf}, r"row 4, column size \(the first is infinity\)"),
        ({"size": None}, "row 4, column size"),
        ({"size": pd.NA}, "row 4, column size"),
        ({"size": "red"}, "column 'size' is not numeric: row 4 holds 'red'; encode it as"),
        ({"size": 1j}, "column 'size' is not numeric: row 4 holds"),
    ],
)
@pytest.mark.parametrize("kind", ["fit", "evaluate"])
def test_bad_values_are_named(frame, spoil, message, kind):
    bad = frame.astype(object)
    for name, value in spoil.items():
        bad.loc[3, name] = value
    if kind == "fit" and "size" in spoil and pd.isna(spoil["size"]):
        return  # in training a value may be missing
    est = small() if kind == "fit" else small(discrete=["flag"]).fit(frame.astype(float))
    with pytest.raises(ValueError, match=message):
        (est.fit if kind == "fit" else est.score_samples)(bad)


def test_bad_values_of_arrays_are_named(frame):
    X = frame.to_numpy(np.float64)
    X[3, 1] = -np.inf
    with pytest.raises(ValueError, match=r"row 4, column x1 \(the first is -infinity\)"):
        small().fit(X)
    with pytest.raises(ValueError, match=r"row 4, column x1 \(the first is NaN\)"):
        small().fit(np.where(np.isinf(X), np.nan, X).reshape(-1, 2, 1, 1))
    with pytest.raises(ValueError, match="Complex"):
        small().fit(frame.to_numpy(np.float64) * 1j)


def test_any_function_can_look_on():
    X = np.random.default_rng(3).normal(size=(60, 2))
    seen = []
    network = MLP(width=8, depth=1)
    est = ScoreODE(order=1, steps=20, batch_size=16, network=network)
    est.fit(X, observe=lambda report, validation: seen.append((report.numbers, validation)))
    numbers, _ = seen[-1]
    assert (numbers["step"], numbers["progress"]) == (20, 1)
    assert np.isfinite(numbers["loss"])
    assert min(nats for _, nats in seen if nats is not None) == est.fitted_.validation_nats


def test_a_run_that_is_under_way(frame, tmp_path):
    """From its folder comes the best model so far, and the final one in the end."""
    rows = frame.to_numpy(np.float64) + np.random.default_rng(1).normal(size=(120, 2))
    data = from_rows("rows", rows, ("x0", "x1"), 0, 0.1)
    options = {"process": PROCESSES["ve"], "steps": 20, "network": TINY, "batch_size": 32}
    run = for_table(108, 2, order=1, **options)
    run, density = prepare(run, data)
    with RunFolder.start(tmp_path / "run") as folder:
        saved.write_config(folder, run, Description.of(data))
        trainer = Trainer(run, data, density, folder)
        trainer.save()
    started = ScoreODE.from_run(folder.path)
    np.testing.assert_array_equal(started.score_samples(rows), density.log_likelihood(rows).nats)
    assert started.get_params()["steps"] == 20
    fitted = trainer.fit()
    whole = ScoreODE.from_run(folder.path)
    np.testing.assert_array_equal(whole.score_samples(rows), fitted.log_likelihood(rows).nats)
    assert not np.array_equal(whole.score_samples(rows), started.score_samples(rows))
    with pytest.raises(ValueError, match="not a run"):
        ScoreODE.from_run(tmp_path / "none")


@pytest.mark.parametrize("n", [50, 500, 5000, 50_000])
def test_few_rows_are_trained_on_briefly_and_watched(n):
    """500 rows of five columns were learnt by heart after 600 steps; see the log."""
    run = for_table(n, 5, process=PROCESSES["ve"])
    assert run.steps is not None
    assert run.steps <= max(500, 2 * n)
    assert run.steps == 10_000 or run.steps <= 100 * run.validations
    for_long = for_table(n, 5, process=PROCESSES["ve"], seconds=600.0)
    assert for_long.validations == (200 if n < 5000 else 20)


def test_a_fit_that_diverges_goes_on_with_half_the_rate(frame, monkeypatch):
    X = frame[["size"]] + np.random.default_rng(1).normal(size=(120, 1))
    advance = loop.advance

    def diverging(state, key, n, at, increment, scale, *rest):
        after, terms, finite = advance(state, key, n, at, increment, scale, *rest)
        return after, terms, finite & (scale < 0.3)

    monkeypatch.setattr(loop, "advance", diverging)
    said = "went back to step 0, and continues with 1/4 of the learning rate"
    with pytest.warns(ConvergenceWarning, match=said) as warned:
        est = small().fit(X)
    assert len(warned) == 1
    assert est.fitted_.recoveries == (0, 0)
    assert np.isfinite(est.score(X))
    monkeypatch.setattr(loop, "advance", lambda *args: (*advance(*args)[:2], np.False_))
    with pytest.raises(FailureError, match="1/8 of the learning rate: lower the learning rate"):
        small().fit(X)


def test_a_validation_that_is_no_number_is_no_better_than_another():
    models = [ScoreModel(VP(), Velocity(), TINY.build((1,), jax.random.key(i))) for i in range(5)]
    best = Best(models[0])
    for model, nats in zip(models[1:], [np.nan, 2.0, np.nan, 3.0], strict=True):
        best.update(model, 1, nats)
    assert best.model is models[2]
    assert (best.value, best.waited) == (2.0, 2)


@pytest.mark.parametrize(
    ("n", "options", "quiet"),
    [
        (1025, {}, (1024, True)),
        (1024, {}, (0, False)),
        (5000, {"n_conditions": 1}, (0, True)),
        (5000, {"image_shape": (4, 4, 1)}, (0, False)),
        (5000, {"n_reference": 0}, (0, True)),
        (100, {"n_reference": 64}, (64, False)),
    ],
)
def test_targets_are_quiet_for_tables_of_many_rows(n, options, quiet):
    run = for_table(n, 16, process=PROCESSES["ve"], **options)
    pairs = isinstance(run.objective.noise, Antithetic)
    assert (run.objective.n_reference, pairs) == quiet
    assert run.weight_decay == (0.0 if "image_shape" in options else 0.03)
