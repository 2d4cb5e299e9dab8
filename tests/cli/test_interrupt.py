"""Ctrl-C and SIGTERM: the state is saved, and the command that goes on with it is printed."""

import json
import shlex
import signal
import time

import pytest

from scoreode import density, fitting
from scoreode.report import progress
from scoreode.train import checkpoint, loop

STEPS = 60
# Slow enough to be met in the middle by somebody outside.
SLOWLY = """
import time
import scoreode.report.progress as progress
import scoreode.train.loop
scoreode.train.loop.CHUNK = 10
shown = progress.PlainLines.__call__
progress.PlainLines.__call__ = lambda *args: (time.sleep(0.5), shown(*args))[1]
"""


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK", 10)


@pytest.fixture(scope="module")
def options(table, tiny):
    return ("fit", table, *tiny, "--steps", STEPS)


@pytest.fixture(scope="module")
def whole(cli, options, tmp_path_factory):
    """The run that nobody interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK", 10)
        run = tmp_path_factory.mktemp("whole") / "run"
        assert cli(*options, "--out", run).code == 0
    return run


@pytest.fixture
def goes_on(cli, whole, metrics):
    """Runs the command that an interrupted one printed, and compares what comes of it."""

    def goes_on(interrupted, run):
        assert interrupted.code == 130
        assert "interrupted; the state is saved" in interrupted.err
        _, *command = shlex.split(interrupted.err.partition("Continue with: ")[2])
        assert command == ["fit", "--resume", str(run)]
        resumed = cli(*command)
        assert resumed.code == 0, resumed.err
        assert metrics(run) == metrics(whole)
        weights = "model.safetensors"
        assert (run / weights).read_bytes() == (whole / weights).read_bytes()

    return goes_on


def raises(*_args, **_kwargs):
    raise KeyboardInterrupt


def on_call(patch, owner, name, count, act):
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        return (act if len(calls) == count else original)(*args, **kwargs)

    patch.setattr(owner, name, counted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside(start, options, goes_on, tmp_path, number):
    run = tmp_path / "run"
    with start(*options, "--out", run, before=SLOWLY) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            file = run / "metrics.jsonl"
            if file.exists() and file.read_text().count("\n") >= 2:
                break
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    assert (run / "metrics.jsonl").read_text().count("\n") < STEPS / 10, "it was in the middle"
    assert not (run / "model.safetensors").exists()
    goes_on(type("Ended", (), {"code": process.returncode, "out": out, "err": err}), run)


def test_the_printed_command_survives_blanks_in_the_path(
    cli, options, goes_on, tmp_path, monkeypatch
):
    run = tmp_path / "my run"
    with monkeypatch.context() as patch:
        on_call(patch, progress.PlainLines, "__call__", 2, raises)
        interrupted = cli(*options, "--out", run)
    goes_on(interrupted, run)


MOMENTS = {
    "while the first steps compile": (loop, "advance", 1),
    "in a later chunk": (loop, "advance", 3),
    "in a validation": (density.Density, "nll_bound", 2),
    "before a line of metrics": (fitting.Trainer, "_record", 2),
    "in the progress bar": (progress.PlainLines, "__call__", 2),
    "before a checkpoint": (checkpoint.Checkpoints, "save", 3),
    "before the model is written": (fitting, "save_arrays", 1),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_interrupted_at_an_awkward_moment(cli, options, goes_on, tmp_path, monkeypatch, moment):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "SAVE_EVERY", 0.0)
        on_call(patch, *moment, raises)
        interrupted = cli(*options, "--out", run)
    goes_on(interrupted, run)


def test_interrupted_just_after_a_checkpoint(cli, options, goes_on, tmp_path, monkeypatch):
    save = checkpoint.Checkpoints.save

    def saved_then_interrupted(*args):
        save(*args)
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "SAVE_EVERY", 0.0)
        on_call(patch, checkpoint.Checkpoints, "save", 3, saved_then_interrupted)
        interrupted = cli(*options, "--out", run)
    goes_on(interrupted, run)


def test_a_second_ctrl_c_does_not_end_in_a_traceback(start, options, cli, tmp_path):
    run = tmp_path / "run"
    impatient = SLOWLY + (
        "import signal, scoreode.fitting as fitting\n"
        "save = fitting.Trainer.save\n"
        "def slow(self):\n"
        "    if self._state.step > 0: signal.raise_signal(signal.SIGINT)\n"
        "    save(self)\n"
        "fitting.Trainer.save = slow\n"
    )
    with start(*options, "--out", run, before=impatient) as process:
        while process.poll() is None and not (run / "metrics.jsonl").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert cli("fit", "--resume", run).code == 0


def test_a_budget_in_seconds_counts_what_is_spent(cli, table, tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(loop, "CHUNK", 1)
    with monkeypatch.context() as patch:
        on_call(patch, progress.PlainLines, "__call__", 3, raises)
        assert cli("fit", table, *tiny, "--seconds", 6, "--out", run).code == 130
    spent = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert cli("fit", "--resume", run).code == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    after = [line for line in lines if line["step"] > spent["step"]]
    assert after[0]["seconds"] >= spent["seconds"]
    assert lines[-1]["progress"] == 1
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))


def test_evaluation_can_be_interrupted(cli, trained, table, tmp_path, monkeypatch):
    monkeypatch.setattr(density.Density, "log_likelihood", raises)
    result = cli("nll", trained, table, "--out", tmp_path / "rows.csv")
    assert result.code == 130
    assert result.err == "interrupted\n"
    assert not (tmp_path / "rows.csv").exists()
