"""A run that is killed at any moment goes on where it was, and ends as if it had not been."""

import os
import signal
import time

import pytest

from scoreode import fitting
from scoreode.train import loop

STEPS = 60
# Many short chunks, each with a checkpoint: every kind of moment comes within a second.
OFTEN = """
import os, signal
import scoreode.fitting, scoreode.report.progress, scoreode.train.checkpoint
import scoreode.train.folder, scoreode.train.loop
scoreode.train.loop.CHUNK = 10
scoreode.fitting.SAVE_EVERY = 0.0

def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def on_call(owner, name, count, act=kill):
    original, calls = getattr(owner, name), []
    def counted(*args, **kwargs):
        calls.append(1)
        return (act if len(calls) == count else original)(*args, **kwargs)
    setattr(owner, name, counted)
"""
HALF_A_LINE = """
def half_a_line(folder, record):
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "prog')
    kill()
on_call(scoreode.train.folder.RunFolder, "append_metrics", 3, half_a_line)
"""
HALF_A_CHECKPOINT = """
import sys
from scoreode.train.checkpoint import Checkpoints
save, saves, changes = Checkpoints.save, [], []
def counted(*args):
    saves.append(1)
    return save(*args)
Checkpoints.save = counted
def hook(event, _):
    # Whatever Orbax does on disk: the third save, so many changes into it.
    if len(saves) == 3 and event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        changes.append(1)
        if len(changes) == {count}:
            kill()
sys.addaudithook(hook)
"""

MOMENTS = {
    "before anything is reported": 'on_call(scoreode.train.loop, "advance", 1)',
    "after a line of metrics, before its checkpoint": (
        'on_call(scoreode.report.progress.PlainLines, "__call__", 1)'
    ),
    "amid a line of metrics": HALF_A_LINE,
    "early in a checkpoint": HALF_A_CHECKPOINT.replace("{count}", "2"),
    "amid a checkpoint": HALF_A_CHECKPOINT.replace("{count}", "12"),
    "late in a checkpoint": HALF_A_CHECKPOINT.replace("{count}", "40"),
    "before the model is written": 'on_call(scoreode.fitting, "save_arrays", 1)',
    "before the summary is written": (
        'on_call(scoreode.train.folder.RunFolder, "write_summary", 1)'
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _often():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK", 10)
        patch.setattr(fitting, "SAVE_EVERY", 0.0)
        yield


@pytest.fixture(scope="module")
def options(table, tiny):
    return ("fit", table, *tiny, "--order", 2, "--steps", STEPS)


@pytest.fixture(scope="module")
def whole(cli, options, tmp_path_factory):
    """The run that nobody killed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    result = cli(*options, "--out", run)
    assert result.code == 0, result.err
    return run


@pytest.fixture
def same(whole, metrics):
    """Asserts that a run ended as the whole one did."""

    def same(run):
        assert metrics(run) == metrics(whole)
        weights = "model.safetensors"
        assert (run / weights).read_bytes() == (whole / weights).read_bytes()

    return same


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_killed_and_resumed_is_the_same_run(shell, cli, options, same, tmp_path, moment):
    run = tmp_path / "run"
    killed = shell(*options, "--out", run, before=OFTEN + moment)
    assert killed.code == -signal.SIGKILL, killed.err
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run)


def test_killed_from_outside_as_a_checkpoint_appears(start, cli, options, same, tmp_path):
    run = tmp_path / "run"
    with start(*options, "--out", run, before=OFTEN) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if any(path.name.startswith("20") for path in run.glob("checkpoints/*")):
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run)


def test_killed_before_its_first_checkpoint_says_so(shell, cli, options, tmp_path):
    run = tmp_path / "run"
    moment = 'on_call(scoreode.train.checkpoint.Checkpoints, "save", 1)'
    assert shell(*options, "--out", run, before=OFTEN + moment).code == -signal.SIGKILL
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 2
    assert str(run) in resumed.err
    assert "no checkpoint was saved; start again" in resumed.err


def test_an_unfinished_run_is_not_evaluated(shell, cli, options, table, tmp_path):
    run = tmp_path / "run"
    moment = 'on_call(scoreode.report.progress.PlainLines, "__call__", 1)'
    shell(*options, "--out", run, before=OFTEN + moment)
    for command in (("nll", run, table), ("sample", run, "--out", tmp_path / "x.npy")):
        result = cli(*command)
        assert result.code == 2
        assert f"{run}/model.safetensors" in result.err
        assert "is the training finished?" in result.err
    assert not os.path.exists(tmp_path / "x.npy")


def test_a_finished_run_can_be_resumed_and_stays(cli, whole, contents):
    before = contents(whole)
    result = cli("fit", "--resume", whole)
    assert result.code == 0, result.err
    after = contents(whole)
    assert after["model.safetensors"] == before["model.safetensors"]
    assert after["metrics.jsonl"] == before["metrics.jsonl"]


def test_a_run_is_resumed_over_and_over(cli, options, same, tmp_path, monkeypatch):
    run = tmp_path / "run"
    advance, calls = loop.advance, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return advance(*args)

    monkeypatch.setattr(loop, "advance", interrupted)
    codes = [cli(*options, "--out", run).code]
    while codes[-1] == 130 and len(codes) < 10:
        codes.append(cli("fit", "--resume", run).code)
    assert codes == [130] * 6 + [0]
    same(run)
