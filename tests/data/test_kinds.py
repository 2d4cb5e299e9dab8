"""Columns of text, booleans, categories and dates: found, turned into numbers, and back."""

from datetime import date, datetime

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

from scoreode.data import kinds, output, tables
from scoreode.data.frames import from_frame, read_frame
from scoreode.data.kinds import Category, Date
from scoreode.data.reading import Reading
from scoreode.errors import InputError

LEVELS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=4)
TIMES = st.datetimes(datetime(1835, 1, 1), datetime(2105, 1, 1))
DAYS = st.dates(date(1700, 1, 1), date(2200, 1, 1))


def of(*lists):
    """Lists of equal length, every level of which occurs in six rows."""
    return st.integers(2, 4).flatmap(
        lambda k: st.tuples(*(st.lists(e, min_size=k, max_size=k, unique=True) for e in lists))
    )


@pytest.mark.parametrize("library", ["pandas", "polars"])
@settings(max_examples=10)
@given(columns=of(LEVELS.filter(lambda t: not t.isnumeric()), st.integers(-99, 99), TIMES, DAYS))
def test_what_came_in_comes_out(library, columns):
    texts, numbers, times, days = (values * 6 for values in columns)
    try:
        float(texts[0])
        return  # text of numbers is numbers
    except ValueError:
        pass
    raw = {"text": texts, "flag": [True, False] * (len(texts) // 2), "code": numbers}
    raw |= {"time": times, "day": days}
    if library == "pandas":
        frame = pd.DataFrame(raw)
        frame["kind"] = pd.Categorical(texts, sorted(set(texts), reverse=True), ordered=True)
        frame["zoned"] = pd.Series(times).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    else:
        frame = pl.DataFrame(raw).with_columns(
            kind=pl.col("text").cast(pl.Enum(sorted(set(texts), reverse=True))),
            name=pl.col("text").cast(pl.Categorical),
            zoned=pl.col("time").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
        )
    rows, names, found = read_frame(frame, "X", Reading(categories=("code",)))
    found = kinds.from_json(kinds.to_json(found))
    assert np.isfinite(rows).all()
    back = output.as_frame(output.by_column(rows, names, kinds=found), found, library)
    if library == "polars":
        assert back.equals(frame)
        assert back.schema == frame.schema
    else:
        pd.testing.assert_frame_equal(back, frame, check_dtype=False, check_categorical=False)
        assert back["kind"].cat.ordered
        assert list(back["kind"].cat.categories) == sorted(set(texts), reverse=True)
        assert back["zoned"].dtype.tz is not None


@pytest.fixture
def frame():
    n = 40
    return pd.DataFrame({"x": np.arange(n) / 7, "city": (["Bonn", "Kiel", "Ulm", "Kiel"] * n)[:n]})


def found(frame, **options):
    return Reading(**options).kinds(frame, "X")[0]


def test_dates_have_a_unit():
    days = np.array(["1970-01-03", "2000-01-01"], "datetime64[D]")
    seconds = np.array(["1970-01-01T00:01:00", "1970-01-01T00:00:00.25"], "datetime64[us]")
    frame = pl.DataFrame({"day": days, "time": seconds, "text": ["1970-01-02", "1969-12-31"]})
    assert found(frame) == {
        "day": Date("day", "date"),
        "time": Date("second", "time", whole=False),
        "text": Date("day", "text"),
    }
    rows, _ = from_frame(frame, kinds=found(frame))
    np.testing.assert_array_equal(rows, [[2, 60, 1], [10957, 0.25, -1]])


def test_times_with_an_offset_are_in_utc():
    texts = ["2024-01-31T10:00:00Z", "2024-01-31 10:00:00.5+01:00", "2024-01-31T10:00:00-0130"]
    rows, names, kinds = read_frame(pl.DataFrame({"t": texts * 2}), "X", Reading())
    assert kinds == {"t": Date("second", "text", whole=False, zone="UTC")}
    noon = 1706702400
    np.testing.assert_array_equal(rows[:3, 0] - noon, [-7200, -10799.5, -1800])
    assert output.by_column(rows[:2], names, kinds=kinds)["t"] == [
        "2024-01-31T10:00:00.000000Z",
        "2024-01-31T09:00:00.500000Z",
    ]
    assert read_frame(pl.DataFrame({"t": ["2024-01-31T25:00Z", "x"] * 3}), "X", Reading())[2][
        "t"
    ] == Category(("2024-01-31T25:00Z", "x"), "text")


def test_numbers_between_dates_are_rounded():
    kind = Date("day", "text")
    assert kind.as_text(np.array([1.4, -0.4, 1e9])) == ["1970-01-02", "1970-01-01", "9999-12-31"]
    times = Date("second", "text", whole=False).as_text(np.array([0.1234567]))
    assert times == ["1970-01-01T00:00:00.123457"]


def test_a_level_that_training_did_not_have(frame):
    known = found(frame)
    other = frame.assign(city=["Kiel"] * 16 + ["Rom"] * 24)
    with pytest.raises(InputError, match=r"column city, row 117 holds 'Rom', which training did"):
        from_frame(other, "new.csv", first_row=100, kinds=known)


def test_what_is_no_date(frame):
    known = {"city": Date("day", "text")}
    with pytest.raises(InputError, match=r"column city: row 1 holds 'Bonn', which is no date"):
        from_frame(frame, kinds=known)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([f"name {i}" for i in range(40)], "'bad' is a category of 40 levels in 40 rows"),
        (["a"] * 40, "'bad' is a category of one level, 'a', which tells nothing; drop it"),
        ((["a", "b", 3] * 14)[:40], "'bad' mixes types: 3 and 'a'; make them one"),
    ],
)
def test_categories_that_cannot_be_used(frame, values, message):
    with pytest.raises(InputError, match=message):
        read_frame(frame.assign(bad=values), "X", Reading())


