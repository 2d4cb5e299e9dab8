"""Any terminal, any reader, any device, any size: one line, and nothing lost."""

import os
import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from environment import ENVIRONMENT, SCALED

import scoreode
from scoreode.cli import failures
from scoreode.model import memory


def piped(command, *args, **variables):
    """What a shell makes of a command whose last words are `args`, and its standard error."""
    line = command.replace("scoreode", f"{sys.executable} -m scoreode", 1)
    env = ENVIRONMENT | variables
    done = subprocess.run(
        ["bash", "-c", line, "bash", *map(str, args)], capture_output=True, env=env, timeout=240
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("args", ["list", "--help", "list --json"])
def test_nobody_reads_the_result(args):
    code, _, err = piped(f"scoreode {args} | true; exit ${{PIPESTATUS[0]}}")
    assert (code, err) == (128 + signal.SIGPIPE, "")


@pytest.mark.slow
def test_a_result_that_cannot_be_written():
    code, _, err = piped("scoreode list > /dev/full")
    assert code == 1
    assert "No space left" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_training_goes_on_where_nobody_reads_its_progress(table, tmp_path):
    options = "--order 1 --width 8 --depth 1 --batch-size 32 --steps 5"
    out = tmp_path / "run"
    piped(f'scoreode fit "$1" {options} --out "$2" 2> >(true)', table, out)
    assert (out / "summary.json").exists()


@pytest.mark.slow
def test_terminals_that_lack_characters(trained, table):
    code, out, err = piped('scoreode nll "$@"', trained, table, PYTHONIOENCODING="ascii")
    assert code == 0, err
    assert " +- " in out.decode("ascii")


@pytest.mark.slow
def test_names_that_are_no_text(trained, tmp_path):
    folder = os.fsencode(tmp_path)
    for suffix in (b".csv", b".parquet"):
        name = os.fsdecode(folder + b"/x\xff" + suffix)
        code, out, err = piped('scoreode sample "$@"', trained, "-n", 3, "--out", name)
        assert code == 0, err
        assert rb"x\udcff" + suffix in out
        assert os.path.getsize(name) > 0
    with open(os.fsdecode(folder + b"/x\xff.csv"), "rb") as file:
        assert pl.read_csv(file).shape == (3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["nll", "fit"])
def test_a_device_that_is_not_there(trained, table, tmp_path, command):
    args = (trained, table) if command == "nll" else (table, "--out", tmp_path / "run")
    code, _, err = piped('scoreode "$@"', command, *args, JAX_PLATFORMS="cuda")
    assert code == 1
    assert "JAX_PLATFORMS=cuda: JAX has no such device here" in err
    assert not (tmp_path / "run").exists()


def test_the_version(cli):
    assert cli("--version").out == f"scoreode {scoreode.__version__}\n"


HUGE = {
    "width": (
        ("--width", 10**8),
        "with 2e+16 weights takes at least 480 PB",
    ),
    "wider": (("--width", 10**15), "lower the width or the depth"),
    "batch": (
        ("--batch-size", 10**12),
        "1000000000000 rows at once takes at least 80 TB",
    ),
}


@pytest.mark.parametrize(("options", "said"), HUGE.values(), ids=HUGE)
def test_what_cannot_fit_is_refused_before_it_is_begun(cli, table, tiny, tmp_path, options, said):
    result = cli("fit", table, *tiny, "--steps", 2, *options, "--out", tmp_path / "run")
    assert result.code == 2
    assert said in result.err
    assert "and there are" in result.err
    assert not (tmp_path / "run").exists()


def test_samples_that_cannot_fit(cli, trained, tmp_path):
    result = cli("sample", trained, "-n", 10**12, "--out", tmp_path / "x.npy")
    assert result.code == 2
    assert "a draw of 1000000000000 rows takes at least 72 TB" in result.err


def test_memory_is_the_least_of_what_limits_it():
    whole = memory.available()
    assert whole is not None
    assert whole >= 2**28
    memory.check_fits(2**20, "a little", "none")
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (whole - 2**20, before[1]))
    try:
        assert memory.available() == whole - 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nat 0x1")]
)
def test_memory_that_runs_out(error):
    said = failures.explain(error)
    assert said.startswith("out of memory (")
    assert "--batch-size" in said
    assert "\n" not in said


@pytest.mark.slow
def test_sizes_that_memory_has_train(cli, tiny, tmp_path):
    """The estimate is from below: nothing that would have worked is refused."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 300)))
    options = (*tiny[:2], *SCALED, "--width", 600, "--depth", 2, "--batch-size", 1024, "--steps", 1)
    assert cli("fit", tmp_path / "x.npy", *options, "--out", tmp_path / "run").code == 0
