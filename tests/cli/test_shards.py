"""Shards of an evaluation, by processes that know nothing of one another: merged, they are equal to
what one process writes, byte for byte, and nothing is merged that does not belong together."""

import json
import re
import shutil
import signal
from dataclasses import replace
from itertools import pairwise

import equinox as eqx
import jax
import numpy as np
import polars as pl
import pytest

from scoreode.evaluate import table as evaluation
from scoreode.train import RunFolder, saved

SLOW = pytest.mark.slow
KILL = """
import os, signal
from scoreode.evaluate import table
table.BLOCK = 30
append = table.Journal.append
def killed(self, records):
    append(self, records)
    if len(self) == 60:
        os.kill(os.getpid(), signal.SIGKILL)
table.Journal.append = killed
"""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(evaluation, "BLOCK", 30)


def without_seconds(out):
    return {k: v for k, v in json.loads(out).items() if k != "seconds"}


@pytest.fixture(scope="module")
def parts(rows, tmp_path_factory):
    """The rows as .parquet parts of unequal lengths and types, one of them empty."""
    folder = tmp_path_factory.mktemp("parts") / "parts"
    folder.mkdir()
    frame = pl.DataFrame({"name": "u", "length": rows[:, 0], "weight": np.rint(rows[:, 1])})
    ends = [0, 7, 7, 120, len(rows)]
    for i, (a, b) in enumerate(pairwise(ends)):
        part = frame[a:b].with_columns(pl.col("weight").cast([pl.Int32, pl.Float64][i % 2]))
        part.write_parquet(folder / f"part-{i}.parquet")
    return folder


@pytest.fixture(scope="module")
def counts(cli, tiny, tmp_path_factory):
    """A run of counts beside a number, whose cells are filled with noise, and its table."""
    folder, rng = tmp_path_factory.mktemp("counts"), np.random.default_rng(0)
    frame = pl.DataFrame({"n": rng.poisson(3, 150), "x": rng.normal(size=150)})
    frame.write_csv(folder / "t.csv")
    options = ("--steps", 2, "--bin-width", "n=1", "--out", folder / "run")
    result = cli("fit", folder / "t.csv", *tiny, *options)
    assert result.code == 0, result.err
    return folder / "run", folder / "t.csv"


def evaluate(cli, run, data, out, n, *options):
    """Every shard of n, the last one first, and what merging them prints."""
    for i in reversed(range(n)):
        result = cli("nll", run, data, "--out", out, "--shard", f"{i}/{n}", *options)
        assert result.code == 0, result.err
        assert not out.exists()
    return cli("nll", run, data, "--out", out, "--merge", "--json", *options)


def check_equal(cli, run, data, tmp_path, n, suffix="csv", *options):
    one, many = tmp_path / f"one.{suffix}", tmp_path / f"many.{suffix}"
    whole = cli("nll", run, data, "--out", one, "--json", *options)
    merged = evaluate(cli, run, data, many, n, *options)
    assert merged.code == whole.code == 0, merged.err
    assert many.read_bytes() == one.read_bytes()
    assert without_seconds(merged.out) == without_seconds(whole.out)
    assert merged.err == whole.err


@pytest.fixture(scope="module")
def made(cli, trained, parts, tmp_path_factory):
    """The folder of three shards of the parts."""
    out = tmp_path_factory.mktemp("made") / "rows.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "BLOCK", 30)
        for i in (2, 0, 1):
            result = cli("nll", trained, parts, "--out", out, "--shard", f"{i}/3")
            assert result.code == 0, result.err
    assert not out.exists()
    return out.with_name("rows.csv.shards")


@pytest.mark.parametrize(
    "suffix", ["csv", "parquet", *(pytest.param(s, marks=SLOW) for s in ("npz", "npy"))]
)
def test_merged_shards_are_what_one_process_writes(cli, trained, parts, made, tmp_path, suffix):
    one, many = tmp_path / f"one.{suffix}", tmp_path / f"many.{suffix}"
    shutil.copytree(made, tmp_path / f"many.{suffix}.shards")
    whole = cli("nll", trained, parts, "--out", one, "--json")
    merged = cli("nll", trained, parts, "--out", many, "--merge", "--json")
    assert many.read_bytes() == one.read_bytes()
    assert without_seconds(merged.out) == without_seconds(whole.out)
    assert merged.err == whole.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "npy", "parquet"])
