"""Bounded columns and angles, from fit to samples; their laws are compared with the truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.network import MLP

SHARE, PRICE, WIND = stats.beta(0.5, 2), stats.gamma(0.7), stats.vonmises(1.0)
DECLARED = {"bounds": {"share": (0, 1), "price": (0, None)}, "period": {"wind": 360}}


def small(**options):
    tiny = {"order": 1, "steps": 20, "network": MLP(16, 1), "batch_size": 32}
    return ScoreODE(**tiny | options)


def frame_of(n, seed):
    rng = np.random.default_rng(seed)
    columns = {
        "share": SHARE.rvs(n, random_state=rng),
        "wind": np.degrees(WIND.rvs(n, random_state=rng)),
        "price": PRICE.rvs(n, random_state=rng),
        "size": rng.normal(size=n),
    }
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def frame():
    return frame_of(300, 0)


@pytest.fixture(scope="module")
def fitted(frame):
    return small(**DECLARED).fit(frame)


def test_samples_lie_inside(fitted):
    drawn = fitted.sample(500, random_state=0, output="pandas")
    for kind in (np.float64, np.float32):
        share, wind, price, _ = drawn.to_numpy(kind).T
        assert np.all((share > 0) & (share < 1))
        assert np.all((wind >= -180) & (wind < 180))
        assert np.all(price > 0)
    assert np.all(np.isfinite(fitted.score_samples(drawn)))


def test_an_angle_has_its_density_in_every_turn(fitted, frame):
    turned = frame.assign(wind=frame["wind"] + 720)
    np.testing.assert_allclose(
        fitted.score_samples(turned), fitted.score_samples(frame), rtol=0, atol=1e-4
    )
    assert not fitted.beyond_training(turned)[:, 1].any()


def test_values_outside_are_refused_by_every_method(fitted, frame):
    bad = frame[:5].copy()
    bad.loc[3, "price"] = -0.5
    message = "data: row 4, column price holds -0.5, outside its bounds 0:"
    for method in (fitted.score_samples, fitted.score_function, fitted.laplacian):
        with pytest.raises(ValueError, match=message):
            method(bad)
    bad.loc[3, "price"] = 0.0
    with pytest.raises(ValueError, match="1 of 5 values lie exactly at a bound"):
        fitted.score_samples(bad)


def test_rows_that_do_not_count_may_lie_outside(frame):
    bad = frame.copy()
    bad.loc[[3, 7], "price"] = -0.5
    weights = np.ones(len(bad))
    weights[3] = 0
    with pytest.raises(ValueError, match="X: row 8, column price holds"):
        small(**DECLARED).fit(bad, sample_weight=weights)


def test_on_disk_it_is_the_same(fitted, frame, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = ScoreODE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(frame), fitted.score_samples(frame))
    np.testing.assert_array_equal(
        loaded.sample(9, random_state=0), fitted.sample(9, random_state=0)
    )
    assert loaded.bounds == {"share": (0.0, 1.0), "price": (0.0, None)}
    assert loaded.period == {"wind": 360.0}


@pytest.mark.slow
def test_a_warm_start_keeps_the_support(fitted, frame):
    est = ScoreODE(**fitted.get_params())
    est.fitted_, est.n_features_in_ = fitted.fitted_, fitted.n_features_in_
    est.feature_names_in_ = fitted.feature_names_in_
    est.set_params(warm_start=True).fit(frame_of(200, 1))
    before, after = (e.fitted_.density.bijection.support[0] for e in (fitted, est))
    np.testing.assert_array_equal(after.low, before.low)
    with pytest.raises(ValueError, match="a warm start keeps those of the fitted model"):
        est.set_params(bounds={"share": (0, 2)}).fit(frame)
    bad = frame.assign(share=frame["share"] + 1)
    with pytest.raises(ValueError, match="column share holds"):
        est.set_params(bounds=None, period=None).fit(bad)


@pytest.mark.slow
def test_given_others_and_beside_discrete_columns_and_categories(frame):
    """The declared columns keep their support wherever the others go."""
    rng = np.random.default_rng(3)
    visits = rng.poisson(2, len(frame)).astype(float)
    table = frame.assign(visits=visits, city=rng.choice(["Bonn", "Ulm"], len(frame)))
    est = small(**DECLARED, discrete=["visits"]).fit(table, C=rng.normal(size=(len(table), 1)))
    drawn = est.sample(100, [[0.5]], random_state=0)
    assert drawn["share"].between(0, 1, inclusive="neither").all()
    assert np.all(np.isfinite(est.score_samples(drawn, [[0.5]])))
    with pytest.raises(ValueError, match="city is a category, with exact masses: leave it out"):
        small(bounds={"city": (0, 1)}).fit(table)
    with pytest.raises(ValueError, match="column visits is discrete"):
        small(bounds={"visits": (-1, None)}, discrete=["visits"]).fit(table)


def interval():
    """Nodes x in (0, 1) and weights of double exponential quadrature (Takahasi and Mori 1974)."""
    t = np.linspace(-2.9, 2.9, 401)
    y = np.pi / 2 * np.sinh(t)
    slope = np.pi / 4 * np.cosh(t) / np.cosh(y) ** 2
    return 1 / (1 + np.exp(-2 * y)), slope * (t[1] - t[0])


def half_line():
    """Nodes x in (0, ∞) and weights of the same."""
    t = np.linspace(-3.2, 3.2, 401)
    x = np.exp(np.pi / 2 * np.sinh(t))
    return x, x * np.pi / 2 * np.cosh(t) * (t[1] - t[0])


LAWS = {
    "interval": (SHARE, {"bounds": [(0, 1)]}, interval, 0.0),
    "half-line": (PRICE, {"bounds": [(0, None)]}, half_line, 0.0),
    "circle": (WIND, {"period": [2 * np.pi]}, interval, 2 * np.pi),
}


@pytest.fixture(scope="module")
def known():
    """Of every law an estimator fitted to 2000 rows: the diffusion beside all other parts."""
    found = {}
    for name, (law, declared, _, _) in LAWS.items():
        x = law.rvs((2000, 1), random_state=np.random.default_rng(4))
        options = {"steps": 500, "batch_size": 256, "smoothing": 0.0, "standardise": "scale"}
        found[name] = small(**options | declared, network=MLP(32, 2)).fit(x)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_the_density_integrates_to_one(known, name):
    """Over its support, by another substitution: within the tolerance of the solver, which is
    5e-3 nats a row, and has no sign."""
    _, _, nodes, turn = LAWS[name]
    x, weights = nodes()
    if turn:
        cut = known[name].fitted_.density.bijection.support[0].low[0]
        x, weights = cut + turn * x, turn * weights
    density = np.exp(known[name].score_samples(x[:, None]))
    assert weights @ density == pytest.approx(1, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_a_known_law_is_recovered(known, name):
    """Within .03 nats and three standard errors, on new rows."""
    law = LAWS[name][0]
    x = law.rvs((2000, 1), random_state=np.random.default_rng(5))
    loss = law.logpdf(x[:, 0]) - known[name].score_samples(x)
    assert abs(loss.mean()) < 0.03 + 3 * loss.std() / len(loss) ** 0.5


@pytest.mark.slow
def test_the_density_of_an_angle_has_no_step_at_the_cut(known):
    """A part in a thousand of a turn from the cut it is the same on both sides, to what 2000 rows
    tell: in the bins of so few of them, about 20, it is known to .2 nats and an error of three."""
    est, h = known["circle"], 2 * np.pi / 1000
    cut = est.fitted_.density.bijection.support[0].low[0]
    left, right, truth = *est.score_samples([[cut - h], [cut + h]]), WIND.logpdf(cut)
    assert abs(left - right) < 0.7
    assert abs(left - truth) < 1
    assert abs(right - truth) < 1
    assert np.all(np.isfinite(est.score_samples([[cut], [cut + 2 * np.pi]])))


@pytest.mark.slow
def test_derivatives_are_those_of_the_log_density(known):
    """Against differences, through the stack: kernels, mixture and tail included."""
    for name, at in (("interval", 0.3), ("half-line", 0.8), ("circle", 0.5)):
        est, h = known[name], 1e-2
        x = np.array([[at - h], [at], [at + h]])
        low, middle, high = est.log_likelihood(x, tolerance=1e-5).nats
        slope = est.score_function(x[1:2])[0, 0]
        assert slope == pytest.approx((high - low) / (2 * h), abs=0.05)
        assert est.laplacian(x[1:2])[0][0] == pytest.approx(
            (high - 2 * middle + low) / h**2, abs=2.0, rel=0.2
        )
