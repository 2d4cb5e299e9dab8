"""Cycles: how long each is, who decides whether there is another, what is kept, and resumption."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from scoreode.data import from_rows
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import CYCLE_EPOCHS, CYCLE_LEAST, for_table
from scoreode.network import MLP
from scoreode.train.cycles import Cycle
from scoreode.train.trainer import fit, resume
from scoreode.train.validation import Validation

ROWS = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
DATA = from_rows("rows", ROWS, ("a", "b"), 0, 0.1)


def run_for(seconds, cycle, **options):
    found = for_table(360, 2, order=1, process=PROCESSES["ve"], network=MLP(8, 1), **options)
    return replace(found, seconds=seconds, steps=None, cycle=cycle, smoothing=0.0, validations=4)


def test_seconds_are_spent_in_cycles_and_steps_are_not():
    def cycle(n, **budget):
        return for_table(n, 9, process=PROCESSES["ve"], **budget).cycle

    assert cycle(32_000, seconds=60) == CYCLE_EPOCHS * 32_000 // 256
    assert cycle(100, seconds=60) == CYCLE_LEAST
    for otherwise in ({"steps": 100}, {"seconds": 60, "patience": 3}, {}):
        assert cycle(32_000, **otherwise) is None


def test_another_cycle_is_twice_as_long_and_needs_half_the_time_of_the_last():
    run, cycle = run_for(100.0, 1000), Cycle(1000)
    assert cycle.following(run, 1000, 60.0) == Cycle(2000, 1000, 60.0)
    assert cycle.following(run, 1000, 70.0) is None
    assert Cycle(2000, 1000, 30.0).following(run, 3000, 70.0) == Cycle(4000, 3000, 70.0)
    assert Cycle(None).following(run, 1000, 10.0) is None
    assert cycle.following(replace(run, seconds=None, steps=5000), 1000, 10.0) is None


@pytest.fixture
def verdicts(monkeypatch):
    """Whether each cycle's end is better, in place of what validation finds."""

    def set_verdicts(*better):
        left = iter(better)
        monkeypatch.setattr(
            Validation, "choose", lambda _, best, last, **__: last if next(left, False) else best
        )

    return set_verdicts


@pytest.mark.parametrize(("better", "steps"), [((False, False), 300), ((True, True, False), 700)])
def test_cycles_go_on_until_one_is_no_better(verdicts, better, steps):
    verdicts(*better)
    reports = []
    fitted = fit(run_for(600.0, 100), DATA, observe=lambda report, _: reports.append(report))
    assert fitted.steps == steps
    ends = [report.step for report in reports if report.annealed == 1]
    assert ends == [100, 300, 700][: len(ends)]
    assert ends[-1] == steps
    assert all(report.progress < 0.5 for report in reports), "of seconds that were not needed"


def test_the_best_end_is_kept(verdicts):
    verdicts(True, True, False)
    ends = {}

    def observe(report, _):
        if report.annealed == 1:
            ends[report.step] = report.state.ema

    fitted = fit(run_for(600.0, 100), DATA, observe=observe)
    kept = fitted.density.score_model
    assert [step for step, model in ends.items() if model is kept] == [300]


def test_ends_of_later_cycles_are_compared_once_and_over_more_rows(monkeypatch):
    calls = []

    def choose(_, best, last, *, closely=False):
        calls.append(closely)
        return last if len(calls) < 3 else best

    monkeypatch.setattr(Validation, "choose", choose)
    fit(run_for(600.0, 100), DATA)
    assert calls == [False, True, True]


def test_cycles_end_with_the_seconds(verdicts):
    verdicts(*[True] * 100)
    run = run_for(3.0, 100)
    reports = []
    fit(run, DATA, observe=lambda report, _: reports.append(report))
    ends = [report for report in reports if report.annealed == 1]
    assert len(ends) >= 2
    assert ends[-1].seconds < 3.0 + 2.0
    # The last cycle ends with the seconds, or so late that another would be too short.
    left, last = 3.0 - ends[-1].seconds, ends[-1].seconds - ends[-2].seconds
    assert left < max(last, 0.0) or math.isclose(ends[-1].progress, 1.0)


@pytest.mark.slow
def test_a_run_that_is_stopped_in_its_second_cycle_is_resumed_bit_for_bit(verdicts, tmp_path):
    run = run_for(600.0, 100)
    verdicts(True, False)
    whole = fit(run, DATA)

    class Stop(KeyboardInterrupt):
        pass

    def stop(report, _):
        if report.step >= 200:
            raise Stop

    verdicts(True)
    with pytest.raises(Stop):
        fit(run, DATA, path=tmp_path / "run", observe=stop)
    verdicts(False)
    rest = resume(tmp_path / "run", DATA)
    assert rest.steps == whole.steps == 300
    for one, other in zip(
        jax.tree.leaves(rest.density.score_model),
        jax.tree.leaves(whole.density.score_model),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