def test_of_every_kind_of_table(cli, trained, table, rows, tmp_path, kind):
    data = {"csv": table, "npy": tmp_path / "x.npy", "parquet": tmp_path / "x.parquet"}[kind]
    if kind == "npy":
        np.save(data, rows)
    elif kind == "parquet":
        pl.read_csv(table).write_parquet(data)
    check_equal(cli, trained, data, tmp_path, 2)


@pytest.mark.slow
def test_noise_is_that_of_the_row_in_its_table(cli, counts, tmp_path):
    check_equal(cli, *counts, tmp_path, 4, "npy", "--seed", 5, "--samples", 2)


@pytest.mark.slow
def test_probes_are_those_of_the_row(cli, tiny, tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 40))
    np.save(tmp_path / "x.npy", x)
    options = ("--steps", 2, "--standardise", "scale", "--out", tmp_path / "run")
    assert cli("fit", tmp_path / "x.npy", *tiny, *options).code == 0
    options = ("--seed", 3, "--n-probes", 4)
    check_equal(cli, tmp_path / "run", tmp_path / "x.npy", tmp_path, 3, "npy", *options)


@pytest.mark.slow
def test_the_place_of_a_row_in_a_batch_does_not_tell(cli, tiny, tmp_path, monkeypatch):
    # Three columns and 256 rows at once: there, places change the last bits of some rows.
    monkeypatch.setattr(evaluation, "BLOCK", 256)
    rng = np.random.default_rng(0)
    c = np.where(rng.random(900) < 0.1, None, rng.normal(size=900))
    frame = pl.DataFrame({"a": rng.beta(0.5, 2, 900), "b": rng.normal(size=900), "c": c.tolist()})
    frame.write_csv(tmp_path / "t.csv")
    options = ("--bounds", "a=0:1", "--steps", 100, "--out", tmp_path / "run")
    assert cli("fit", tmp_path / "t.csv", *tiny, *options).code == 0
    check_equal(cli, tmp_path / "run", tmp_path / "t.csv", tmp_path, 3)


def test_shards_may_be_more_than_rows(cli, trained, table, tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:3]))
    check_equal(cli, trained, few, tmp_path, 3)


@pytest.fixture
def shards(trained, parts, made, tmp_path):
    """The words of the command of three shards, which are there."""
    shutil.copytree(made, tmp_path / "rows.csv.shards")
    return "nll", trained, parts, "--out", tmp_path / "rows.csv"


def again(said, words):
    """The words of the command that a message ends with, of the same run and data."""
    command = re.search(r"scoreode (nll .*)", said).group(1).split()
    assert command[:5] == [*map(str, words[:3]), "--out", str(words[4])]
    return command


