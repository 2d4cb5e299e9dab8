"""A run that is killed at any moment goes on where it was, and ends as if it had not been.

What a kill leaves is the disk as it was at that moment: one run, whose folder is copied at many
moments, stands for as many kills. Two processes that are really killed stand for the rest.
"""

import contextlib
import shutil
import signal
import sys
import threading
import time

import pytest

from scoreode import progress
from scoreode.train import RunFolder, checkpoint, loop, saved, trainer

pytestmark = pytest.mark.usefixtures("often")

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
IN_CHECKPOINT = range(10)
MOMENTS = (
    "before anything is reported",
    "after a line of metrics",
    "amid a line of metrics",
    "before the model is written",
    "before the summary is written",
    *(f"in a checkpoint, {i}" for i in IN_CHECKPOINT),
)
# What the fixture `often` does, in a process of its own.
OFTEN = """
import os, signal, sys
import scoreode.train.trainer, scoreode.train.loop
from scoreode.train.checkpoint import Checkpoints
scoreode.train.loop.CHUNK = 10
scoreode.train.trainer.SAVE_EVERY = 0.0
"""
AMID_A_CHECKPOINT = (
    OFTEN
    + """
save, saves, changes = Checkpoints.save, [], []
def counted(*args):
    saves.append(1)
    return save(*args)
Checkpoints.save = counted
def hook(event, _):
    if len(saves) == 3 and event in ("open", "os.mkdir", "os.rename", "os.remove"):
        changes.append(1)
        if len(changes) == 12:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""
)


class Camera:
    """Copies a folder at moments, also at any change that this process makes on the disk."""

    def __init__(self, folder, album):
        self.folder, self.album = folder, album
        self.watching = False
        self._lock, self._copying = threading.Lock(), None
        sys.addaudithook(self._changed)  # for good: it sleeps unless it is watching

    def take(self, name=None):
        def copy(source, target):
            with contextlib.suppress(FileNotFoundError):  # gone since the folder was listed
                shutil.copy2(source, target)

        with self._lock:
            self._copying = threading.get_ident()
            name = name or f"change {len(list(self.album.iterdir())):03}"
            shutil.copytree(self.folder, self.album / name, copy_function=copy)
            self._copying = None

    def before(self, patch, owner, name, count, moment, watch=False):
        """Takes a picture before the count-th call; with `watch`, at every change during it."""
        original, calls = getattr(owner, name), []

        def pictured(*args, **kwargs):
            calls.append(1)
            if len(calls) == count and not watch:
                self.take(moment)
            self.watching = watch and len(calls) == count
            try:
                return original(*args, **kwargs)
            finally:
                self.watching = False

        patch.setattr(owner, name, pictured)

    def _changed(self, event, _):
        # Orbax writes from several threads: the others wait while one of them is pictured.
        if self.watching and event in CHANGES and self._copying != threading.get_ident():
            self.take()


@pytest.fixture(scope="module")
def left(cli, long, tmp_path_factory):
    """Copies of one run's folder by the moment."""
    run, album, changes = (tmp_path_factory.mktemp(name) for name in ("run", "album", "changes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK", 10)
        patch.setattr(trainer, "SAVE_EVERY", 0.0)
        camera, close = Camera(run, album), Camera(run, changes)
        camera.before(patch, loop, "advance", 1, MOMENTS[0])
        camera.before(patch, progress.PlainLines, "__call__", 1, MOMENTS[1])
        camera.before(patch, RunFolder, "append_metrics", 3, MOMENTS[2])
        camera.before(patch, saved, "save_arrays", 1, MOMENTS[3])
        camera.before(patch, RunFolder, "write_summary", 1, MOMENTS[4])
        close.before(patch, checkpoint.Checkpoints, "save", 4, "", watch=True)
        result = cli(*long, "--out", run)
    assert result.code == 0, result.err
    with open(album / MOMENTS[2] / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "prog')
    taken = sorted(changes.iterdir())
    assert len(taken) > 20, "Orbax was seen at work"
    for i in IN_CHECKPOINT:
        taken[i * (len(taken) - 1) // IN_CHECKPOINT[-1]].rename(album / f"in a checkpoint, {i}")
    return album


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_is_the_same_run(cli, left, whole, same, tmp_path, moment):
    run = shutil.copytree(left / moment, tmp_path / "run")
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run, whole)


@pytest.mark.slow
def test_killed_amid_a_checkpoint(shell, cli, long, whole, same, tmp_path):
    run = tmp_path / "run"
    assert shell(*long, "--out", run, before=AMID_A_CHECKPOINT).code == -signal.SIGKILL
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run, whole)


@pytest.mark.slow
def test_killed_from_outside_as_a_checkpoint_appears(start, cli, long, whole, same, tmp_path):
    run = tmp_path / "run"
    with start(*long, "--out", run, before=OFTEN) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if any(path.name.startswith("20") for path in run.glob("checkpoints/*")):
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run, whole)


def test_killed_before_its_first_checkpoint_says_so(cli, left, tmp_path):
    run = shutil.copytree(left / MOMENTS[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 2
    assert str(run) in resumed.err
    assert "no checkpoint was saved; start again" in resumed.err


def test_an_unfinished_run_is_not_evaluated(cli, left, table, contents, tmp_path):
    run = left / MOMENTS[1]
    before = contents(run)
    for command in (("nll", run, table), ("sample", run, "--out", tmp_path / "x.npy")):
        result = cli(*command)
        assert result.code == 2
        assert f"{run}/model.safetensors" in result.err
        assert "is the training finished?" in result.err
    assert not (tmp_path / "x.npy").exists()
    assert contents(run) == before


def test_a_finished_run_can_be_resumed_and_stays(cli, whole, contents, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    result = cli("fit", "--resume", run)
    assert result.code == 0, result.err
    before, after = contents(whole), contents(run)
    for file in ("model.safetensors", "metrics.jsonl", "config.json", "summary.json"):
        assert after[file] == before[file], file


@pytest.mark.slow
def test_a_run_is_resumed_over_and_over(cli, long, whole, same, tmp_path, monkeypatch):
    run = tmp_path / "run"
    advance, calls = loop.advance, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return advance(*args)

    monkeypatch.setattr(loop, "advance", interrupted)
    codes = [cli(*long, "--out", run).code]
    while codes[-1] == 130 and len(codes) < 10:
        codes.append(cli("fit", "--resume", run).code)
    # One chunk each, of six.
    assert codes == [130] * 5 + [0]
    same(run, whole)
