"""Declared supports: how they are given, and what data outside them are told."""

import numpy as np
import pytest

from scoreode.data import (
    Circle,
    Interval,
    check_inside,
    declare,
    from_rows,
    keep_inside,
    on_support,
)
from scoreode.data.domains import as_declared, from_json, to_json
from scoreode.data.support import bounds_in, periods_in
from scoreode.errors import InputError

NAMES = ("share", "price", "wind")
SUPPORT = {"share": Interval(0.0, 1.0), "price": Interval(0.0, None), "wind": Circle(360.0)}


@pytest.mark.parametrize(
    ("bounds", "period"),
    [
        ({"share": (0, 1), "price": (0, None)}, {"wind": 360}),
        ({0: [0, 1], -2: (0, np.inf)}, {2: 360.0}),
        ([(0, 1), (0, None), None], [None, None, 360]),
        (np.array([[0, 1], [0, np.inf], [-np.inf, np.inf]]), {"wind": np.int64(360)}),
    ],
)
def test_declared_by_name_index_or_for_every_column(bounds, period):
    assert declare(bounds, period, NAMES) == SUPPORT


def test_declared_in_text():
    bounds = bounds_in(["share=0:1", "price=0:", "a=b=-1e3:-.5", "c=:7"])
    assert bounds == {"share": (0, 1), "price": (0, None), "a=b": (-1e3, -0.5), "c": (None, 7)}
    assert periods_in(["wind=360"]) == {"wind": 360}


def test_declared_again_and_on_disk_it_is_the_same():
    assert declare(**as_declared(SUPPORT), columns=NAMES) == SUPPORT
    assert from_json(to_json(SUPPORT)) == SUPPORT
    assert as_declared({}) == {"bounds": None, "period": None}


@pytest.mark.parametrize(
    ("bounds", "period", "message"),
    [
        ({"shar": (0, 1)}, None, "no column 'shar' among share, price, wind"),
        ({3: (0, 1)}, None, "no column 3"),
        ({"share": (1, 0)}, None, r"bounds \(1, 0\) of column share: the first must be below"),
        ({"share": (0, 0)}, None, "the first must be below"),
        ({"share": (np.inf, None)}, None, "the first must be below"),
        ({"share": (0, np.nan)}, None, "nan is neither number nor None"),
        ({"share": ("0", 1)}, None, "'0' is neither number nor None"),
        ({"share": 1}, None, r"give a pair, \(low, high\)"),
        ({"share": "01"}, None, r"give a pair, \(low, high\)"),
        ((0, 1), None, "2 entries for 3 columns"),
        ("share", None, "give them by column"),
        ({"share": (0, 1), 0: (0, 2)}, None, "name every column once"),
        (None, {"wind": -1}, "period -1 of column wind: must be a number, positive"),
        (None, {"wind": "360"}, "period '360' of column wind"),
        (None, 360, "give them by column, such as period={'share': 360}"),
        ({"wind": (0, 360)}, {"wind": 360}, "has bounds and a period; an angle has no bounds"),
    ],
)
def test_what_is_no_support_is_refused(bounds, period, message):
    with pytest.raises(InputError, match=message):
        declare(bounds, period, NAMES)


@pytest.mark.parametrize("entry", ["0:1", "share=1", "share=:", "=0:1", "share=a:1"])
def test_text_that_is_no_bounds_is_refused(entry):
    with pytest.raises(InputError, match=f"{entry!r}: "):
        bounds_in([entry])


@pytest.mark.parametrize("entry", ["360", "wind=", "wind=round"])
def test_text_that_is_no_period_is_refused(entry):
    with pytest.raises(InputError, match=f"{entry!r}: "):
        periods_in([entry])


def rows():
    rng = np.random.default_rng(0)
    return np.column_stack([rng.random((50, 2)), 360 * rng.random(50)])


def data_of(x):
    return from_rows("X", x, NAMES, seed=3, validation=0.2)


