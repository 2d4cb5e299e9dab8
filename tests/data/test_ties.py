"""Values that repeat are found where no density draws them, and nowhere else."""

import warnings

import numpy as np
import pandas as pd
import pytest

from scoreode import ScoreODE
from scoreode.data import from_rows, on_grid, ties
from scoreode.errors import TiesWarning
from scoreode.network import MLP

N = 4000


def found(rows, **options):
    rows = np.asarray(rows, np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    columns = [f"c{i}" for i in range(rows.shape[1])]
    return ties.find(from_rows("X", rows, columns, 0, 0.1, **options))


def normal(d=2, n=N):
    return np.random.default_rng(0).normal(size=(n, d))


def rng():
    return np.random.default_rng(1)


CONTINUOUS = {
    "normal": normal(),
    **{f"{k} decimals": normal().round(k) for k in (3, 4, 5, 6)},
    **{f"uniform to {k} decimals": rng().random((N, 2)).round(k) for k in (3, 4, 5, 6)},
    "float32": normal().astype(np.float32),
    "float16": normal().astype(np.float16),
    "bootstrap": normal()[rng().integers(N, size=N)],
    "bootstrap of one column": normal(1)[rng().integers(N, size=N)],
    "30 whole numbers": rng().integers(1, 1000, 30),
    "prices": np.exp(5 + normal(1)).round(2),
    "many rows to 3 decimals": normal(1, 100_000).round(3),
    "numbers": np.arange(N),
    "seconds": 1.7e9 + rng().integers(0, 3e7, N),
    "wide counts": rng().negative_binomial(1, 0.003, N),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_no_false_alarms(name):
    assert found(CONTINUOUS[name]).messages(ties.in_python) == []


@pytest.mark.parametrize("n", [30, 100, 400])
def test_small_bootstraps_are_not_told(n):
    for seed in range(40):
        drawn = np.random.default_rng(seed)
        assert found(drawn.normal(size=n)[drawn.integers(n, size=n)]).messages(ties.in_python) == []


def test_tails_to_2_decimals_are_not_told():
    for seed in range(10):
        rows = np.random.default_rng(seed).standard_cauchy(N).round(2)
        assert found(rows).messages(ties.in_python) == []


def days(n):
    return np.datetime64("2020-01-01") + rng().integers(0, n, N)


GRIDS = {
    "codes": (rng().integers(0, 5, N), 1),
    "counts": (rng().poisson(3, N), 1),
    "halves": (rng().integers(0, 9, N) / 2, 0.5),
    "one decimal": (normal(1).round(1), 0.1),
    "heavy counts": (np.floor(rng().pareto(0.7, N)), 1),
    "days": (days(365).astype(int), 1),
    "yyyymmdd": (np.char.replace(days(1096).astype(str), "-", "").astype(int), 1),
    "post codes": (rng().choice(rng().integers(10_000, 99_999, 300), N), 1),
}


@pytest.mark.parametrize("name", GRIDS)
def test_columns_on_grids(name):
    column, width = GRIDS[name]
    rows = np.column_stack([normal(1), column])
    said = found(rows)
    assert said.grids == pytest.approx({"c1": width})
    assert (said.scattered, said.atoms, said.repeated) == ({}, {}, 0)
    (message,) = said.messages(ties.in_command)
    assert "--discrete auto" in message if said.automatic else "--discrete c1" in message
    near = rows - [0, rows[:, 1].min()]
    declared = on_grid(from_rows("X", near, ["c0", "c1"], 0, 0.1), [0, width])
    assert ties.find(declared).messages(ties.in_python) == []


def test_atoms_are_told_with_their_part_of_the_rows():
    part = rng().random(N)
    zeros = np.where(part < 0.4, 0.0, np.where(part > 0.7, 1.0, rng().random(N)))
    clipped = np.clip(normal(1), -1, 1)
    money = np.where(part < 0.6, 0, np.exp(5 + normal(1)[:, 0]).round(2))
    said = found(np.column_stack([zeros, clipped, money, normal(1)]))
    assert said.grids == said.scattered == {}
    assert said.atoms.keys() == {"c0", "c1", "c2"}
    assert said.atoms["c0"] == pytest.approx({0: 0.4, 1: 0.3}, abs=0.03)
    assert said.atoms["c1"] == pytest.approx({-1: 0.16, 1: 0.16}, abs=0.03)  # Φ(−1)
    assert said.atoms["c2"] == pytest.approx({0: 0.6}, abs=0.03)
    (message,) = said.messages(ties.in_python)
    assert "% hold exactly 0, the least value" in message
    assert "% hold exactly 1, the greatest value" in message
    assert "discrete" not in message, "no declaration makes a density of these"


def test_few_values_on_no_grid():
    said = found(np.column_stack([normal(5, 1)[0][rng().integers(0, 5, N)], normal(1)]))
    assert said.scattered == {"c0": 5}
    assert "on no grid" in said.messages(ties.in_python)[0]


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (np.repeat(normal(n=400), 10, axis=0), 0.9),
        (np.where(rng().random((N, 1)) < 0.4, 0.0, normal()), 0.4),
    ],
)
def test_whole_rows_that_repeat_are_no_atoms_of_a_column(rows, part):
    said = found(rows)
    assert said.atoms == said.grids == said.scattered == {}
    assert said.repeated == pytest.approx(part, abs=0.03)
    assert "% of the rows repeat others" in said.messages(ties.in_python)[0]


def test_images_are_no_columns():
    assert found(rng().integers(0, 9, (N, 4)), image_shape=(2, 2)).messages(ties.in_python) == []


def small(**options):
    return ScoreODE(order=1, steps=2, network=MLP(width=8, depth=1), batch_size=32, **options)


@pytest.mark.slow
def test_the_estimator_warns_and_is_silent_when_columns_are_declared():
    X = np.column_stack([normal(1, 200), rng().integers(0, 3, 200)])
    with pytest.warns(TiesWarning, match=r"x1 \(multiples of 1\).*discrete='auto'") as told:
        small().fit(X)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(discrete="auto").fit(X)
        small(bin_width=[0, 1]).fit(X)


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (2**53 + np.arange(40).reshape(20, 2), {}, "x1: whole numbers beyond 2\\^53"),
        (pd.DataFrame(normal(2, 40), columns=["a", "a"]), {}, "several columns are called a"),
        (normal(2, 40), {"validation_fraction": 0.999}, "leaves 0 of 40 rows to train on"),
        (1e-200 * normal(2, 40), {}, "columns x0, x1: values differ by less than 1e-150"),
        (normal(2, 40), {"bin_width": 1e300}, "x0 lies in one bin"),
    ],
)
def test_what_the_estimator_refuses(X, options, message):
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X)
