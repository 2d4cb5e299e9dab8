"""Kinds of files with named columns: Arrow, and one that a user adds."""

import json

import numpy as np
import polars as pl
import pytest

from scoreode.data import formats, tables
from scoreode.data.columns import only
from scoreode.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(50, 3))


@pytest.mark.parametrize("suffix", [".arrow", ".feather"])
def test_arrow_files_are_read_whole_and_in_blocks(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    pl.DataFrame(ROWS, ["a", "b", "c"]).write_ipc(path)
    parts, columns = tables.read(path)
    assert columns == ("a", "b", "c")
    np.testing.assert_array_equal(parts["all"], ROWS)
    columns, blocks = tables.blocks(path, "test", 7, only(["c", "a"]))
    found = np.concatenate(list(blocks))
    np.testing.assert_array_equal(found, ROWS[:, ["abc".index(name) for name in columns]])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=f"t{suffix}: cannot be read"):
        tables.read(path)


def test_a_kind_of_file_is_one_function_and_one_entry(tmp_path, monkeypatch):
    def scan(content, _name):
        return pl.LazyFrame(json.loads(content.read_text()))

    monkeypatch.setitem(formats.FRAMES, ".columns", scan)
    monkeypatch.setattr(tables, "READ", (*tables.READ, ".columns"))
    path = tmp_path / "t.columns"
    path.write_text(json.dumps({"a": [1, 2], "b": [0.5, 0.25]}))
    parts, columns = tables.read(path)
    assert columns == ("a", "b")
    np.testing.assert_array_equal(parts["all"], [[1, 0.5], [2, 0.25]])