@pytest.mark.parametrize("row", [0, 17, 49])
def test_a_value_outside_is_named_by_its_row_in_the_table(row):
    """Whichever part of the data the row has come into."""
    x = rows()
    x[row, 0] = 1.25
    message = f"X: row {row + 1}, column share holds 1.25, outside its bounds 0:1; correct or drop"
    with pytest.raises(InputError, match=message):
        on_support(data_of(x), SUPPORT)
    with pytest.raises(InputError, match=f"data: row {row + 101}, column share"):
        check_inside(x, NAMES, SUPPORT, "data", np.arange(100, 150))


def test_values_at_a_bound_are_counted():
    x = rows()
    x[[4, 30, 31], 1] = 0.0
    with pytest.raises(InputError, match=r"column price: 3 of 50 values lie exactly at a bound"):
        on_support(data_of(x), SUPPORT)
    with pytest.raises(InputError, match=r"\(0 in row 5\).* an atom. Drop these rows, declare"):
        on_support(data_of(x), SUPPORT)


@pytest.mark.parametrize(
    ("period", "hint"),
    [(2 * np.pi, "degrees seem meant, a period of 360;"), (24, "degrees"), (180, "degrees")],
)
def test_angles_in_another_unit_are_refused(period, hint):
    with pytest.raises(InputError, match=f"fill more than one period of {period:.6g}: {hint}"):
        on_support(data_of(rows()), {"wind": Circle(period)})


def test_angles_of_several_turns_are_refused_without_a_guess():
    x = rows() * [1, 1, 9]
    with pytest.raises(InputError, match="period of 360: if the period is right, reduce"):
        on_support(data_of(x), {"wind": Circle(360.0)})


def test_angles_come_back_in_the_range_they_had():
    x = rows()
    assert on_support(data_of(x), SUPPORT).support["wind"] == Circle(360.0, 0.0)
    shifted = data_of(x - [0, 0, 180])
    assert on_support(shifted, SUPPORT).support["wind"] == Circle(360.0, -180.0)
    known = {"wind": Circle(360.0, 0.0)}
    assert on_support(shifted, known).support == known, "that of a model that goes on"


def test_one_angle_in_two_turns_is_a_constant():
    x = rows()
    x[:, 2] = np.where(x[:, 2] < 180, 30.0, 390.0)
    with pytest.raises(InputError, match="column wind: all angles are one point, 30; drop it"):
        on_support(data_of(x), SUPPORT)


def test_discrete_columns_and_pictures_have_no_support():
    x = rows()
    x[:, 1] = np.rint(10 * x[:, 1]) + 1
    data = from_rows("X", x, NAMES, seed=3, validation=0.2)
    data = data.__class__(**{**vars(data), "bin_width": (0.0, 1.0, 0.0)})
    with pytest.raises(InputError, match="column price is discrete, and its grid has a range"):
        on_support(data, SUPPORT)
    with pytest.raises(InputError, match="unknown column 'area'"):
        on_support(data, {"area": Interval(0, None)})
    pictures = from_rows("X", x, NAMES, seed=3, validation=0.2, image_shape=(1, 3, 1))
    with pytest.raises(InputError, match="for the columns of tables"):
        on_support(pictures, SUPPORT)


def test_samples_stay_inside_in_float32():
    x = np.array([[1 - 1e-12, 1e-300, 360 - 1e-9], [1e-300, 1e30, 0.0]])
    kept = keep_inside(x, NAMES, SUPPORT).astype(np.float32)
    assert np.all((kept[:, 0] > 0) & (kept[:, 0] < 1))
    assert np.all(kept[:, 1] > 0)
    assert np.all((kept[:, 2] >= 0) & (kept[:, 2] < 360))
    # Bounds that float32 does not tell apart have nothing between them there.
    narrow = {"share": Interval(1e9, 1e9 + 1)}
    np.testing.assert_array_equal(keep_inside(x + 1e9, NAMES, narrow), x + 1e9)
