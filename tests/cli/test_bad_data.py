"""Data that cannot be used: the message names the file, the row and column, and the remedy."""

import json

import numpy as np
import polars as pl
import pytest

from scoreode.data import tables


@pytest.fixture
def refused(cli, tmp_path, tiny):
    """Fits on a file and returns the message, once it is sure that nothing was left behind."""

    def refused(path, *options, code=2):
        run = tmp_path / "run"
        result = cli("fit", path, *tiny, "--steps", 2, *options, "--out", run)
        assert result.code == code, result.said
        assert result.err.startswith("scoreode: ")
        assert result.out == ""
        assert not run.exists()
        return result.err

    return refused


@pytest.fixture
def written(tmp_path):
    """A .csv with this text."""

    def written(text, name="bad.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


def test_missing_file(refused, tmp_path):
    assert f"{tmp_path}/none.csv: no such file" in refused(tmp_path / "none.csv")


def test_unknown_data_name(refused):
    assert refused("chekerboard") == (
        "scoreode: unknown data set 'chekerboard': did you mean 'checkerboard'?;"
        " a file needs its suffix\n"
    )


def test_unknown_suffix(refused, written):
    message = refused(written("a\n1\n", "data.xlsx"))
    assert "data.xlsx: unknown kind of file" in message
    for suffix in tables.SUFFIXES:
        assert suffix in message


def test_text_in_a_numeric_column(refused, written):
    message = refused(written("a,b\n1,2\n3,4\n5,six\n"))
    assert "bad.csv: column 'b' is not numeric: row 3 holds 'six'" in message
    assert "drop the column" in message


@pytest.mark.parametrize("bad", ["inf", "-inf", "1e300"])
def test_infinite_values(refused, written, bad):
    message = refused(written(f"a,b\n1,2\n3,{bad}\n5,6\n{bad},8\n"))
    assert "bad.csv: infinite or huge values in rows 2, 4, columns a, b" in message
    assert "correct them" in message


@pytest.mark.parametrize("nothing", ["", "NA", "nan", "null"])
def test_a_column_without_values(refused, written, nothing):
    message = refused(written(f"a,b,c\n1,{nothing},2\n3,{nothing},4\n5,{nothing},9\n"))
    assert "bad.csv: column b: no row has a value; drop it" in message


def test_a_condition_without_values(refused, written):
    path = written(
        "a,b,c\n" + "".join(f"{i},{i * i},{'' if i == 3 else i % 5}\n" for i in range(30))
    )
    message = refused(path, "--given", "c")
    assert "bad.csv: column c lacks values, and a density is given all of its conditions" in message


def test_infinite_values_of_an_array(refused, rows, tmp_path):
    spoilt = rows.copy()
    spoilt[[4, 70], 1] = np.inf
    np.save(tmp_path / "bad.npy", spoilt)
    message = refused(tmp_path / "bad.npy")
    assert "bad.npy" in message
    assert "rows 5, 71, column x1" in message


def test_constant_column(refused, written):
    text = "a,always,b\n" + "".join(f"{i},3,{i % 7}\n" for i in range(50))
    message = refused(written(text))
    assert "constant column always" in message
    assert "drop it" in message


@pytest.mark.slow
def test_a_constant_count_is_certain(cli, written, tiny, tmp_path):
    path = written("a,always,b\n" + "".join(f"{i},3,{i % 7}\n" for i in range(50)))
    result = cli(
        "fit", path, *tiny, "--steps", 2, "--bin-width", 0, 1, 1, "--out", tmp_path / "run"
    )
    assert result.code == 0, result.err
    assert cli("nll", tmp_path / "run", path).code == 0


@pytest.mark.slow
def test_constant_but_for_one_row(cli, written, tiny, tmp_path):
    path = written("a,b\n" + "".join(f"{i},{int(i == 3)}\n" for i in range(200)))
    result = cli("fit", path, *tiny, "--steps", 2, "--out", tmp_path / "run")
    # Whether that row is held out is the seed's choice; the message must not deny that it exists.
    assert result.code == 0 or "rows for training" in result.err


def test_no_rows(refused, written):
    assert "bad.csv: no rows below the header" in refused(written("a,b\n"))
    assert "empty.csv: the file is empty" in refused(written("", "empty.csv"))


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_rows(refused, written, n):
    message = refused(written("a,b\n" + "1,2\n3,5\n"[: 4 * n]))
    assert "bad.csv" in message
    assert f"{n} row" in message.replace("one", "1").replace("two", "2")
    assert "at least" in message or "not enough" in message


@pytest.mark.slow
def test_fewer_rows_than_a_batch(cli, written, tiny, tmp_path):
    path = written("a,b\n" + "".join(f"{i},{i * i % 7}\n" for i in range(6)))
    run = tmp_path / "run"
    result = cli("fit", path, *tiny, "--steps", 5, "--out", run)
    assert result.code == 0, result.err
    summary = json.loads(cli("nll", run, path, "--json").out)
    assert summary["n"] == 6
    assert np.isfinite(summary["nats_mean"])


def test_a_column_that_repeats_another(cli, written, tiny, tmp_path):
    text = "a,twice\n" + "".join(f"{x},{2 * x}\n" for x in range(200))
    result = cli("fit", written(text), *tiny, "--steps", 5, "--out", tmp_path / "run")
    assert result.code == 0, result.err


def test_a_file_without_a_header_loses_no_row(refused, written):
    message = refused(written("1.5,2\n3,4\n5,7\n8,9\n"))
    assert "bad.csv" in message
    assert "header" in message


def test_ragged_rows(refused, written):
    message = refused(written("a,b\n1,2\n3,4,5\n6,7\n"))
    assert "bad.csv: cannot be read" in message


def test_damaged_files(refused, tmp_path, rows):
    np.savez(tmp_path / "half.npz", rows)
    np.save(tmp_path / "half.npy", rows)
    pl.DataFrame({"a": rows[:, 0]}).write_parquet(tmp_path / "half.parquet")
    for name in ("half.npz", "half.npy", "half.parquet"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert f"{path}: cannot be read" in refused(path)


def test_pickles_are_not_opened(refused, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    assert "objects.npy: cannot be read" in refused(tmp_path / "objects.npy")


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.array([["a", "b"]]), "not numbers"),
        (np.ones((3, 2), complex), "not numbers"),
        (np.zeros((4, 2, 2, 3)), "has shape (4, 2, 2, 3)"),
        (np.zeros((0, 2)), "no rows"),
        (np.zeros((3, 0)), "no rows"),
        (np.float64(3), "has shape ()"),
    ],
)
def test_arrays_that_are_no_table(refused, tmp_path, array, problem):
    np.save(tmp_path / "bad.npy", array)
    message = refused(tmp_path / "bad.npy")
    assert "bad.npy" in message
    assert problem in message