@pytest.mark.parametrize("values", [["1", "2", "n/a"], ["1,5", "2", "x"], [1.0, "n/a", 3.0]])
def test_numbers_with_a_typing_error_are_no_category(frame, values):
    bad = frame.assign(x=pd.Series((values * 14)[:40], dtype=object))
    kinds = found(bad)
    assert list(kinds) == ["city"]
    with pytest.raises(InputError, match="column 'x' is not numeric: row"):
        from_frame(bad, kinds=kinds)


def test_missing_values_stay_refused(frame):
    for hole in (None, np.nan, pd.NA):
        bad = frame.astype(object)
        bad.loc[6, "city"] = hole
        with pytest.raises(InputError, match="missing, infinite or huge values in row 7, column c"):
            from_frame(bad, kinds=found(bad))


def test_codes_in_a_file_keep_their_zeros(tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("zip,x\n" + "".join(f"0{i % 3},{i}.5\n" for i in range(12)))
    parts, _, kinds = tables.read_kinds(path, tuple_of, Reading(categories=("zip",)))
    assert kinds["zip"] == Category(("00", "01", "02"), "text")
    np.testing.assert_array_equal(parts["all"][:, 0], np.arange(12) % 3)
    _, blocks = tables.blocks(path, "test", 5, reading=Reading(kinds))
    np.testing.assert_array_equal(np.concatenate(list(blocks)), parts["all"])
    assert tables.read_kinds(path, tuple_of, Reading())[2] == {}
    with pytest.raises(InputError, match="has no column zap to take as a category; it has zip, x"):
        tables.read_kinds(path, tuple_of, Reading(categories=("zap",)))


def tuple_of(columns, source):  # noqa: ARG001
    return columns


def test_rare_levels_share_an_indicator():
    """Group 0 has the most frequent level; two of 6 rows each are one group, one of 6 is in it."""
    codes = np.repeat([0, 1, 2, 3], [30, 20, 6, 6])
    kind = Category(tuple("abcd"), "text").grouped(codes)
    assert kind.groups == (0, 1, 2, 2)
    np.testing.assert_array_equal(kind.indicators(np.arange(4)), [[0, 0], [1, 0], [0, 1], [0, 1]])
    assert Category(tuple("abc"), "text").grouped(codes[:56]).groups == (0, 1, 0)
    assert kind.grouped(np.array([3] * 90)) == kind, "those of a former training stay"
