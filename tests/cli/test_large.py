"""Evaluations that are stopped: what was done is kept, and the rest has its own values."""

import json
import signal

import numpy as np
import pytest

from scoreode.evaluate import table as evaluation

BLOCK = 64
KILL = """
import os, signal
from scoreode.evaluate import table
table.BLOCK = 64
append = table.Journal.append
def killed(self, records):
    append(self, records)
    if len(self) == 128:
        os.kill(os.getpid(), signal.SIGKILL)
table.Journal.append = killed
"""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(evaluation, "BLOCK", BLOCK)


def without_seconds(out):
    return {k: v for k, v in json.loads(out).items() if k != "seconds"}


@pytest.fixture(scope="module")
def whole(cli, trained, table, tmp_path_factory):
    """The summary and the rows of an evaluation that nothing stopped, in one block."""
    out = tmp_path_factory.mktemp("whole") / "rows.csv"
    result = cli("nll", trained, table, "--out", out, "--json")
    assert result.code == 0, result.err
    return without_seconds(result.out), out.read_bytes()


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_kill_loses_no_row_that_was_done(shell, cli, trained, table, whole, tmp_path):
    out = tmp_path / "rows.csv"
    killed = shell("nll", trained, table, "--out", out, before=KILL)
    assert killed.code == -signal.SIGKILL
    assert not out.exists()
    result = cli("nll", trained, table, "--out", out, "--json")
    assert "going on after row 128" in result.err
    assert (without_seconds(result.out), out.read_bytes()) == whole
    assert list(tmp_path.iterdir()) == [out]


@pytest.fixture
def stopped(cli, on_call, trained, table, tmp_path, monkeypatch):
    """An evaluation that is interrupted after two blocks, and its command."""
    command = ("nll", trained, table, "--out", tmp_path / "rows.csv", "--json")
    with monkeypatch.context() as patch:
        on_call(patch, evaluation, "as_records", 3, interrupt)
        result = cli(*command)
    assert result.code == 130
    assert "128 rows are kept" in result.err
    return command


@pytest.mark.parametrize("tail", [b"", b"\x00", b"half a record"])
def test_whatever_the_last_write_left(cli, stopped, whole, tmp_path, tail):
    with open(tmp_path / "rows.csv.journal", "ab") as file:
        file.write(tail)
    result = cli(*stopped)
    assert "going on after row 128" in result.err
    assert (without_seconds(result.out), (tmp_path / "rows.csv").read_bytes()) == whole