def test_what_is_done_is_not_done_again_unless_asked(cli, shards, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv.shards" / "1-of-3.npz"
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate_blocks", lambda *_: pytest.fail("evaluated again"))
        result = cli(*shards, "--shard", "1/3")
    assert result.code == 0
    assert "1-of-3.npz is there; --force makes it again" in result.err
    assert path.read_bytes() == before
    result = cli(*shards, "--shard", "1/3", "--force", "--json")
    assert "is there" not in result.err
    found = json.loads(result.out)
    assert (found["first_row"], found["n"], found["total"]) == (60, 60, 200)
    assert len(np.load(path)["records"]) == 60


def test_a_missing_shard_is_named_with_its_command(cli, shards, tmp_path):
    for i in (0, 2):
        (tmp_path / "rows.csv.shards" / f"{i}-of-3.npz").unlink()
    result = cli(*shards, "--merge")
    assert result.code == 2
    assert "rows.csv.shards: 0/3, 2/3 are missing; to make the first: " in result.err
    assert not (tmp_path / "rows.csv").exists()
    assert cli(*again(result.err, shards)).code == 0
    result = cli(*shards, "--merge")
    assert "rows.csv.shards: 2/3 is missing; to make it: " in result.err
    assert cli(*again(result.err, shards)).code == 0
    assert cli(*shards, "--merge").code == 0


@pytest.mark.parametrize(
    "damage", ["flipped", *(pytest.param(d, marks=SLOW) for d in ("cut", "empty", "other"))]
)
def test_a_damaged_shard_is_named_and_made_again(cli, shards, tmp_path, damage):
    path = tmp_path / "rows.csv.shards" / "1-of-3.npz"
    whole = bytearray(path.read_bytes())
    whole[-1000] ^= 1  # amid the records
    content = {"cut": bytes(whole[:-200]), "flipped": bytes(whole), "empty": b""}
    if damage == "other":
        np.savez(path, x=np.ones(3))
    else:
        path.write_bytes(content[damage])
    result = cli(*shards, "--merge")
    assert result.code == 2
    assert "1-of-3.npz is damaged; to make it again: " in result.err
    assert cli(*again(result.err, shards)).code == 0
    assert cli(*shards, "--merge").code == 0


def test_a_damaged_shard_is_made_again_unasked(cli, shards, tmp_path):
    (tmp_path / "rows.csv.shards" / "1-of-3.npz").write_bytes(b"x")
    result = cli(*shards, "--shard", "1/3")
    assert "is damaged, and is made again" in result.err
    assert cli(*shards, "--merge").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("other", ["model", "data", "option"])
def test_a_shard_of_another_evaluation_is_not_merged(cli, shards, trained, parts, tmp_path, other):
    run, data, option = trained, parts, ("--seed", 1)
    if other == "model":
        run, option, fitted = tmp_path / "run", (), saved.load(trained)
        larger = lambda leaf: 1.01 * leaf if eqx.is_inexact_array(leaf) else leaf  # noqa: E731
        density = jax.tree.map(larger, fitted.density)
        saved.save(RunFolder.create(run), replace(fitted, density=density))
    elif other == "data":  # in the third part, which the second shard reads
        data, option = tmp_path / "parts", ()
        shutil.copytree(parts, data)
        frame = pl.read_parquet(data / "part-2.parquet")
        frame.with_columns(pl.col("length") + 1).write_parquet(data / "part-2.parquet")
    words = ("nll", run, data, "--out", tmp_path / "rows.csv", *option)
    what = {"option": "another --seed", "model": "another model", "data": "other data"}[other]
    result = cli(*words, "--shard", "1/3")
    assert result.code == 2
    assert f"1-of-3.npz is of {what}; choose another --out" in result.err
    assert cli(*words, "--shard", "1/3", "--force").code == 0
    result = cli(*shards, "--merge")
    assert result.code == 2
    assert f"1-of-3.npz is of {what}; to make it again: " in result.err
    assert cli(*again(result.err, shards)).code == 0
    assert cli(*shards, "--merge").code == 0


def test_shards_of_two_numbers_are_not_merged(cli, shards):
    assert cli(*shards, "--shard", "0/2").code == 0
    assert "has shards of 2, 3, and rows are merged from one" in cli(*shards, "--merge").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shard", "3/3"), "--shard 3/3: shards are counted from 0; the last of 3 is 2/3"),
        (("--shard", "0/0"), "--shard 0/0: shards are counted from 0"),
        (("--shard", "three"), "--shard three: write it as 3/100, shard 3 of 100"),
        (("--shard", "0/2", "--merge"), "give --shard or --merge, not both"),
        (("--merge",), "rows.csv.shards: has no shards; to make one: scoreode nll"),
    ],
)
def test_wrong_use(cli, trained, table, tmp_path, options, message):
    result = cli("nll", trained, table, "--out", tmp_path / "rows.csv", *options)
    assert result.code == 2
    assert message in result.err


def test_without_a_file_there_are_no_shards(cli, trained, table):
    for option in (("--merge",), ("--shard", "0/2")):
        assert "give --out FILE" in cli("nll", trained, table, *option).err
    result = cli("nll", trained, "-", "--out", "rows.csv", "--shard", "0/2")
    assert "standard input can be read only once" in result.err


def test_a_bad_row_has_its_number_in_the_table(cli, trained, table, tmp_path):
    lines = table.read_text().splitlines()
    lines[150] = "1.0,"
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    words = ("nll", trained, tmp_path / "bad.csv", "--out", tmp_path / "rows.csv")
    assert cli(*words, "--shard", "1/4").code == 0
    result = cli(*words, "--shard", "2/4")
    assert result.code == 2
    assert "row 150" in result.err


@pytest.mark.slow
def test_a_killed_shard_goes_on_where_it_was(shell, cli, trained, table, tmp_path):
    words = ("nll", trained, table, "--out", tmp_path / "rows.csv")
    killed = shell(*words, "--shard", "1/2", before=KILL)
    assert killed.code == -signal.SIGKILL
    result = cli(*words, "--shard", "1/2")
    assert "going on after row 150" in result.err
    assert cli(*words, "--shard", "0/2").code == 0
    assert cli(*words, "--merge").code == 0
    assert cli("nll", trained, table, "--out", tmp_path / "one.csv").code == 0
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert {p.name for p in (tmp_path / "rows.csv.shards").iterdir()} == {
        "0-of-2.npz",
        "1-of-2.npz",
    }
