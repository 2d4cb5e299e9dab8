"""Ctrl-C and SIGTERM: the state is saved, and the command that goes on with it is printed."""

import json
import shlex
import signal
import time

import numpy as np
import pytest

from scoreode import progress
from scoreode.data import stored
from scoreode.model import density
from scoreode.train import RunFolder, checkpoint, loop, saved, trainer

pytestmark = pytest.mark.usefixtures("often")

# Slow enough to be met in the middle by somebody outside; and Ctrl-C is not ignored, as it is where
# a shell started the tests in the background.
SLOWLY = """
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)
import scoreode.progress as progress
import scoreode.train.loop
scoreode.train.loop.CHUNK = 10
shown = progress.PlainLines.__call__
progress.PlainLines.__call__ = lambda *args: (time.sleep(3.0), shown(*args))[1]
"""


@pytest.fixture
def goes_on(cli, whole, same):
    """Runs the command that an interrupted one printed, and compares what comes of it."""

    def goes_on(code, err, run):
        assert code == 130
        assert "Traceback" not in err
        assert "interrupted; the state is saved" in err
        _, *command = shlex.split(err.partition("Continue with: ")[2])
        assert command == ["fit", "--resume", str(run)]
        resumed = cli(*command)
        assert resumed.code == 0, resumed.err
        same(run, whole)

    return goes_on


@pytest.fixture
def interrupted(cli, long, on_call, monkeypatch):
    """The run, with something happening at the count-th call of a function."""

    def interrupted(run, owner, name, count, act):
        with monkeypatch.context() as patch:
            on_call(patch, owner, name, count, act)
            result = cli(*long, "--out", run)
        return result.code, result.err, run

    return interrupted


def ctrl_c(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_ctrl_c_from_outside(start, long, goes_on, tmp_path):
    run = tmp_path / "run"
    with start(*long, "--out", run, before=SLOWLY) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            file = run / "metrics.jsonl"
            if file.exists() and file.read_text().count("\n") >= 2:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
    assert (run / "metrics.jsonl").read_text().count("\n") < 6, "it was in the middle"
    assert not (run / "model.safetensors").exists()
    goes_on(process.returncode, err, run)


def test_sigterm_is_no_less(interrupted, goes_on, tmp_path):
    stop = lambda *_: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    goes_on(*interrupted(tmp_path / "run", progress.PlainLines, "__call__", 2, stop))


def test_the_printed_command_survives_blanks_in_the_path(interrupted, goes_on, tmp_path):
    goes_on(*interrupted(tmp_path / "my run", progress.PlainLines, "__call__", 2, ctrl_c))


MOMENTS = {
    "while the first steps compile": (loop, "advance", 1),
    "in a later chunk": (loop, "advance", 3),
    "in a validation": (density.Density, "nll_bound", 2),
    "before a line of metrics": (RunFolder, "append_metrics", 2),
    "before a checkpoint": (checkpoint.Checkpoints, "save", 3),
    "before the model is written": (saved, "save_arrays", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_interrupted_at_an_awkward_moment(interrupted, goes_on, tmp_path, moment):
    goes_on(*interrupted(tmp_path / "run", *moment, ctrl_c))


def test_interrupted_just_after_a_checkpoint(interrupted, goes_on, tmp_path):
    save = checkpoint.Checkpoints.save

    def saved_then_interrupted(*args):
        save(*args)
        raise KeyboardInterrupt

    goes_on(
        *interrupted(tmp_path / "run", checkpoint.Checkpoints, "save", 3, saved_then_interrupted)
    )


@pytest.mark.slow
def test_a_large_file_is_read_on(cli, rows, tiny, on_call, same, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGE", 0)
    np.save(tmp_path / "rows.npy", rows)
    fit = ("fit", tmp_path / "rows.npy", *tiny, "--steps", 30, "--out")
    assert cli(*fit, tmp_path / "whole").code == 0
    with monkeypatch.context() as patch:
        on_call(patch, progress.PlainLines, "__call__", 2, ctrl_c)
        assert cli(*fit, tmp_path / "run").code == 130
    assert cli("fit", "--resume", tmp_path / "run").code == 0
    same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_second_ctrl_c_while_the_first_saves(
    interrupted, goes_on, on_call, monkeypatch, tmp_path
):
    def first(*_):
        on_call(monkeypatch, checkpoint.Checkpoints, "save", 1, ctrl_c)
        raise KeyboardInterrupt

    goes_on(*interrupted(tmp_path / "run", progress.PlainLines, "__call__", 3, first))


def test_interrupted_before_anything_is_saved(interrupted, tmp_path):
    run = tmp_path / "run"
    code, err, _ = interrupted(run, checkpoint.Checkpoints, "save", 1, ctrl_c)
    assert code == 130
    assert "the state is saved" not in err, "there is none yet"
    assert not run.exists(), "nothing could go on from there, and its name is free"


def test_interrupted_while_modules_are_read(capsys, monkeypatch):
    import builtins

    from scoreode import __main__

    found = builtins.__import__

    def stopped(name, *args, **options):
        return ctrl_c() if name == "scoreode.cli" else found(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", stopped)
    assert __main__.main() == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.slow
def test_a_budget_in_seconds_counts_what_is_spent(cli, table, tiny, on_call, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(loop, "CHUNK", 1)
    with monkeypatch.context() as patch:
        on_call(patch, progress.PlainLines, "__call__", 3, ctrl_c)
        assert cli("fit", table, *tiny, "--seconds", 4, "--out", run).code == 130
    spent = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    monkeypatch.setattr(trainer, "SAVE_EVERY", 60.0)
    assert cli("fit", "--resume", run).code == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    after = [line for line in lines if line["step"] > spent["step"]]
    assert after[0]["seconds"] >= spent["seconds"]
    assert lines[-1]["progress"] == 1
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))


def test_evaluation_can_be_interrupted(cli, whole, table, tmp_path, monkeypatch):
    monkeypatch.setattr(density.Density, "log_likelihood", ctrl_c)
    result = cli("nll", whole, table, "--out", tmp_path / "rows.csv")
    assert result.code == 130
    assert result.err == "interrupted\n"
    assert not (tmp_path / "rows.csv").exists()
