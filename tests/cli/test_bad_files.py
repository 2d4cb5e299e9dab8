"""Files that are no table: one message that names the file, exit status 2, and nothing is written.

What a message says of values, rows and columns is in test_bad_data.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreode.data import tables

GOOD = "a,b\n" + "".join(f"{i},{i * i % 17}\n" for i in range(30))
TEXTS: dict[str, tuple[str | bytes, str]] = {
    "latin.csv": ("größe,b\n1,2\n3,5\n".encode("latin-1"), "line 1 is not UTF-8"),
    "utf16.csv": (GOOD.encode("utf-16"), "UTF-16"),
    "binary.csv": (bytes(range(128, 256)) * 9, "line 1 is not UTF-8"),
    "zeros.csv": (bytes(1000), "no rows below the header"),
    "duplicate.csv": ("a,b,a\n1,2,3\n3,5,4\n", "several columns are called a; rename them"),
    "no-names.csv": (",\n1,2\n3,5\n", "no name for columns 1, 2"),
    "no-name.csv": ("a,\n1,2\n3,5\n", "no name for column 2"),
    "blank-line.csv": ("\n1,2\n3,5\n", "cannot be read"),
    "infinite.csv": ("a,b\n1,2\n1e400,5\n4,1\n", "row 2, column a (the first is infinity)"),
    "words.csv": ("a,b\n1,2\n3,true\n4,1\n", "row 2 holds 'true'"),
    "late.csv": ("a,b\n" + "1,2\n3,1\n" * 3000 + "x,1\n", "row 6001 holds 'x'"),
    "dates.csv": ("a,b\n1,2020-01-01\n2,2020-01-02\n", "2 rows, not enough"),
    "semicolons.csv": (GOOD.replace(",", ";"), "separated by semicolons"),
    "tabs.csv": (GOOD.replace(",", "\t"), "call it .tsv"),
    "commas.csv": ("a;b\n1,5;2\n3,1;4\n", "cannot be read"),
    "quote.csv": ('a,b\n1,"2\n3,4\n', "cannot be read"),
    "ragged.csv": ("a,b\n1,2,3\n4\n5,6\n", "cannot be read"),
    "short.csv": ("a,b\n1\n4\n5\n", "column b: no row has a value"),
    "header.csv": ("a,b", "no rows below the header"),
    "newline.csv": ("\n", "bad"),
    "text.npy": (GOOD, "cannot be read"),
    "text.npz": (GOOD, "cannot be read"),
    "text.parquet": (GOOD, "cannot be read"),
    "empty.npy": ("", "the file is empty"),
    "empty.npz": ("", "the file is empty"),
    "empty.parquet": ("", "the file is empty"),
    "magic.npy": (b"\x93NUMPY\x01\x00", "cannot be read"),
    "magic.npz": (b"PK\x03\x04", "cannot be read"),
    "magic.parquet": (b"PAR1PAR1", "cannot be read"),
}
ARRAYS = {
    "objects.npz": (np.array([{}, 1], object), "not unpickled"),
    "fields.npy": (np.zeros(3, [("a", "f8"), ("b", "f8")]), "not numbers"),
    "dates.npy": (np.full((3, 1), "2020-01-01", "M8[D]"), "not numbers"),
    "bytes.npy": (np.full((3, 2), b"x"), "not numbers"),
    "cube.npy": (np.zeros((3, 2, 2)), "has shape (3, 2, 2)"),
    "nan.npy": (np.full((3, 2), np.nan), "columns x0, x1: no row has a value"),
}
FRAMES = {
    "text.parquet": ({"a": ["x", "y"], "b": [1, 2]}, "2 rows, not enough"),
    "lists.parquet": ({"a": [[1, 2], [3]], "b": [1, 2]}, "column 'a' is not numeric"),
    "infinite.parquet": ({"a": [np.inf, 1.0], "b": [1, 2]}, "row 1, column a"),
    "nothing.parquet": ({"a": [], "b": []}, "no rows"),
}


@pytest.fixture
def refused(cli, tmp_path):
    """What `fit` says of a file, which is as it was, as is the folder it lies in."""

    def refused(path: Path | str, code: int = 2) -> str:
        before = sorted(os.listdir(tmp_path))
        result = cli("fit", path, "--steps", 2, "--out", tmp_path / "run")
        assert result.code == code, result.said
        assert result.err.startswith("scoreode: ")
        assert result.err.count("\n") == 1
        assert "--debug" not in result.err, "nothing that was not foreseen"
        assert result.out == ""
        assert sorted(os.listdir(tmp_path)) == before
        return result.err

    return refused


@pytest.mark.parametrize("name", TEXTS)
def test_texts_and_bytes(refused, tmp_path, name):
    content, message = TEXTS[name]
    path = tmp_path / f"bad-{name}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    said = refused(path)
    assert str(path) in said
    assert message in said
    assert "allow_pickle" not in said, "no advice to unpickle what may be anybody's"


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(refused, tmp_path, name):
    array, message = ARRAYS[name]
    path = tmp_path / name
    np.save(path, array) if path.suffix == ".npy" else np.savez(path, array)
    assert message in refused(path)


@pytest.mark.parametrize("name", FRAMES)
def test_frames(refused, tmp_path, name):
    columns, message = FRAMES[name]
    pl.DataFrame(columns).write_parquet(tmp_path / name)
    assert message in refused(tmp_path / name)


@pytest.mark.parametrize("arrays", [{}, {"train": 1, "test": 1}, {"x_test": 1, "x_val": 1}])
def test_an_npz_with_other_keys(refused, tmp_path, arrays):
    path = tmp_path / "keys.npz"
    np.savez(path, **{name: np.ones((3, 2)) for name in arrays})
    assert "give one array, or x_train" in refused(path)


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".parquet"])
def test_what_is_no_file(refused, tmp_path, suffix):
    folder, loop, nowhere = (tmp_path / f"{name}{suffix}" for name in ("folder", "loop", "nowhere"))
    folder.mkdir()
    loop.symlink_to(loop)
    nowhere.symlink_to("elsewhere")
    assert f"{folder}: no such file, but a folder" in refused(folder)
    for path in (loop, nowhere, tmp_path / f"none{suffix}"):
        assert f"{path}: no such file" in refused(path)
    assert "too long" in refused(f"{'x' * 300}{suffix}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(refused, tmp_path):
    path = tmp_path / "locked.csv"
    path.write_text(GOOD)
    path.chmod(0)
    assert "ermission denied" in refused(path)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/dev/null", "data.xlsx", "csv", ".csv"])
def test_names_that_name_nothing(refused, name):
    assert name in refused(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
        GOOD.replace("\n3,", "\n99999999999999999999999999,"),
        GOOD.replace("0,0", '"0", 0'),
    ],
)
def test_what_is_odd_but_right_is_read(cli, tmp_path, text):
    path = tmp_path / "odd.csv"
    path.write_text(text, newline="")
    result = cli("fit", path, "--print-config")
    assert result.code == 0, result.err
    parts, columns = tables.read(path)
    assert (parts["all"].shape, columns) == ((30, 2), ("a", "b"))


cells = st.one_of(
    st.floats().map(str),
    st.integers(-(10**30), 10**30).map(str),
    st.text("ab,;\t\"' .-+eE0123456789\n\r\0é", max_size=6),
)
texts = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=8).map("\n".join)


@settings(max_examples=40)
@given(
    texts.map(str.encode) | st.binary(max_size=200),
    st.sampled_from([".csv", ".npy", ".npz", ".parquet"]),
)
def test_any_file_is_read_or_refused(cli, tmp_path, content, suffix):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    result = cli("fit", path, "--print-config")
    assert result.code in (0, 2), result.err
    if result.code:
        assert result.err.startswith(f"scoreode: {path}") or "constant column" in result.err
        assert result.out == ""
    assert path.read_bytes() == content


OPTIONS = ["steps", "seconds", "batch-size", "width", "depth", "n-probes", "lambda1", "patience"]
OPTIONS += ["learning-rate", "validation-fraction", "process", "standardise", "seed", "order"]
values = st.one_of(
    st.floats().map(str), st.integers().map(str), st.text(max_size=5), st.just("None")
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.sampled_from(OPTIONS), values)
def test_any_value_is_taken_or_refused(cli, tmp_path, option, value):
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    # Sizes that are right, and too large to be built in a test, are left out.
    if option in ("width", "depth") and value.isdecimal() and int(value) > 16:
        return
    result = cli("fit", path, f"--{option}={value}", "--print-config")
    assert result.code in (0, 2), result.said
    assert "--debug shows" not in result.err
    assert not (result.code and result.out.startswith("data ="))
