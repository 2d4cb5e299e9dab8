"""DataFrames of numbers, text, booleans, categories and dates, from fit to samples."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.network import MLP

MEANS = {"Bonn": 0.0, "Kiel": 3.0, "Ulm": -4.0}
MASSES = {"Bonn": 0.5, "Kiel": 0.3, "Ulm": 0.2}
SPREADS = {"Bonn": 1.0, "Kiel": 0.3, "Ulm": 2.0}


def small(**options):
    tiny = {"order": 1, "steps": 20, "network": MLP(16, 1), "batch_size": 32}
    return ScoreODE(**tiny | options)


def frame_of(n, seed):
    """x | city ~ N(mean, spread²), member depends on the city, opened on x."""
    rng = np.random.default_rng(seed)
    city = rng.choice(list(MASSES), n, p=list(MASSES.values()))
    member = rng.random(n) < np.where(city == "Ulm", 0.9, 0.2)
    x = [rng.normal(MEANS[c], SPREADS[c]) for c in city]
    days = np.rint(10_000 + 300 * rng.normal(size=n)).astype("datetime64[D]")
    frame = pd.DataFrame({"city": city, "x": x, "opened": days.astype("datetime64[us]")})
    return frame.assign(member=member, size=pd.Categorical(rng.choice(["S", "L"], n), ["S", "L"]))


@pytest.fixture(scope="module")
def known():
    """An estimator of city, member and x, whose law is known."""
    frame = frame_of(4000, 0)[["city", "x", "member"]]
    options = {"steps": 1500, "batch_size": 256, "learning_rate": 5e-3, "network": MLP(32, 2)}
    return small(**options).fit(frame)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(frame_of(300, 0))


def truth(frame):
    mass = np.log([MASSES[c] for c in frame["city"]])
    member = np.where(frame["city"] == "Ulm", 0.9, 0.2)
    mass += np.log(np.where(frame["member"], member, 1 - member))
    mean, spread = ([law[c] for c in frame["city"]] for law in (MEANS, SPREADS))
    return mass + stats.norm(mean, spread).logpdf(frame["x"])


@pytest.mark.slow
def test_a_known_law_is_recovered(known):
    """Within .03 nats and three standard errors; without the city it would lose I(x; city)."""
    frame = frame_of(2000, 1)[["city", "x", "member"]]
    loss = truth(frame) - known.score_samples(frame)
    assert abs(loss.mean()) < 0.03 + 3 * loss.std() / len(loss) ** 0.5
    city, x, member = (frame[name] for name in ("city", "x", "member"))
    exact = known.fitted_.law.log_mass(known._rows(frame, None)[1])
    counts = pd.crosstab(city, member, normalize=True)
    masses = [counts.loc[c, m] for c, m in zip(city, member, strict=True)]
    assert np.mean(np.log(masses) - exact) == pytest.approx(0, abs=0.01)
    assert np.isfinite(x).all()


@pytest.mark.slow
def test_samples_have_the_law_that_was_fitted(known):
    drawn = known.sample(4000, random_state=0)
    assert list(drawn.columns) == ["city", "x", "member"]
    for city, mass in MASSES.items():
        x = drawn["x"][drawn["city"] == city]
        assert len(x) / 4000 == pytest.approx(mass, abs=5 * (mass * (1 - mass) / 4000) ** 0.5)
        assert x.mean() == pytest.approx(MEANS[city], abs=0.2 * SPREADS[city])
        assert x.std() == pytest.approx(SPREADS[city], rel=0.2)
    assert drawn["member"][drawn["city"] == "Ulm"].mean() == pytest.approx(0.9, abs=0.06)


@pytest.mark.slow
def test_gradients_are_of_the_numbers(known):
    frame = pd.DataFrame({"city": ["Bonn", "Kiel"], "x": [1.0, 3.1], "member": [True, False]})
    score = known.score_function(frame)
    assert score.shape == (2, 1)
    np.testing.assert_allclose(score[:, 0], [-1, -0.1 / 0.09], atol=0.5)


def test_the_anomaly_score_of_categories_is_minus_log_p(fitted):
    frame = frame_of(20, 5)
    np.testing.assert_array_equal(fitted.anomaly_score(frame), -fitted.score_samples(frame))
    with pytest.raises(ValueError, match="have −log p for score"):
        fitted.anomaly_score(frame, reference=frame)


def test_samples_are_of_the_kinds_that_came_in(fitted):
    drawn = fitted.sample(50, random_state=0)
    assert isinstance(drawn, pd.DataFrame)
    assert list(drawn.columns) == list(frame_of(3, 0).columns)
    assert set(drawn["city"]) <= set(MASSES)
    assert drawn["member"].dtype == bool
    assert list(drawn["size"].cat.categories) == ["S", "L"]
    assert drawn["opened"].dtype.kind == "M"
    assert (drawn["opened"] == drawn["opened"].dt.normalize()).all()
    array = fitted.sample(50, random_state=0, output="numpy")
    assert array.dtype == object
    assert array[:, 0].tolist() == drawn["city"].tolist()
    assert array[:, 1].tolist() == drawn["x"].tolist()
    assert isinstance(fitted.sample(2, output="polars"), pl.DataFrame)


@pytest.mark.slow
def test_polars_gives_the_same(fitted):
    frame = frame_of(300, 0)
    given = pl.DataFrame({name: frame[name].to_numpy() for name in frame}).with_columns(
        pl.col("opened").cast(pl.Date), size=pl.Series(frame["size"].tolist(), dtype=pl.Enum("SL"))
    )
    est = small().fit(given)
    np.testing.assert_array_equal(est.score_samples(given), fitted.score_samples(frame))
    drawn = est.sample(20, random_state=3)
    assert isinstance(drawn, pl.DataFrame)
    assert drawn.schema == given.schema
    np.testing.assert_array_equal(drawn["x"], fitted.sample(20, random_state=3)["x"])


def test_save_and_load(fitted, tmp_path):
    frame = frame_of(30, 1)
    fitted.save(tmp_path / "model")
    loaded = ScoreODE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(frame), fitted.score_samples(frame))
    pd.testing.assert_frame_equal(
        loaded.sample(20, random_state=1), fitted.sample(20, random_state=1)
    )
    assert loaded.feature_names_in_.tolist() == list(frame.columns)
    assert loaded.n_features_in_ == 5
    again = loaded.set_params(steps=5).fit(frame_of(300, 0))
    assert again.fitted_.data.categories == fitted.fitted_.data.categories
    (tmp_path / "model" / "categories.safetensors").unlink()
    with pytest.raises(ValueError, match=r"categories\.safetensors: no such file"):
        ScoreODE.load(tmp_path / "model")


def test_what_cannot_be_evaluated(fitted):
    frame = frame_of(30, 1)
    with pytest.raises(ValueError, match="column city, row 3 holds 'Rom', which training did not"):
        fitted.score_samples(frame.assign(city=["Ulm", "Ulm", "Rom"] * 10))
    with pytest.raises(ValueError, match="give a DataFrame, as in fit: city, opened, member, size"):
        fitted.score_samples(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="column opened: row 1 holds 'soon', which is no date"):
        fitted.score_samples(frame.assign(opened="soon"))


def test_validation_and_likelihoods_are_of_whole_rows(fitted):
    """The NLL of validation rows has that of the categories in it."""
    data = fitted.fitted_
    mass = data.law.log_mass(fitted._rows(frame_of(300, 0), None)[1]).mean()
    frame = frame_of(300, 0)
    assert data.validation_nats == pytest.approx(-fitted.score(frame), abs=1.5)
    assert mass < -1.5, "which is more than that"
    assert fitted.typicality(frame).shape == (300,)


def test_values_beyond_training_are_in_the_order_of_the_columns(fitted):
    frame = frame_of(30, 1)
    frame.loc[0, "opened"] = pd.Timestamp("2300-01-01")
    found = fitted.beyond_training(frame)
    assert found[0].tolist() == [False, False, True, False, False]


@pytest.mark.slow
def test_discrete_columns_are_named_among_all():
    frame = frame_of(200, 0).assign(visits=np.random.default_rng(0).poisson(3, 200))
    for discrete in (["visits"], [5], [False] * 5 + [True]):
        est = small(steps=5, discrete=discrete).fit(frame)
        assert est.fitted_.data.bin_width == (0, 0, 1)
        assert est.fitted_.data.columns == ("x", "opened", "visits")
    drawn = est.sample(10)
    assert drawn["visits"].dtype.kind == "i"
    with pytest.raises(ValueError, match="discrete is for numbers, and city is a category"):
        small(discrete=["city"]).fit(frame)
    flags = small(steps=5, discrete=["member", "visits"]).fit(frame)
    assert flags.fitted_.data.categories == ("city", "size")


@pytest.mark.slow
def test_codes_are_categories_where_they_are_named():
    rng = np.random.default_rng(0)
    code = rng.choice([3.0, 7.0, 9.0], 200)
    X = np.stack([rng.normal(size=200) + code, code], axis=1)
    est = small(categories=[1]).fit(X)
    assert est.fitted_.data.kinds["x1"].levels == (3, 7, 9)
    drawn = est.sample(50, random_state=0)
    assert drawn.dtype == np.float64
    assert set(drawn[:, 1]) <= {3.0, 7.0, 9.0}
    named = small(categories=["b"]).fit(pd.DataFrame(X, columns=["a", "b"]))
    np.testing.assert_array_equal(
        named.score_samples(pd.DataFrame(X, columns=["a", "b"])), est.score_samples(X)
    )
    with pytest.raises(ValueError, match=r"x1, row 1 holds 5\.0, which training did not"):
        est.score_samples([[0.0, 5.0]])
    for bad in ("x1", ["z"], [4], 3):
        with pytest.raises(ValueError, match="categories"):
            small(categories=bad).fit(X)


@pytest.mark.slow
def test_categories_as_conditions():
    """p(x | city): given as text, and drawn given it."""
    frame = frame_of(1500, 0)
    est = small(steps=400, learning_rate=1e-2, batch_size=128).fit(frame[["x"]], C=frame[["city"]])
    assert est.fitted_.law is None
    drawn = est.sample(300, pd.DataFrame({"city": ["Kiel"]}), random_state=0)
    assert drawn.mean() == pytest.approx(3, abs=0.3)
    both = est.sample(300, pd.DataFrame({"city": ["Kiel", "Ulm"]}), random_state=0)
    np.testing.assert_allclose(both.mean((0, 2)), [3, -4], atol=0.7)
    with pytest.raises(ValueError, match="C: column city, row 1 holds 'Rom'"):
        est.sample(2, pd.DataFrame({"city": ["Rom"]}))


@pytest.mark.slow
def test_categories_given_a_condition():
    """P(k | c) follows c, and so do draws."""
    frame = frame_of(1500, 0)
    c = np.where(frame["member"], 1.0, -1.0) + 0.1 * np.random.default_rng(0).normal(size=1500)
    est = small(steps=50).fit(frame[["x", "member"]], C=pd.DataFrame({"dose": c}))
    high, low = (est.sample(200, [[dose]])["member"].mean() for dose in (1.0, -1.0))
    assert high > 0.95
    assert low < 0.05


@pytest.mark.slow
def test_a_warm_start_keeps_the_levels():
    est = small(warm_start=True).fit(frame_of(300, 0))
    levels = est.fitted_.data.kinds["city"]
    est.fit(frame_of(100, 3))
    assert est.fitted_.data.kinds["city"] == levels
    with pytest.raises(ValueError, match="'Rom', which training did not have"):
        est.fit(frame_of(100, 3).assign(city=["Ulm", "Rom"] * 50))


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_a_table_of_categories_only(tmp_path, library):
    """Its law is exact, and no network is trained or evaluated."""
    frame = frame_of(3000, 0)[["city", "member"]]
    given = library({name: frame[name].to_numpy() for name in frame})
    est = small().fit(given)
    assert est.fitted_.steps == 0
    every = frame.drop_duplicates()
    every = library({name: every[name].to_numpy() for name in every})
    nats = est.score_samples(every)
    assert len(nats) == 6
    assert np.exp(nats).sum() == pytest.approx(1, abs=1e-9)
    x = np.zeros(6)
    city, member = (np.asarray(every[name]) for name in ("city", "member"))
    exact = truth(pd.DataFrame({"city": city, "member": member, "x": x}))
    exact -= stats.norm([MEANS[c] for c in city], [SPREADS[c] for c in city]).logpdf(x)
    np.testing.assert_allclose(np.exp(nats), np.exp(exact), atol=5 * 0.5 / 3000**0.5)
    assert (est.log_likelihood(every).nfe == 0).all()
    with pytest.raises(ValueError, match="a table of categories only has no derivatives"):
        est.score_function(every)
    drawn = est.sample(2000, random_state=0)
    assert isinstance(drawn, library)
    assert np.mean(np.asarray(drawn["city"]) == "Ulm") == pytest.approx(0.2, abs=0.05)
    est.save(tmp_path / "model")
    again = ScoreODE.load(tmp_path / "model")
    np.testing.assert_array_equal(again.score_samples(every), nats)
    assert est.score(given) == pytest.approx(-est.fitted_.validation_nats, abs=0.2)
