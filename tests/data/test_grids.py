"""The grids of discrete columns: widths are found, columns detected, other values refused."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from scoreode.data import bin_widths
from scoreode.errors import InputError


@given(
    width=st.sampled_from([1, 2, 17, 0.5, 0.1, 0.25, 1 / 3, 1 / 255, 1e-3, 1e4]),
    origin=st.sampled_from([0.0, -1.0, 0.3, 1000.0]),
    steps=st.lists(st.integers(0, 300), min_size=2, unique=True).filter(
        lambda steps: np.gcd.reduce(np.diff(sorted(steps))) == 1
    ),
)
def test_the_width_is_the_greatest_common_divisor(width, origin, steps):
    column = origin + width * np.array(steps, np.float64)
    found = bin_widths(column[:, None], ["x"], [0])
    assert found == pytest.approx((width,), rel=1e-6)


def test_decimals_have_decimal_widths():
    assert bin_widths(np.array([[0.1], [0.4], [0.3], [0.9]]), ["x"], ["x"]) == (0.1,)


ROWS = np.column_stack(
    [
        np.random.default_rng(0).normal(size=600),
        np.random.default_rng(1).integers(0, 256, 600),
        np.arange(600) % 2,
        np.random.default_rng(2).integers(0, 100_000, 600) / 100,
        2.5 * (np.arange(600) % 7),
    ]
)
NAMES = ["continuous", "byte", "flag", "price", "step"]


def test_columns_of_few_values_on_a_grid_are_detected():
    assert bin_widths(ROWS, NAMES, "auto") == (0, 1, 1, 0, 2.5)
    assert bin_widths(ROWS[:, :1], NAMES[:1], "auto") is None
    # A whole constant is a count that never varied, of any other nothing is known.
    constants = np.tile([7.0, 2.5], (50, 1))
    assert bin_widths(constants, ["seven", "other"], "auto") == (1, 0)
    # Two counts are always multiples of their difference; sixteen rarely of 17.
    counts = np.column_stack([3 * (np.arange(60) % 2), 17 * (np.arange(60) % 16)])
    assert bin_widths(counts, ["rare", "shade"], "auto") == (1, 17)
    # As many values as rows: these integers may be anything.
    assert bin_widths(np.arange(50.0)[:, None], ["id"], "auto") is None
    assert bin_widths(2 * np.arange(3000.0)[:, None], ["even"], "auto") is None


@pytest.mark.parametrize(
    "discrete",
    [[1, 3], ["byte", "price"], ["byte", -2], [False, True, False, True, False], np.array([3, 1])],
)
def test_declared_by_index_name_or_mask(discrete):
    assert bin_widths(ROWS, NAMES, discrete) == (0, 1, 0, 0.01, 0)


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_nothing_declared(nothing):
    assert bin_widths(ROWS, NAMES, nothing) is None


@pytest.mark.parametrize(
    ("discrete", "message"),
    [
        ([0], "column continuous: declared discrete, but its values"),
        (["colour"], "no column 'colour' among continuous, byte"),
        ([5], "no column 5"),
        ([True, False], "a mask of 2, where there are 5 columns"),
        ("byte", r"give \"auto\", or a list of columns: \['byte'\]"),
    ],
)
def test_what_cannot_be_discrete(discrete, message):
    with pytest.raises(InputError, match=message):
        bin_widths(ROWS, NAMES, discrete)
