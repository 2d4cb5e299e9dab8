"""Missing values: densities of what is there, draws of what is not, marginals of some columns."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import integrate, special, stats

from scoreode import ScoreODE
from scoreode.network import MLP

MEAN = np.array([1.0, -2.0, 3.0])
SPREAD = np.array([[1.0, 0.8, -0.3], [0.8, 1.5, 0.0], [-0.3, 0.0, 0.5]])
LACKING = np.array([0.1, 0.2, 0.0])  # how often a column has no value
CITIES = {"Bonn": (0.5, 0.0), "Kiel": (0.3, 3.0), "Ulm": (0.2, -4.0)}  # masses, means of x


def small(**options):
    tiny = {"order": 1, "steps": 20, "network": MLP(16, 1), "batch_size": 32}
    return ScoreODE(**tiny | options)


def gaussian(n, seed):
    """Rows of N(MEAN, SPREAD), with gaps that are independent of all."""
    rng = np.random.default_rng(seed)
    X = rng.multivariate_normal(MEAN, SPREAD, n)
    return np.where(rng.random(X.shape) < LACKING, np.nan, X)


def log_density(X):
    """log N of what is there."""
    found = np.zeros(len(X))
    for i, (row, there) in enumerate(zip(X, ~np.isnan(X), strict=True)):
        if there.any():
            law = stats.multivariate_normal(MEAN[there], SPREAD[np.ix_(there, there)])
            found[i] = law.logpdf(row[there])
    return found


def log_pattern(X):
    there = ~np.isnan(X)
    return special.xlogy(there, 1 - LACKING).sum(1) + special.xlogy(~there, LACKING).sum(1)


def mixed(n, seed, library=pd.DataFrame):
    """x | city ~ N(mean, 1), y | x ~ N(x, .5²), visits whole, with gaps in all but y."""
    rng = np.random.default_rng(seed)
    city = rng.choice(list(CITIES), n, p=[mass for mass, _ in CITIES.values()])
    x = rng.normal([CITIES[c][1] for c in city])
    y = x + 0.5 * rng.normal(size=n)
    days = 10_000 + np.rint(30 * rng.normal(size=n))
    gone = rng.random((n, 4)) < 0.15
    return library(
        {
            "city": [
                None if lacks else c for c, lacks in zip(city.tolist(), gone[:, 0], strict=True)
            ],
            "x": [None if lacks else v for v, lacks in zip(x.tolist(), gone[:, 1], strict=True)],
            "y": y,
            "visits": np.where(gone[:, 2], np.nan, rng.poisson(3, n)),
            "opened": np.where(
                gone[:, 3], np.datetime64("NaT"), days.astype("datetime64[D]")
            ).astype("datetime64[us]"),
        }
    )


@pytest.fixture(scope="module")
def trained():
    """Of Gaussian rows with gaps, whose law is known."""
    options = {"steps": 1200, "batch_size": 256, "learning_rate": 5e-3, "network": MLP(32, 2)}
    return small(subsets=True, **options).fit(gaussian(4000, 0))


@pytest.fixture(scope="module")
def table():
    """Of columns of all kinds with gaps, hardly trained."""
    return small(subsets=True, discrete=["visits"]).fit(mixed(200, 0))


@pytest.mark.slow
def test_the_law_of_rows_with_gaps_is_recovered(trained):
    """Within .03 nats and three standard errors."""
    X = gaussian(2000, 1)
    loss = log_pattern(X) + log_density(X) - trained.score_samples(X)
    assert abs(loss.mean()) < 0.03 + 3 * loss.std() / len(X) ** 0.5
    drawn = trained.sample(4000, random_state=0)
    lacking = np.isnan(drawn).mean(0)
    assert lacking == pytest.approx(LACKING, abs=0.02)
    np.testing.assert_allclose(np.nanmean(drawn, 0), MEAN, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [[0], [2, 1], [0, 2]])
def test_marginals_are_recovered(trained, columns):
    """Without the mass of any pattern; an untrained column may be left out, too."""
    X, S = gaussian(1000, 2)[:, columns], np.ix_(columns, columns)
    whole = X[~np.isnan(X).any(1)]
    marginal = trained.marginal(columns)
    exact = stats.multivariate_normal(MEAN[columns], SPREAD[S]).logpdf(whole)
    loss = exact - marginal.score_samples(whole)
    assert abs(loss.mean()) < 0.04 + 3 * loss.std() / len(whole) ** 0.5
    drawn = marginal.sample(2000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), MEAN[columns], atol=0.12)
    np.testing.assert_allclose(np.cov(drawn.T), np.squeeze(SPREAD[S]), atol=0.2)


@pytest.mark.slow
def test_imputations_have_the_conditional_law(trained):
    """x_1 | x_0, x_2 of a Gaussian, in its mean and variance."""
    X = np.tile([[2.0, np.nan, 2.5]], (1500, 1))
    drawn = trained.impute(X, random_state=0)
    np.testing.assert_array_equal(drawn[:, [0, 2]], X[:, [0, 2]])
    there = [0, 2]
    slope = SPREAD[1, there] @ np.linalg.inv(SPREAD[np.ix_(there, there)])
    mean = MEAN[1] + slope @ (X[0, there] - MEAN[there])
    spread = (SPREAD[1, 1] - slope @ SPREAD[there, 1]) ** 0.5
    assert drawn[:, 1].mean() == pytest.approx(mean, abs=0.15 * spread + 4 * spread / 1500**0.5)
    assert drawn[:, 1].std() == pytest.approx(spread, rel=0.15)


@pytest.mark.slow
def test_a_column_that_never_lacked_is_integrated_out(trained):
    X = gaussian(500, 3)
    X[:, 2] = np.nan
    pattern = log_pattern(X[:, [0, 1, 0]] * [1, 1, np.nan])
    assert np.isinf(pattern).all(), "the law of the patterns knows none without it"
    mass = special.xlogy(~np.isnan(X), 1 - LACKING).sum(1)
    mass += special.xlogy(np.isnan(X[:, :2]), LACKING[:2]).sum(1)
    loss = mass + log_density(X) - trained.score_samples(X)
    assert abs(loss.mean()) < 0.05 + 3 * loss.std() / len(X) ** 0.5


def test_the_density_of_what_is_there_integrates_to_its_mass():
    """For any weights: of one number that is there, by quadrature; masses of patterns sum to 1."""
    X = gaussian(60, 0)[:, :2]
    est = small(subsets=True, learning_rate=0.05).fit(X)
    x = np.linspace(-40, 40, 2001)
    there = np.stack([x, np.full_like(x, np.nan)], axis=1)
    masses = [np.exp(est.score_samples([[np.nan, np.nan]]))[0]]
    for rows in (there, there[:, ::-1]):
        masses.append(integrate.trapezoid(np.exp(est.score_samples(rows)), x))
        pattern = np.isnan(rows[:1]).astype(float)
        assert masses[-1] == pytest.approx(np.exp(est.fitted_.law.log_mass(pattern))[0], abs=1e-3)
    both = np.exp(est.fitted_.law.log_mass(np.zeros((1, 2))))[0]
    assert sum(masses) + both == pytest.approx(1, abs=2e-3)
    total = np.exp(est.marginal([0]).score_samples(x[:, None]))
    assert integrate.trapezoid(total, x) == pytest.approx(1, abs=1e-3)


def test_what_is_missing_has_no_part(table):
    """Neither the value nor the noise of the row, nor that of the other rows in the batch."""
    frame = mixed(40, 1)
    nats = table.score_samples(frame)
    assert np.isfinite(nats).all()
    np.testing.assert_array_equal(table.score_samples(frame[:1]), nats[:1])
    record = table.log_likelihood(frame)
    lacks = frame[["x", "y", "visits", "opened"]].isna().to_numpy()
    np.testing.assert_array_equal(np.isnan(record.latent), lacks)
    gradients = table.score_function(frame[:5])
    np.testing.assert_array_equal(np.isnan(gradients), lacks[:5])


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_imputed_tables_are_of_the_kind_that_came_in(table, library):
    frame = mixed(30, 2, library)
    whole = table.impute(frame, random_state=0)
    assert isinstance(whole, library)
    assert list(whole.columns) == list(frame.columns)
    for name in frame.columns:
        old, new = (np.asarray(t[name], object) for t in (frame, whole))
        there = ~pd.isna(old)
        assert not pd.isna(new).any()
        assert not there.all() or name == "y"
        assert old[there].tolist() == new[there].tolist()
        assert whole[name].dtype == frame[name].dtype
    assert set(np.asarray(whole["city"])) <= set(CITIES)
    assert (np.asarray(whole["visits"], float) % 1 == 0).all()
    np.testing.assert_array_equal(np.asarray(table.impute(whole)["x"]), np.asarray(whole["x"]))
    again, other = table.impute(frame, n=2, random_state=0)
    assert not np.array_equal(np.asarray(again["x"]), np.asarray(other["x"]))


@pytest.mark.slow
def test_draws_lack_values_as_the_rows_do(table, tmp_path):
    drawn = table.sample(400, random_state=0)
    lacking = drawn.isna().mean()
    assert lacking["y"] == 0
    assert (np.abs(lacking.drop("y") - 0.15) < 0.12).all()
    assert (drawn["visits"].dropna() % 1 == 0).all()
    table.save(tmp_path / "model")
    again = ScoreODE.load(tmp_path / "model")
    frame = mixed(20, 3)
    np.testing.assert_array_equal(again.score_samples(frame), table.score_samples(frame))
    np.testing.assert_array_equal(
        again.marginal(["city", "y"]).score_samples(frame[["city", "y"]]),
        table.marginal(["city", "y"]).score_samples(frame[["city", "y"]]),
    )
    pd.testing.assert_frame_equal(*(e.impute(frame, random_state=1) for e in (table, again)))


@pytest.mark.slow
def test_unknown_categories_are_summed_over(table):
    """The density of y is the sum of those with every city, and the mass of all cities is 1."""
    frame = mixed(25, 4)[["city", "y"]]
    both = table.marginal(["city", "y"])
    parts = [both.score_samples(frame.assign(city=city)) for city in CITIES]
    alone = table.marginal(["y"]).score_samples(frame[["y"]])
    np.testing.assert_allclose(alone, special.logsumexp(parts, 0), atol=1e-5)
    masses = np.exp(table.marginal(["city"]).score_samples(pd.DataFrame({"city": list(CITIES)})))
    assert masses.sum() == pytest.approx(1, abs=1e-5)
    assert masses == pytest.approx([mass for mass, _ in CITIES.values()], abs=0.15)


@pytest.mark.slow
def test_imputed_categories_have_the_law_of_the_model(table):
    """City | y by Bayes, from the densities of y and every city."""
    frame = pd.DataFrame({"city": list(CITIES), "y": 1.5})
    exact = special.softmax(table.marginal(["city", "y"]).score_samples(frame))
    columns = {"city": None, "x": np.nan, "y": 1.5, "visits": np.nan, "opened": pd.NaT}
    drawn = table.impute(pd.DataFrame([columns] * 400), random_state=0)["city"]
    found = [(drawn == city).mean() for city in CITIES]
    np.testing.assert_allclose(found, exact, atol=4 * 0.5 / 400**0.5)


def test_a_table_of_categories_with_gaps(tmp_path):
    """No network: masses of all rows sum to 1; imputations follow what is there."""
    rng = np.random.default_rng(0)
    city = rng.choice(list(CITIES), 2000)
    frame = pd.DataFrame({"city": city, "at_sea": np.where(city == "Kiel", "yes", "no")})
    frame = frame.mask(rng.random(frame.shape) < 0.2).astype(object)
    est = small().fit(frame)
    assert not est.fitted_.run.roles
    every = pd.MultiIndex.from_product([[*CITIES, None], ["yes", "no", None]]).to_frame(index=False)
    every = every.set_axis(frame.columns, axis=1).astype(object)
    assert np.exp(est.score_samples(every)).sum() == pytest.approx(1, abs=1e-9)
    est.save(tmp_path / "model")
    asked = pd.DataFrame({"city": ["Kiel", None] * 200, "at_sea": [None, "no"] * 200})
    drawn = ScoreODE.load(tmp_path / "model").impute(asked, random_state=0)
    assert (drawn["at_sea"][::2] == "yes").mean() > 0.97
    assert (drawn["city"][1::2] == "Ulm").mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
def test_training_goes_on_from_the_fitted_model(table):
    est = ScoreODE(**{**table.get_params(), "warm_start": True, "discrete": None})
    est.fitted_, est._library = table.fitted_, table._library
    est.n_features_in_, est.feature_names_in_ = table.n_features_in_, table.feature_names_in_
    est.fit(mixed(60, 5))
    assert est.fitted_.data.gaps == table.fitted_.data.gaps == ("x", "visits", "opened")


def test_rows_without_gaps_are_fitted_as_ever():
    X = np.random.default_rng(0).normal(size=(60, 2))
    est = small(steps=5).fit(X)
    assert not est.fitted_.run.roles
    assert est.fitted_.data.gaps == ()
    with pytest.raises(ValueError, match="impute: no value was missing in training"):
        est.impute(X)
    with pytest.raises(ValueError, match="fit with subsets=True"):
        est.marginal([0])
    with pytest.raises(ValueError, match=r"row 2, column x1 \(the first is NaN\)"):
        est.score_samples([[0.0, 1.0], [0.0, np.nan]])


def test_what_cannot_be_used_is_named(table):
    X = gaussian(60, 0)
    with pytest.raises(ValueError, match="column x1: no row has a value; drop it"):
        small().fit(X * [1, np.nan, 1])
    with pytest.raises(ValueError, match=r"infinite or huge values in row 5, column x2"):
        small().fit(np.where(np.arange(60)[:, None] == 4, [0, 0, np.inf], X))
    with pytest.raises(ValueError, match="standardise whiten: columns lack values; take scale or"):
        small(standardise="whiten").fit(X)
    with pytest.raises(ValueError, match="dequantise variational: columns lack values"):
        small(discrete=[0, 1, 2], dequantise="variational").fit(np.rint(X))
    est = small(steps=2).fit(X)
    with pytest.raises(ValueError, match=r"missing values in row 1, column x2.*training had none"):
        est.score_samples([[0, 0, np.nan]])
    with pytest.raises(ValueError, match="Input C contains NaN"):
        est.fit(X, C=np.where(np.arange(60) == 0, np.nan, 1.0))
    frame = mixed(3, 0)
    for columns, message in [
        ("x", "give a list of columns"),
        (["z"], "no column 'z'"),
        ([], "give a list of columns"),
        (["x", "x"], "name every column once"),
    ]:
        with pytest.raises(ValueError, match=message):
            table.marginal(columns)
    with pytest.raises(ValueError, match="this is the marginal of x, y"):
        table.marginal(["x", "y"]).score_samples(frame[["x"]])
    with pytest.raises(ValueError, match="'Rom', which training did not have"):
        table.score_samples(frame.assign(city="Rom"))


@pytest.mark.slow
def test_declared_supports_hold_where_values_are_missing():
    """Of one value that is there, a share or an angle, the density integrates to the mass of the
    pattern, over its support; draws are inside."""
    rng = np.random.default_rng(0)
    X = np.c_[rng.beta(2, 3, 300), rng.vonmises(0, 2, 300) % (2 * np.pi)]
    X[rng.random(X.shape) < 0.2] = np.nan
    est, high = small(bounds={0: (0, 1)}, period={1: 2 * np.pi}).fit(X), [1, 2 * np.pi]
    for column in range(2):
        rows = np.full((1000, 2), np.nan)
        rows[:, column] = high[column] * (np.arange(1000) + 0.5) / 1000
        mass = high[column] * np.mean(np.exp(est.score_samples(rows)))
        pattern = np.isnan(rows[:1]).astype(float)
        assert mass == pytest.approx(np.exp(est.fitted_.law.log_mass(pattern))[0], abs=2e-3)
    filled = est.impute(X, random_state=0)
    assert not np.isnan(filled).any()
    for drawn in (est.sample(200, random_state=0), filled):
        assert np.nanmin(drawn) > 0
        assert np.all(np.nanmax(drawn, 0) < high)
