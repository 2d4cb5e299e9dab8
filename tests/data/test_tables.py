"""Tables from files and frames: what is read is what was written, what is bad is named."""

import contextlib
import os
from datetime import date, datetime, timedelta
from decimal import Decimal

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from scoreode.data import output, tables
from scoreode.errors import FailureError, InputError

SUFFIXES = [".csv", ".parquet", ".npy", ".npz"]


@pytest.fixture
def message():
    """What `tables.read` says of a file that it refuses."""

    def message(path):
        with pytest.raises(InputError) as refused:
            tables.read(path)
        assert str(refused.value).startswith(str(path))
        return str(refused.value)

    return message


@pytest.fixture
def csv(tmp_path):
    def csv(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return csv


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, deadline=None)
@given(
    rows=arrays(
        np.float64, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-1e100, 1e100)
    )
)
def test_written_is_read_to_the_last_bit(tmp_path_factory, suffix, rows):
    path = tmp_path_factory.mktemp("round") / f"table{suffix}"
    output.write_rows(path, rows, ["a", "b", "c"])
    parts, columns = tables.read(path)
    np.testing.assert_array_equal(parts["all"], rows)
    assert parts["all"].dtype == np.float64
    assert columns == (("a", "b", "c") if suffix in (".csv", ".parquet") else ("x0", "x1", "x2"))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "int8", "uint8", "int64", "uint64", "bool"]
)
def test_every_real_dtype_becomes_float64(tmp_path, dtype):
    rows = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    read = tables.read(tmp_path / "x.npy")[0]["all"]
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, rows)


def test_a_vector_is_one_column(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(4.0))
    parts, columns = tables.read(tmp_path / "x.npy")
    assert parts["all"].shape == (4, 1)
    assert columns == ("x0",)


def test_parts_of_a_published_split(tmp_path):
    x = np.arange(24.0).reshape(12, 2)
    np.savez(tmp_path / "x.npz", x_train=x[:8], x_val=x[8:10], x_test=x[10:], mean=x.mean(0))
    parts, columns = tables.read(tmp_path / "x.npz")
    assert columns == ("x0", "x1")
    for name, rows in (("train", x[:8]), ("validation", x[8:10]), ("test", x[10:])):
        np.testing.assert_array_equal(parts[name], rows)


def test_a_bad_part_is_named_by_its_key(tmp_path, message):
    x = np.ones((3, 2))
    np.savez(tmp_path / "x.npz", x_train=x, x_val=x, x_test=np.where(np.eye(3, 2), np.nan, x))
    assert "[x_test]: missing, infinite or huge values in rows 1, 2, columns x0, x1" in message(
        tmp_path / "x.npz"
    )


def test_numbers_in_other_clothes(csv):
    parts, columns = tables.read(csv("\ufeffint,text,blank\n1, 2.5,1e3\n-3,+4,.5\n"))
    assert columns == ("int", "text", "blank")
    np.testing.assert_array_equal(parts["all"], [[1, 2.5, 1000], [-3, 4, 0.5]])


def test_text_in_the_last_of_many_rows(csv, message):
    text = "a,b\n" + "1,2\n" * 30_000 + "1,n/a\n"
    assert "column 'b' is not numeric: row 30001 holds 'n/a'" in message(csv(text))


def test_many_bad_rows_are_counted(csv, message):
    said = message(csv("a,b\n" + "1,\n" * 50))
    assert "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … (50 in all), column b" in said


@pytest.mark.parametrize("value", ["1e200", "-1e308", "1e400"])
def test_values_whose_square_overflows_are_named(csv, message, value):
    assert "huge values in row 2, column b" in message(csv(f"a,b\n1,2\n3,{value}\n"))


def test_decimal_commas_are_not_misread(csv, message):
    said = message(csv("a;b\n1,5;2,5\n3,5;4\n"))
    assert "fields are separated by semicolons, with decimal commas, and not by commas" in said
    assert "sep=';', decimal=','" in said


def test_a_first_line_of_numbers_is_not_a_header(csv, message):
    assert "the first line holds numbers; put a header" in message(csv("1.5,2\n3,4\n5,6\n"))
    assert "the first line holds numbers; put a header" in message(csv("7,7\n3,4\n5,6\n"))


def test_counted_columns_are_a_header(csv):
    parts, columns = tables.read(csv("0,1\n3,4\n5,6\n"))
    assert columns == ("0", "1")
    np.testing.assert_array_equal(parts["all"], [[3, 4], [5, 6]])


