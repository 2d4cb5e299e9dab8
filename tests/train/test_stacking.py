"""What a fit puts beside its diffusion, and that the whole is kept on the disk."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.data import Description, condition_on, from_rows
from scoreode.model.build import prepare
from scoreode.model.config import PROCESSES, Parts
from scoreode.model.defaults import for_table
from scoreode.model.dequantised import DiffusionNoise
from scoreode.model.fitted import Fitted
from scoreode.network import MLP
from scoreode.train import RunFolder, saved, smoothing, stacking, trainer
from scoreode.train.stacking import PARTS, n_diffusions, stacks, with_stack
from scoreode.train.trainer import fit, resume

RNG = np.random.default_rng(2)
TINY = MLP(8, 1)
BUDGET = {"steps": 40, "network": TINY, "smoothing": 0.0}


def data_of(n, d=2, **options):
    x = RNG.normal(size=(n, d)).astype(np.float32)
    return from_rows("rows", x, [f"x{i}" for i in range(d)], 0, 0.1, **options)


def run_for(n, d=2, **options):
    return for_table(n, d, process=PROCESSES["ve"], stack=True, **BUDGET | options)


@pytest.fixture
def short_runs_count(monkeypatch):
    """As if 40 steps were enough to learn rows by heart."""
    monkeypatch.setattr(smoothing, "LEAST_STEPS", 40)


def sizes(n, d=2, subsets=False, **options):
    data = replace(data_of(n, d), subsets=subsets)
    run, density = prepare(run_for(n, d, **options), data)
    run = replace(run, parts=Parts(n_diffusions(run, data)))
    run, stack = with_stack(run, data, density, 40, lambda run, part: prepare(run, part)[1])
    return run.parts, stack


@pytest.mark.usefixtures("short_runs_count")
def test_the_number_of_rows_and_columns_decides_what_there_is():
    found, stack = sizes(200)
    assert found == Parts(PARTS, 1, found.mixture, 200)
    assert stack.weights.sum() == pytest.approx(1, rel=1e-12)
    found, _ = sizes(1200)
    assert found == Parts(1, 1, found.mixture, 1080)
    assert sizes(6000)[0] == Parts(1, 1)
    assert sizes(6000, subsets=True)[0] == Parts(1, 1, 1)
    assert sizes(200, 33)[0] == Parts(PARTS, 1)


def test_who_gets_no_stack():
    run, data = run_for(200, steps=500), data_of(200)
    assert stacks(run, data)
    assert not stacks(replace(run, stack=False), data)
    assert not stacks(replace(run, steps=499), data)
    assert not stacks(run, data_of(200, 3) | condition_on_last)
    assert not stacks(run, replace(data, image_shape=(2, 1, 1)))
    assert not stacks(run, replace(data, validation=data.validation[:0]))
    assert n_diffusions(run, data) == PARTS
    assert n_diffusions(run, data_of(1200)) == 1
    at_grid = replace(run, dequantise=DiffusionNoise())
    assert n_diffusions(at_grid, data) == 1


def test_diffusions_share_a_budget_in_seconds(monkeypatch):
    """However long the choice of smoothing took, a run that was long enough keeps its stack."""
    begun = []

    class Trained:
        def __init__(self, run, data, density, *_):
            begun.append(run)
            self.fitted = Fitted(run, density, Description.of(data), 0, 0.0, None)

        def fit(self, _observe=None):
            return self.fitted

    data = data_of(200)
    monkeypatch.setattr(trainer, "Trainer", Trained)
    monkeypatch.setattr(trainer, "with_smoothing", lambda run, *_: replace(run, seconds=50.0))
    fit(replace(run_for(200), steps=None, seconds=60.0), data)
    assert (begun[-1].parts, begun[-1].seconds) == (Parts(PARTS), 50.0 / PARTS)
    fit(replace(run_for(200), steps=None, seconds=59.0), data)
    assert (begun[-1].parts, begun[-1].seconds) == (None, 50.0)


class _ConditionOnLast:
    def __ror__(self, data):
        return condition_on(data, data.columns[-1:])


condition_on_last = _ConditionOnLast()


def test_every_row_is_held_out_from_one_diffusion_and_trains_the_others():
    x = np.arange(100.0)[:, None] + RNG.normal(size=(100, 2))
    data = from_rows("rows", x, ("a", "b"), 0, 0.1, weights=np.arange(1.0, 101.0))
    parts = [data, *stacking._other_parts(data)]
    assert len(parts) == PARTS
    held_out = np.concatenate([part.validation for part in parts])
    assert np.array_equal(np.sort(held_out, 0), np.sort(x.astype(held_out.dtype), 0))
    for part in parts:
        both = np.concatenate([part.train, part.validation])
        weights = np.concatenate([part.train_weights, part.validation_weights])
        assert len(np.unique(both[:, 0])) == 100
        order = {row.tobytes(): i for i, row in enumerate(x.astype(both.dtype))}
        assert [order[row.tobytes()] + 1 for row in both] == weights.tolist()


def test_a_column_that_one_row_keeps_from_being_constant_has_fewer_parts():
    x = np.stack([RNG.normal(size=50), np.eye(1, 50)[0]], 1)
    data = from_rows("rows", x, ("a", "b"), 0, 0.1)
    assert len(stacking._other_parts(data)) in (PARTS - 2, PARTS - 1)
    assert all(np.ptp(part.train[:, 1]) > 0 for part in stacking._other_parts(data))


@pytest.mark.usefixtures("short_runs_count")
def test_a_stack_is_saved_loaded_and_drawn_from(tmp_path):
    X = RNG.normal(size=(120, 2)) * [1, 50] + [3, 0]
    est = ScoreODE(**BUDGET).fit(X)
    assert set(est.fitted_.summary["stack"]) == {"diffusion", "tail", "mixture", "kernels"}
    est.save(tmp_path / "run")
    other = ScoreODE.load(tmp_path / "run")
    np.testing.assert_array_equal(other.score_samples(X[:9]), est.score_samples(X[:9]))
    drawn = (one.sample(20, random_state=1) for one in (other, est))
    np.testing.assert_array_equal(*drawn)
    assert other.fitted_.run.parts == est.fitted_.run.parts
    # Every row is the centre of a kernel, and by these an anomaly is told.
    odd, h = X[:9] + np.array([0.5, -20]), 0.3 * X.std(0)
    nats = np.log(np.mean(np.prod(stats.norm(X, h).pdf(odd[:, None]), 2), 1))
    np.testing.assert_allclose(other.anomaly_score(odd), -nats, rtol=1e-5)
    assert other.get_params()["stack"] is True
    assert ScoreODE(**BUDGET, stack=False).fit(X).fitted_.stack is None
    X[7] = 1e9
    assert np.isfinite(est.score_samples(X[7:8])).all()


def mixed(n, seed, lacking):
    """x | city ~ N(mean, 1), y | x ~ N(x, .5²), in other units, with gaps in x and the city."""
    rng = np.random.default_rng(seed)
    city = rng.integers(0, 3, n)
    x = np.array([0.0, 4.0, -4.0])[city] + rng.normal(size=n)
    y = 100 + 10 * (x + 0.5 * rng.normal(size=n))
    names = np.array(["Bonn", "Kiel", "Ulm"], object)[city]
    gone = rng.random((n, 2)) < lacking
    columns = np.where(gone[:, 0], None, names), np.where(gone[:, 1], np.nan, x), y
    return pd.DataFrame(dict(zip(("city", "x", "y"), columns, strict=True)))


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["categories", "gaps"])
def stacked(request):
    """Of rows with categories, and with gaps: a stack whose diffusions have hardly trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoothing, "LEAST_STEPS", 40)
        frame = mixed(260, 0, request.param)
        est = ScoreODE(**BUDGET, order=1, subsets=request.param > 0).fit(frame)
    return est, frame, request.param


