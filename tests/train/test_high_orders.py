"""Who decides whether orders 2 and 3 act, and that nothing else differs then."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from scoreode.data import from_rows
from scoreode.data.dataset import condition_on
from scoreode.errors import InputError
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.model.nlls import JDiff
from scoreode.network import MLP
from scoreode.train.high_orders import order_of, pay
from scoreode.train.trainer import fit, resume
from scoreode.train.validation import Validation

ROWS = np.random.default_rng(0).normal(size=(1200, 2)).astype(np.float32)
DATA = from_rows("rows", ROWS, ("a", "b"), 0, 0.1)


def run_for(order, **options):
    options = {"steps": 1000, "smoothing": 0.0, "network": MLP(8, 1), **options}
    return for_table(1080, 2, order=order, process=PROCESSES["ve"], **options)


def j_diff(value, stderr=0.1, rows=200):
    return JDiff(1.0, 1.0 - value, value, stderr, rows)


@pytest.fixture
def measured(monkeypatch):
    """What validation finds, and how often it is asked for."""
    calls = []

    def set_j_diff(found):
        def answer(_self, _density, _most=None):
            calls.append(found)
            return found

        monkeypatch.setattr(Validation, "j_diff", answer)
        return calls

    return set_j_diff


@pytest.mark.parametrize(
    ("found", "acts"),
    [
        (j_diff(0.21), True),
        (j_diff(0.19), False),
        (j_diff(-0.3), False),
        (j_diff(0.3, rows=99), False),
        (None, False),
    ],
)
def test_j_diff_above_0_by_two_standard_errors_lets_them_act(found, acts):
    assert pay(found) is acts


def test_short_budgets_leave_them_no_time(measured):
    for budget in ({"steps": 1000}, {"steps": None, "seconds": 300.0}):
        assert order_of(run_for("auto", **budget), DATA) is None
    for budget in ({"steps": 999}, {"steps": None, "seconds": 299.0}):
        assert order_of(run_for("auto", **budget), DATA) == 1
    calls = measured(j_diff(1.0))
    assert fit(run_for("auto", steps=300), DATA).order == 1
    assert not calls, "and cost nothing then"


def test_three_columns_and_few_validation_rows_are_those_of_order_1(measured):
    calls = measured(j_diff(1.0))
    wide = from_rows("rows", np.hstack([ROWS, ROWS[:, :1] ** 2]), ("a", "b", "c"), 0, 0.1)
    few = from_rows("rows", ROWS[:900], ("a", "b"), 0, 0.1)
    assert [order_of(run_for("auto"), data) for data in (DATA, wide, few)] == [None, 1, 1]
    assert fit(run_for("auto"), few).order == 1
    assert not calls


def test_in_one_column_they_act_unless_it_is_given_another(measured):
    calls = measured(j_diff(-1.0))
    column = from_rows("rows", ROWS[:, :1], ("a",), 0, 0.1)
    assert order_of(run_for("auto"), column) == 3
    assert order_of(run_for("auto"), condition_on(DATA, ["b"])) is None
    assert order_of(run_for("auto", steps=999), column) == 1
    assert not calls


@pytest.fixture
def last_is_kept(monkeypatch):
    monkeypatch.setattr(Validation, "choose", lambda _, _best, last, **__: last)


def leaves(fitted):
    return jax.tree.leaves(fitted.density.score_model)


def assert_equal(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_they_do_not_act_the_run_is_that_of_order_1(measured):
    calls = measured(j_diff(-1.0))
    auto = fit(run_for("auto"), DATA)
    assert auto.order == 1
    assert len(calls) == 1
    assert_equal(auto, fit(run_for(1), DATA))


@pytest.mark.slow
@pytest.mark.usefixtures("last_is_kept")
def test_where_they_act_the_run_is_that_of_order_3(measured):
    measured(j_diff(1.0))
    auto, explicit = fit(run_for("auto"), DATA), fit(run_for(3), DATA)
    assert auto.order == explicit.order == 3
    assert_equal(auto, explicit)
    first = fit(run_for(1), DATA)
    apart = [np.max(np.abs(a - b)) for a, b in zip(leaves(auto), leaves(first), strict=True)]
    assert max(apart) > 5e-5


@pytest.mark.slow
@pytest.mark.usefixtures("last_is_kept")
@pytest.mark.parametrize("at", [500, 900])
def test_a_run_is_resumed_bit_for_bit_before_and_after_the_decision(measured, tmp_path, at):
    measured(j_diff(1.0))
    whole = fit(run_for("auto"), DATA)

    class Stop(KeyboardInterrupt):
        pass

    def stop(report, _):
        if report.step >= at:
            raise Stop

    with pytest.raises(Stop):
        fit(run_for("auto"), DATA, path=tmp_path / "run", observe=stop)
    calls = measured(j_diff(1.0))
    calls.clear()
    rest = resume(tmp_path / "run", DATA)
    assert_equal(rest, whole)
    assert rest.order == 3
    decisions = len(calls) - 1  # the last is that of the result
    assert decisions == (1 if at < 800 else 0)


def test_weights_from_before_they_began_are_order_1s(measured, monkeypatch):
    measured(None)
    monkeypatch.setattr(Validation, "choose", lambda _, best, _last, **__: best)
    rising = iter(range(1000))
    monkeypatch.setattr(Validation, "nats", lambda _, _density: float(next(rising)))
    fitted = fit(replace(run_for(3, steps=300), validations=10), DATA)
    assert fitted.run.objective.order == 3
    assert fitted.order == 1
    assert fitted.summary["order"] == 1


def test_coefficients_of_ones_own_act_from_the_first_step():
    run = run_for("auto", lambda1=0.1)
    assert run == run_for(3, lambda1=0.1)
    assert not run.auto_order
    with pytest.raises(InputError, match="choose auto, 1, 2 or 3"):
        run_for("third")
