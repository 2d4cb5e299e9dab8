"""What validation measures, against a normal law, and which of two models it keeps."""

import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from scoreode.data import Dataset
from scoreode.model.build import prepare
from scoreode.model.config import Run
from scoreode.network import MLP
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE
from scoreode.train.validation import Validation

ROWS = 2.0 + 3.0 * np.asarray(jr.normal(jr.key(0), (600, 2)), np.float64)


def case(order, validation="bound", rows=ROWS):
    """A run whose data are normal, and an untrained network, which says that they are."""
    data = Dataset("normal", rows, rows, rows[:0], ("a", "b"))
    objective = DenoisingScoreMatching(VE(0.01, 10.0), order)
    run = Run(objective, network=MLP(8, 1), standardise="scale", validation=validation)
    return Validation(run, data), prepare(run, data)[1]


@pytest.mark.slow
def test_both_kinds_are_those_of_the_normal_law():
    exact, density = case(1, "exact")
    mean, std = ROWS.mean(0), ROWS.std(0)
    truth = -stats.norm.logpdf(ROWS[:512], mean, std).sum(1).mean()
    assert exact.nats(density) == pytest.approx(truth, abs=0.02)
    bound, _ = case(1)
    # The bound of a normal model is an equality, up to its own noise over 600 rows.
    assert bound.nats(density) == pytest.approx(truth, abs=0.1)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_exact_nll_keeps_the_better(order):
    validation, right = case(order)
    _, wrong = case(order, rows=3 * ROWS)
    assert validation.choose(right, wrong) is right
    assert validation.choose(wrong, right) is right


def test_what_was_chosen_exactly_stands():
    validation, right = case(3, "exact")
    _, wrong = case(3, rows=3 * ROWS)
    assert validation.choose(wrong, right) is wrong


def test_without_rows_the_last_is_kept():
    validation, _ = case(3, rows=ROWS)
    assert not validation.absent
    data = Dataset("normal", ROWS, ROWS[:0], ROWS[:0], ("a", "b"))
    run = Run(DenoisingScoreMatching(VE(), 3), network=MLP(8, 1))
    assert Validation(run, data).absent