@pytest.mark.slow
def test_tables_with_categories_and_gaps_have_stacks(stacked, tmp_path):
    est, frame, lacking = stacked
    assert est.fitted_.run.parts.diffusions == PARTS
    names = {"diffusion", "tail", "mixture"} | ({"kernels"} if not lacking else set())
    shares = est.fitted_.summary["stack"]
    assert set(shares) == names
    assert sum(shares.values()) == pytest.approx(1)
    assert "a Gaussian mixture" in est.explain()
    est.save(tmp_path / "run")
    other = ScoreODE.load(tmp_path / "run")
    nats = est.score_samples(frame[:9])
    np.testing.assert_array_equal(other.score_samples(frame[:9]), nats)
    np.testing.assert_array_equal(est.score_samples(frame[4:5]), nats[4:5])
    drawn = (one.sample(20, random_state=1) for one in (other, est))
    pd.testing.assert_frame_equal(*drawn)
    # The diffusions have hardly trained, and the classes of the mixture are the law's cities.
    new = mixed(400, 1, 0.0)
    mean, slope = {"Bonn": 0.0, "Kiel": 4.0, "Ulm": -4.0}, (new["y"] - 100) / 10
    exact = stats.norm.logpdf(new["x"], new["city"].map(mean)) - np.log(3)
    exact += stats.norm.logpdf(slope, new["x"], 0.5) - np.log(10) + 2 * np.log1p(-lacking)
    assert (exact - est.score_samples(new)).mean() < 0.35