def test_a_column_without_a_name_is_a_forgotten_index(tmp_path, message):
    pd.DataFrame({"a": [1.0, 2.5], "b": [3.0, 4.0]}).to_csv(tmp_path / "x.csv")
    said = message(tmp_path / "x.csv")
    assert "no name for column 1" in said
    assert "drop it if it only counts the rows" in said


@pytest.mark.parametrize("text", ["\n", "\n\n\n", " \n", "a\n", "a,b\n\n"])
def test_files_with_nothing_in_them(csv, message, text):
    message(csv(text))


def test_bytes_that_are_no_text(csv, tmp_path, message):
    assert "cannot be read" in message(csv("größe,b\n1,2\n", "latin-1"))
    (tmp_path / "table.csv").write_bytes(bytes(range(256)) * 8)
    message(tmp_path / "table.csv")


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy", "npz"])
def test_a_file_of_another_kind(tmp_path, message, kind):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(b"%PDF-1.7\n" + bytes(200) if kind != "csv" else b"%PDF-1.7\n\xff\xfe")
    message(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.filterwarnings("error")
def test_a_flipped_byte_is_noticed_or_harmless(tmp_path, save):
    rows = np.arange(40.0).reshape(20, 2)
    whole, spoilt = tmp_path / "whole.npz", tmp_path / "spoilt.npz"
    save(whole, rows)
    content = whole.read_bytes()
    for at in range(len(content)):
        spoilt.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with contextlib.suppress(InputError):
            np.testing.assert_array_equal(tables.read(spoilt)[0]["all"], rows)


def test_a_folder_is_no_file(tmp_path, message):
    (tmp_path / "x.csv").mkdir()
    assert "no such file" in message(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["1", "x"], "'x'"),
        ([date(2020, 1, 1), date(2021, 1, 1)], "2020-01-01"),
        (pl.Series([datetime(2020, 1, 1), None], dtype=pl.Datetime("ns")), "2020-01-01"),
        ([timedelta(1), timedelta(2)], ""),
        ([[1.0, 2.0], [3.0, 4.0]], ""),
        ([{"u": 1}, {"u": 2}], ""),
    ],
)
def test_parquet_columns_that_are_not_numbers(tmp_path, message, values, shown):
    pl.DataFrame({"good": [1.0, 2.0], "bad": values}).write_parquet(tmp_path / "x.parquet")
    said = message(tmp_path / "x.parquet")
    assert "column 'bad' is not numeric: row" in said
    assert shown in said


def test_parquet_numbers_of_every_kind(tmp_path):
    frame = pl.DataFrame(
        {
            "decimal": [Decimal("1.5"), Decimal("2.5")],
            "flag": [True, False],
            "small": pl.Series([1, 2], dtype=pl.UInt8),
            "digits": ["7", "8.5"],
        }
    )
    frame.write_parquet(tmp_path / "x.parquet")
    parts, columns = tables.read(tmp_path / "x.parquet")
    assert columns == ("decimal", "flag", "small", "digits")
    np.testing.assert_array_equal(parts["all"], [[1.5, 1, 1, 7], [2.5, 0, 2, 8.5]])


def test_a_missing_integer_is_named(tmp_path, message):
    pl.DataFrame({"a": [1, None, 3], "b": ["1", None, "3"]}).write_parquet(tmp_path / "x.parquet")
    assert "values in row 2, columns a, b" in message(tmp_path / "x.parquet")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_of_both_libraries(frame):
    rows, columns = tables.from_frame(frame({"a": [1, 2], "b": [0.5, 1.5]}))
    assert columns == ("a", "b")
    np.testing.assert_array_equal(rows, [[1, 0.5], [2, 1.5]])
    with pytest.raises(InputError, match=r"column 'b' is not numeric: row 1 holds 'u'"):
        tables.from_frame(frame({"a": [1, 2], "b": ["u", "v"]}))
    with pytest.raises(InputError, match="no rows below the header"):
        tables.from_frame(frame({"a": []}))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_replaces_whole_or_not_at_all(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"x{suffix}"
    output.write_rows(path, np.ones((2, 2)), ["a", "b"])
    before = path.read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(FailureError, match=f"cannot write {path}: No space left on device"):
        output.write_rows(path, np.zeros((3, 2)), ["a", "b"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
