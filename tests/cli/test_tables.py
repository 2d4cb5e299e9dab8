"""Which columns of which files: chosen by name, declared by name, of every kind that is read."""

import gzip
import io
import json
import os
import sys
import tomllib
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pytest

from scoreode.data import tables
from scoreode.train import RunFolder, saved, trainer

N = 120


@pytest.fixture(scope="module")
def frame():
    """A continuous column, counts, halves, and what no density takes."""
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=N), "count": rng.poisson(3, N), "half": rng.integers(0, 4, N)}
    frame = pl.DataFrame(columns).with_columns(pl.col("half") / 2)
    hole = [float("inf") if i % 50 == 0 else float(i) for i in range(N)]
    return frame.with_columns(name=pl.lit("u"), kind=pl.lit("v"), hole=pl.Series(hole))


@pytest.fixture(scope="module")
def file(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(cli, file, tiny):
    path = file.parent / "run"
    options = ("--columns", "half,a,count", "--bin-width", "count=1", "half=0.5")
    result = cli("fit", file, *tiny, "--steps", 2, *options, "--out", path)
    assert result.code == 0, result.err
    return path


@pytest.fixture
def given(monkeypatch):
    """Standard input with these bytes."""

    def given(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return given


@pytest.fixture
def printed(cli):
    """What `--print-config` prints; or, of a refusal, what it says."""

    def printed(*args):
        result = cli("fit", *args, "--print-config")
        return tomllib.loads(result.out) if result.code == 0 else result.err

    return printed


def test_all_bad_columns_are_in_one_message(printed, file):
    said = printed(file)
    for name, level in {"name": "u", "kind": "v"}.items():
        assert f"column '{name}' is a category of one level, '{level}', which tells nothing" in said
    assert "values in rows 1, 51, 101, column hole" in said


@pytest.mark.slow
def test_a_run_of_chosen_columns(cli, run, tmp_path):
    data = saved.load(run).data
    assert (data.columns, data.bin_width) == (("half", "a", "count"), (0.5, 0, 1))
    command = RunFolder.existing(run).command
    assert command is not None
    again = cli(*command.split()[1:], "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert saved.load(tmp_path / "again").data == data
    assert cli("fit", "--resume", run).code == 0, "its columns are taken from the file again"


def test_a_table_that_has_more_columns_in_any_order(cli, run, frame, file, tmp_path):
    frame.select("count", "half", "a").write_csv(tmp_path / "swapped.csv")
    np.save(tmp_path / "x.npy", frame.select("half", "a", "count").to_numpy())
    paths = (file, tmp_path / "swapped.csv", tmp_path / "x.npy")
    means = [json.loads(cli("nll", run, path, "--json").out)["nats_mean"] for path in paths]
    assert means[0] == means[1] == means[2]
    np.save(tmp_path / "more.npy", np.ones((3, 4)))
    assert "more.npy: 4 columns" in cli("nll", run, tmp_path / "more.npy").err
    frame.select("count", "half").write_csv(tmp_path / "fewer.csv")
    assert "fewer.csv: 2 columns" in cli("nll", run, tmp_path / "fewer.csv").err


@pytest.mark.slow
def test_unnamed_columns_of_an_array_are_not_the_first_of_another(cli, tiny, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.save(tmp_path / "x.npy", x)
    for name, columns in (("first", "x0,x1"), ("others", "x3,x1")):
        options = ("--columns", columns, "--steps", 2, "--out", tmp_path / name)
        assert cli("fit", tmp_path / "x.npy", *tiny, *options).code == 0
    assert "x.npy: 4 columns" in cli("nll", tmp_path / "first", tmp_path / "x.npy").err
    rows = tmp_path / "rows.npz"
    assert cli("nll", tmp_path / "others", tmp_path / "x.npy", "--out", rows).code == 0
    expected = saved.load(tmp_path / "others").log_likelihood(x[:, [3, 1]]).nats
    np.testing.assert_array_equal(np.load(rows)["nats"], expected)


def test_samples_of_discrete_columns_are_integers(cli, run, tmp_path):
    for suffix, read in ((".csv", pl.read_csv), (".parquet", pl.read_parquet)):
        path = tmp_path / f"s{suffix}"
        assert cli("sample", run, "-n", 9, "--out", path).code == 0
        kinds = dict(read(path).schema)
        assert kinds == {"half": pl.Float64, "a": pl.Float64, "count": pl.Int64}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--columns", "a,cuont"), "unknown column 'cuont': did you mean 'count'?"),
        (("--columns", "a,a"), "name every column once"),
        (("--columns", ""), "give names of columns"),
        (("--columns", "a", "--drop", "half"), "not both"),
        (("--drop", "a,count,half,name,kind,hole"), "every column is dropped"),
        (("--drop", "x,y"), "has no columns x, y"),
        (("--columns", "a,count", "--given", ""), "give names of columns"),
        (("--columns", "a,count", "--discrete", "count", "--bin-width", 1), "not both"),
        (("--columns", "a,count", "--discrete", "a"), "no multiples of one width"),
        (("--columns", "a,count", "--discrete", "half"), "no column 'half' among a, count"),
        (("--columns", "a,count", "--bin-width", "cuont=1"), "did you mean 'count'?"),
        (("--columns", "a,count", "--bin-width", "count=x"), "give a number, or NAME=NUMBER"),
        (("--columns", "a,count", "--bin-width", "1", "count=1"), "NAME=NUMBER for every one"),
        (("--columns", "a,count", "--bin-width", "count=1e300"), "lies in one bin"),
        (("--columns", "a,count", "--bin-width", "count=1e-300"), "more than 2^24 bin widths"),
        (("--columns", "a", "--validation-fraction", 0.999), "leaves 0 of 120 rows to train on"),
        (("--columns", "a", "--batch-size", 10**12), "a step on 1000000000000 rows at once"),
        (("--columns", "a", "--order", 2, "--n-probes", 10**12), "with 1000000000000 probes each"),
    ],
)
def test_options_that_do_not_fit(printed, file, options, message):
    said = printed(file, *options)
    assert isinstance(said, str)
    assert message in said
    assert said.count("\n") == 1


def test_sets_without_a_table_have_no_columns_to_choose(printed):
    assert "leave --columns out" in printed("moons", "--columns", "x0")
    assert "lies on a grid already" in printed("digits", "--discrete", "auto")


@pytest.mark.slow
@pytest.mark.parametrize("discrete", ["auto", "count,half"])
def test_discrete_columns_by_name_and_detected(cli, printed, file, run, tiny, tmp_path, discrete):
    options = ("--columns", "half,a,count", "--discrete", discrete, "--steps", 2)
    assert printed(file, *options)["discrete"] == discrete
    assert cli("fit", file, *tiny, *options, "--out", tmp_path / "r").code == 0
    assert saved.load(tmp_path / "r").data == saved.load(run).data


def test_widths_by_name_from_a_file_of_options(printed, file, tmp_path):
    path = tmp_path / "o.toml"
    path.write_text('columns = "a,count"\nbin-width = ["count=1"]\n')
    found = printed(file, "--config", path)
    assert found["bin-width"] == ["count=1"]


@pytest.mark.slow
def test_columns_that_look_discrete_are_told(cli, file, tiny, tmp_path):
    options = ("--steps", 2, "--columns", "a,count", "--json")
    result = cli("fit", file, *tiny, *options, "--out", tmp_path / "told")
    (note,) = json.loads(result.out)["notes"]
    assert f"{file}: {note}" in result.err
    assert "column count (multiples of 1)" in note
    assert "--discrete auto" in note
    quiet = cli("fit", file, *tiny, *options, "--quiet", "--out", tmp_path / "quiet")
    assert quiet.err == ""
    declared = ("--discrete", "auto", "--out", tmp_path / "declared")
    assert "notes" not in json.loads(cli("fit", file, *tiny, *options, *declared).out)


def test_a_run_that_begins_with_another_has_its_grid(cli, run, file, tmp_path):
    options = ("--columns", "half,a,count", "--init-from", run, "--steps", 2)
    result = cli("fit", file, "--order", 1, *options, "--out", tmp_path / "r")
    assert result.code == 0, result.err
    assert saved.load(tmp_path / "r").data.bin_width == (0.5, 0, 1)
    assert "spikes" not in result.err


def test_texts_of_every_kind(frame, tmp_path):
    rows = frame.select("a", "count")
    text = rows.write_csv().encode()
    tabs = text.replace(b",", b"\t")
    contents = {
        "x.tsv": tabs,
        "x.csv.gz": gzip.compress(text),
        "x.tsv.gz": gzip.compress(tabs),
        "x.CSV": text,
        "return.csv": text.replace(b"\n", b"\r"),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        parts, columns = tables.read(path)
        assert columns == ("a", "count")
        np.testing.assert_array_equal(parts["all"], rows.to_numpy())


def test_a_folder_of_parts(cli, printed, frame, tiny, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    rows = frame.select("a", "count")
    rows[:70].write_parquet(folder / "0.parquet")
    rows[70:].with_columns(pl.col("count").cast(pl.Float64)).write_parquet(folder / "1.parquet")
    np.testing.assert_array_equal(tables.read(folder)[0]["all"], rows.to_numpy())
    options = ("--discrete", "auto", "--steps", 2, "--out", tmp_path / "run")
    assert cli("fit", folder, *tiny, *options).code == 0
    rows_file = tmp_path / "rows.csv"
    assert cli("nll", tmp_path / "run", folder, "--out", rows_file).code == 0
    assert len(pl.read_csv(rows_file)) == N
    frame.select("a", "half").write_parquet(folder / "2.parquet")
    assert f"{folder}: cannot be read" in printed(folder)


def test_standard_input(cli, frame, run, tiny, given, tmp_path):
    text = frame.write_csv().encode()
    given(text)
    path = tmp_path / "from-stdin"
    options = ("--columns", "half,a,count", "--bin-width", 0.5, 0, 1, "--steps", 2)
    assert cli("fit", "-", *tiny, *options, "--out", path).code == 0
    assert saved.load(path).data.fingerprint == saved.load(run).data.fingerprint
    given(gzip.compress(text))
    assert json.loads(cli("nll", path, "-", "--json").out)["n"] == N
    for command in (("fit", "--resume", path), ("verify", path), ("compare", path, run)):
        result = cli(*command)
        assert result.code == 2
        assert "save them in a file" in result.err
    given(b"")
    assert "standard input is empty" in cli("nll", path, "-").err
    given(b"half;a\n1;2\n")
    assert "<stdin>: cannot be read: its fields are separated by semi" in cli("nll", path, "-").err


def test_journals_do_not_take_one_standard_input_for_another(cli, frame, run, given, tmp_path):
    means, out = [], tmp_path / "rows.csv"
    for rows in (frame[:60], frame[60:]):
        given(rows.write_csv().encode())
        summary = json.loads(cli("nll", run, "-", "--out", out, "--json").out)
        means.append(summary["nats_mean"])
        out.rename(tmp_path / f"{len(means)}.csv")
    assert means[0] != means[1]


def _rows(separator, comma="."):
    lines = [f"{i / 7:.3f}{separator}{i * i % 17}" for i in range(30)]
    return "\n".join(["a" + separator + "b", *(line.replace(".", comma) for line in lines)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", _rows(";", ","), "by semicolons, with decimal commas, and not by commas"),
        ("x.csv", _rows(";"), "sep=';').to_csv"),
        ("x.csv", _rows("|"), "separated by bars"),
        ("x.csv", _rows(" "), "separated by spaces"),
        ("x.csv", _rows("\t"), "call it .tsv"),
        ("x.tsv", _rows(","), "call it .csv"),
        ("x.csv", "a\n1,5\n2,5\n", "its numbers have decimal commas"),
        ("x.csv", 'a,b\n"1,5",2\n"2,5",3\n', "write decimal points"),
        ("x.csv", b"a,b\n1,2\n3,\xff\n", "line 3 is not UTF-8 text (byte 0xff)"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "its text is UTF-16"),
        ("x.csv.gz", gzip.compress(_rows(",").encode())[:-9], "cannot be read"),
        ("x.csv", "id,a\n" + "".join(f"{2**60 + i},{i}\n" for i in range(9)), "equal in float64"),
        ("x.csv", "\x1b]0;owned\x07,\x1b[2J\n" + "u,v\n" * 3, r"'\x1b]0;owned\x07' is a category"),
        ("x.csv", "\x1b[2J,a\n" + "1,2\ninf,3\n", r"column \x1b[2J (the first is infinity)"),
    ],
)
def test_causes_and_remedies(printed, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    said = printed(path)
    assert message in said
    assert said.rstrip("\n").isprintable()


def test_what_is_called_an_array_and_is_none(printed, tmp_path):
    for name in ("x.npz", "x.npy"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("readme.txt", "no array")
        assert f"{name}: cannot be read: it holds" in printed(tmp_path / name)
    np.save(tmp_path / "y.npy", np.ones((9, 2)))
    (tmp_path / "y.npy").rename(tmp_path / "y.npz")
    assert tables.read(tmp_path / "y.npz")[0]["all"].shape == (9, 2)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ""])
def test_a_pipe_is_not_waited_for(printed, tmp_path, suffix):
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    assert "is a pipe or device, not a file; give - for rows on standard input" in printed(path)


def test_whole_numbers_that_float64_does_not_hold(printed, tmp_path):
    np.save(tmp_path / "x.npy", 2**53 + np.arange(40).reshape(20, 2))
    assert "column x1: whole numbers beyond 2^53" in printed(tmp_path / "x.npy")
    np.save(tmp_path / "even.npy", 2**53 + 2 * np.arange(40).reshape(20, 2))
    assert tables.read(tmp_path / "even.npy")[0]["all"].shape == (20, 2)


def test_spreads_whose_square_is_nothing(printed, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 2)) * 1e-200)
    assert "columns x0, x1: values differ by less than 1e-150" in printed(tmp_path / "x.npy")


def test_names_that_come_twice_in_a_frame():
    frame = pd.DataFrame(np.ones((3, 2)), columns=["a", "a"])
    with pytest.raises(ValueError, match="several columns are called a; rename them"):
        tables.from_frame(frame)


def test_a_run_taken_up_again_knows_the_range_of_every_column(cli, frame, tiny, on_call, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    path, run = tmp_path / "t.csv", tmp_path / "run"
    frame.select("a", "count", "half").write_csv(path)
    with pytest.MonkeyPatch.context() as patch:
        on_call(patch, trainer.Trainer, "_finish", 1, interrupt)
        widths = ("--bin-width", "count=1", "half=0.5")
        assert cli("fit", path, *tiny, "--steps", 2, *widths, "--out", run).code == 130
    assert cli("fit", "--resume", run).code == 0
    low, high = saved.load(run).data.bin_range
    assert (low[1:], high[2]) == ((0, 0), 1.5)