@pytest.mark.slow
def test_no_row_of_a_table_with_categories_and_gaps_costs_much(stacked):
    est, frame, lacking = stacked
    far = frame[frame["city"].notna() & frame["x"].notna()][:2].copy()
    far["y"] = [1e9, -1e9]
    assert (est.score_samples(far) > -150).all()
    if lacking:
        far["x"] = np.nan
        assert (est.score_samples(far) > -150).all()


@pytest.mark.slow
def test_the_stack_fills_gaps_by_what_it_knows(stacked):
    """The diffusions have hardly trained: that x is near (y − 100) / 10, the mixture says."""
    est, _, lacking = stacked
    if not lacking:
        pytest.skip("nothing is missing")
    frame = pd.DataFrame({"city": None, "x": np.nan, "y": np.tile([60.0, 140.0], 60)})
    whole = est.impute(frame, random_state=0)
    expected = np.where(frame["y"] < 100, "Ulm", "Kiel")
    assert (whole["city"] == expected).mean() > 0.8
    assert abs(np.median(whole["x"] - (frame["y"] - 100) / 10)) < 0.5
    alone = est.marginal(["y"])
    y = np.linspace(-200, 400, 1201)
    total = np.exp(alone.score_samples(y[:, None]))
    assert np.trapezoid(total, y) == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("short_runs_count")
def test_a_run_that_stops_before_its_stack_has_the_same_after_resumption(tmp_path, monkeypatch):
    data, run = data_of(150), run_for(150)
    whole = fit(run, data)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scoreode.train.trainer.with_stack", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(run, data, path=tmp_path / "run")
    so_far = saved.at_checkpoint(tmp_path / "run")
    assert so_far.steps == 40
    saved.save(RunFolder.create(tmp_path / "kept"), so_far)
    assert saved.load(tmp_path / "kept").stack is None
    rest = resume(tmp_path / "run", data)
    x = data.validation[:5].astype(np.float64)
    np.testing.assert_array_equal(rest.log_likelihood(x).nats, whole.log_likelihood(x).nats)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    np.testing.assert_array_equal(
        saved.load(tmp_path / "copy").log_likelihood(x).nats, rest.log_likelihood(x).nats
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::scoreode.errors.OutlierWarning")
def test_absurd_values_ruin_neither_the_fit_nor_the_mean():
    """KL of the clean law at most a tenth of a nat, with one value in two hundred absurd."""
    rng = np.random.default_rng(0)
    clean, test = rng.normal(size=(1200, 2)), rng.normal(size=(1000, 2))
    X = clean.copy()
    X[::100, 0] *= 1e4
    est = ScoreODE(steps=500, order=1, network=MLP(64, 2), smoothing=0.0).fit(X)
    truth = -np.log(2 * np.pi) - 0.5 * np.sum(test**2, 1)
    gap = truth - est.score_samples(test)
    assert gap.mean() - 4 * gap.std() / np.sqrt(1000) < 0.1
    assert est.score_samples(X[::100]).min() > -60
