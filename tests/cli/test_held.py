"""A run's folder and a file of results belong to one process at a time, which is named."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from scoreode._files import lock
from scoreode.cli.commands.training import next_folder
from scoreode.errors import FailureError
from scoreode.train import RunFolder

HOLD = """
import pathlib, sys, time
from scoreode._files import lock
with lock(pathlib.Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_two_processes_do_not_resume_a_run(cli, stopped, contents, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    before = contents(run)
    with RunFolder(run).hold():
        result = cli("fit", "--resume", run)
    assert result.code == 1
    assert f"{run} is in use: process {os.getpid()} on {os.uname().nodename}" in result.err
    assert contents(run) == before, "nothing is left behind, and nothing lost"
    assert cli("fit", "--resume", run).code == 0
    assert not (run / "lock").exists()


def test_a_run_that_begins_is_held_too(cli, table, tiny, tmp_path):
    run = tmp_path / "run"
    with RunFolder.start(run):
        result = cli("fit", table, *tiny, "--steps", 2, "--out", run)
        assert result.code == 1
        assert f"{run} is in use" in result.err
        assert [path.name for path in run.iterdir()] == ["lock"]


def test_a_killed_process_holds_nothing(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        named = rf"it is in use: process {process.pid} on .* since 20"
        with pytest.raises(FailureError, match=named), lock(path, "it"):
            pass
        process.send_signal(signal.SIGKILL)
    assert path.exists(), "as the kill left it"
    with lock(path, "it"):
        assert str(os.getpid()) in path.read_text()
    assert not path.exists()


def test_of_many_processes_one_holds_at_a_time(tmp_path):
    """Each removes the file as it ends, while the others try to take it."""
    script = (
        "import pathlib, sys, time\n"
        "from scoreode._files import lock\n"
        "from scoreode.errors import FailureError\n"
        "folder, own = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]) / 'inside'\n"
        "end = time.monotonic() + 3\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with lock(folder / 'lock', 'it'):\n"
        "            own.touch(exist_ok=False)\n"
        "            own.unlink()\n"
        "    except FailureError:\n"
        "        pass\n"
    )
    start = lambda: subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])  # noqa: E731
    processes = [start() for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


def test_default_folders_are_taken_once():
    assert len({next_folder("data") for _ in range(3)}) == 3


def test_two_evaluations_do_not_share_a_file(cli, trained, table, tmp_path):
    out = tmp_path / "rows.csv"
    with lock(tmp_path / "rows.csv.lock", str(out)):
        result = cli("nll", trained, table, "--out", out)
    assert result.code == 1
    assert f"{out} is in use" in result.err
    assert cli("nll", trained, table, "--out", out).code == 0
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_two_that_resume_at_once_leave_a_whole_run(start, stopped, whole, same, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    chunks = "import scoreode.train.loop\nscoreode.train.loop.CHUNK = 10"  # as `stopped` has them
    processes = [start("fit", "--resume", run, before=chunks) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in processes]
    codes = [process.returncode for process in processes]
    # One after the other is fine, too: the second finds a finished run.
    assert set(codes) <= {0, 1}, said
    assert 0 in codes, said
    for code, (_, err) in zip(codes, said, strict=True):
        assert code == 0 or "is in use: process" in err
    same(run, whole)