def test_it_stays_stopped_as_often_as_it_is(cli, stopped, whole, on_call, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        on_call(patch, evaluation, "as_records", 2, interrupt)
        result = cli(*stopped)
    assert result.code == 130
    assert "192 rows are kept" in result.err
    assert (without_seconds(cli(*stopped).out), (tmp_path / "rows.csv").read_bytes()) == whole


@pytest.mark.slow
@pytest.mark.parametrize("option", [("--seed", 1), ("--samples", 2), ("--stderr", 0.1)])
def test_another_evaluation_discards_no_rows_unasked(cli, stopped, option):
    journal = stopped[4].with_name("rows.csv.journal")
    kept = journal.read_bytes()
    result = cli(*stopped, *option)
    assert result.code == 2
    assert "rows.csv.journal: keeps the rows of another evaluation" in result.err
    assert journal.read_bytes() == kept
    result = cli(*stopped, *option, "--force")
    assert result.code == 0, result.err
    assert "going on" not in result.err


def test_a_journal_that_was_only_begun_is_begun_anew(cli, stopped, whole):
    journal = stopped[4].with_name("rows.csv.journal")
    journal.write_bytes(journal.read_bytes()[:20])  # amid the line that says what it is of
    result = cli(*stopped)
    assert "going on" not in result.err
    assert (without_seconds(result.out), stopped[4].read_bytes()) == whole


def test_other_data_begin_anew(cli, stopped, rows, tmp_path):
    run, out = stopped[1], stopped[4]
    lines = "\n".join(f"{a},{b}" for a, b in rows[::-1])
    (tmp_path / "other.csv").write_text(f"length,weight\n{lines}\n")
    result = cli("nll", run, tmp_path / "other.csv", "--out", out, "--force")
    assert result.code == 0, result.err
    assert "going on" not in result.err


def test_a_bad_row_is_named_by_its_number_and_what_was_done_is_kept(cli, trained, rows, tmp_path):
    data, out = tmp_path / "bad.csv", tmp_path / "rows.csv"
    lines = [f"{a},{b}" for a, b in rows]
    lines[149] = "1.0,"
    data.write_text("length,weight\n" + "\n".join(lines) + "\n")
    result = cli("nll", trained, data, "--out", out)
    assert result.code == 2
    assert "row 150" in result.err
    assert not out.exists()
    assert (tmp_path / "rows.csv.journal").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_every_kind_of_file_has_the_same_rows(cli, trained, rows, whole, tmp_path, suffix):
    import polars as pl

    data = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        pl.DataFrame({"length": rows[:, 0], "weight": rows[:, 1]}).write_parquet(data)
    elif suffix == "npy":
        np.save(data, rows)
    else:
        np.savez(data, rows)
    result = cli("nll", trained, data, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["nats_mean"] == pytest.approx(whole[0]["nats_mean"], abs=1e-5)


@pytest.fixture(scope="module")
def counts(cli, tiny, tmp_path_factory):
    """Rows of counts and a continuous column, and a run on them."""
    folder = tmp_path_factory.mktemp("counts")
    rng = np.random.default_rng(0)
    k = rng.poisson(3.0, 300)
    np.save(folder / "x.npy", np.stack([k, k + rng.normal(size=300)], 1))
    options = (*tiny, "--steps", 20, "--bin-width", 1, 0, "--out", folder / "run")
    result = cli("fit", folder / "x.npy", *options)
    assert result.code == 0, result.err
    return folder


@pytest.mark.slow
def test_a_table_with_a_discrete_column(cli, counts, tmp_path):
    """A resumed evaluation draws the dequantisation noise that one block would have drawn."""
    found = cli("nll", counts / "run", counts / "x.npy", "--json", "--samples", 3)
    summary = json.loads(found.out)
    assert summary["bits_per_dim"] is None  # the second column is continuous
    assert summary["nfe_mean"] == pytest.approx(3 * 82, rel=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "BLOCK", 1000)
        again = cli("nll", counts / "run", counts / "x.npy", "--json", "--samples", 3)
    assert without_seconds(again.out) == without_seconds(found.out)
    one = json.loads(cli("nll", counts / "run", counts / "x.npy", "--json").out)
    assert one["nats_mean"] < summary["nats_mean"]
    assert cli("sample", counts / "run", "-n", 50, "--out", tmp_path / "s.npy").code == 0
    drawn = np.load(tmp_path / "s.npy")
    np.testing.assert_array_equal(drawn[:, 0], np.round(drawn[:, 0]))
    assert np.any(drawn[:, 1] != np.round(drawn[:, 1]))


def test_values_off_the_grid_are_named(cli, tiny, counts, tmp_path):
    x = np.load(counts / "x.npy")[:20]
    x[6, 0] += 0.3
    np.save(tmp_path / "off.npy", x)
    for command in (
        ("nll", counts / "run", tmp_path / "off.npy"),
        ("fit", tmp_path / "off.npy", *tiny, "--bin-width", 1, 0, "--validation-fraction", 0),
    ):
        result = cli(*command)
        assert result.code == 2
        assert "column x0" in result.err
        assert "grid of width 1" in result.err


@pytest.mark.parametrize("widths", [(1, 2, 3), (-1,), (0, 0), ("nan",)])
def test_widths_that_make_no_grid(cli, counts, widths):
    result = cli("fit", counts / "x.npy", "--bin-width", *widths)
    assert result.code == 2
    assert "bin width" in result.err


@pytest.mark.slow
def test_a_standard_error_is_met(cli, tiny, tmp_path):
    """Above 32 dimensions the divergence is estimated, and as well as is asked for."""
    x = np.random.default_rng(0).normal(size=(80, 40))
    np.save(tmp_path / "x.npy", x)
    run = tmp_path / "run"
    assert cli("fit", tmp_path / "x.npy", *tiny, "--steps", 20, "--out", run).code == 0
    command = ("nll", run, tmp_path / "x.npy", "--out", tmp_path / "rows.npz", "--force")
    largest = {}
    for target in (None, 0.02, 0):
        assert cli(*command, *(() if target is None else ("--stderr", target))).code == 0
        largest[target] = np.load(tmp_path / "rows.npz")["stderr"].max()
    assert largest[None] > 0.02 >= largest[0.02] > 0 == largest[0]