def test_an_npz_of_unclear_meaning(refused, tmp_path, rows):
    np.savez(tmp_path / "two.npz", a=rows, b=rows)
    message = refused(tmp_path / "two.npz")
    assert "two.npz: holds a, b" in message
    assert "x_train" in message


def test_parts_of_unequal_width(refused, tmp_path, rows):
    np.savez(tmp_path / "split.npz", x_train=rows, x_val=rows[:, :1], x_test=rows)
    message = refused(tmp_path / "split.npz")
    assert "split.npz[x_val]: number of columns 1, where the first part has 2" in message


def test_values_too_large_to_square(refused, rows, tmp_path):
    far = rows.copy()
    far[3, 1] = 1e300
    np.save(tmp_path / "far.npy", far)
    assert "huge values in row 4, column x1" in refused(tmp_path / "far.npy")


@pytest.mark.parametrize("columns", [1, 3])
def test_nll_of_other_columns(cli, trained, tmp_path, columns):
    np.save(tmp_path / "other.npy", np.ones((4, columns)))
    result = cli("nll", trained, tmp_path / "other.npy", "--out", tmp_path / "rows.csv")
    assert result.code == 2
    assert f"other.npy: {columns} column" in result.err
    assert "trained on 2 (length, weight)" in result.err
    assert not (tmp_path / "rows.csv").exists()


def test_nll_of_columns_in_another_order(cli, trained, table, tmp_path):
    frame = pl.read_csv(table)
    frame.select("weight", "length").write_csv(tmp_path / "swapped.csv")
    swapped = cli("nll", trained, tmp_path / "swapped.csv", "--json")
    assert swapped.code == 0, "columns are known by their names"
    straight = cli("nll", trained, table, "--json")
    mean, other = (json.loads(result.out)["nats_mean"] for result in (straight, swapped))
    assert mean == other
    frame.rename({"weight": "height"}).write_csv(tmp_path / "renamed.csv")
    result = cli("nll", trained, tmp_path / "renamed.csv")
    assert result.code == 2
    assert "length, height" in result.err
    assert "length, weight" in result.err


def test_nll_of_data_that_cannot_be_used(cli, trained, written, tmp_path):
    result = cli("nll", trained, written("length,weight\n1,2\n3,\n"))
    assert result.code == 2
    assert "bad.csv: missing, infinite or huge values in row 2, column weight" in result.err
    result = cli("nll", trained, tmp_path / "none.csv")
    assert result.code == 2
    assert "none.csv: no such file" in result.err
    result = cli("nll", trained, "moon")
    assert result.code == 2
    assert "did you mean 'moons'?" in result.err


def test_nll_of_a_part_that_is_not_there(cli, trained, rows, tmp_path):
    np.savez(tmp_path / "train.npz", x_train=rows)
    result = cli("nll", trained, tmp_path / "train.npz")
    assert result.code == 2
    assert "train.npz: has no test rows" in result.err


def test_rows_far_from_the_data_are_finite_or_counted(cli, trained, tmp_path):
    np.save(tmp_path / "far.npy", np.array([[0.0, 300.0], [40.0, 300.0], [-200.0, 9e4]]))
    out = tmp_path / "rows.csv"
    result = cli("nll", trained, tmp_path / "far.npy", "--json", "--out", out)
    assert result.code == 0, result.err
    summary, rows = json.loads(result.out), pl.read_csv(out)
    assert np.isfinite(summary["nats_mean"])
    assert summary["unconverged"] == (~rows["converged"]).sum()
    assert summary["unconverged_rows"] == (1 + np.flatnonzero(~rows["converged"])).tolist()
    assert rows.filter(pl.col("converged"))["nats"].is_finite().all()


def test_data_that_changed_since_the_run_began(cli, table, tiny, tmp_path):
    path, run = tmp_path / "table.csv", tmp_path / "run"
    path.write_text(table.read_text())
    assert cli("fit", path, *tiny, "--steps", 40, "--out", run).code == 0
    path.write_text(table.read_text().rstrip("\n") + "\n1,2\n")
    result = cli("fit", "--resume", run)
    assert result.code == 2
    assert f"{path} has changed since the run began" in result.err
    path.unlink()
    result = cli("fit", "--resume", run)
    assert result.code == 2
    assert f"{path}: no such file" in result.err
