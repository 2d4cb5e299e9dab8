"""TensorBoard events: the numbers of metrics.jsonl, read by what the format says."""

import json
import struct
import sys

import pytest

from scoreode import progress

pytest.importorskip("tensorboardX", reason="an extra")


def written(run):
    """Every scalar event below a folder as (step, name, value), and where sessions began."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, starts = [], []
    for path in sorted(run.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):
            # A record: its length, a checksum of that, the content, a checksum of that.
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16
            if event.HasField("session_log"):
                starts.append(event.step)
            for value in event.summary.value:
                scalars.append((event.step, value.tag, value.simple_value))
    return scalars, starts


def recorded(run):
    """The same of metrics.jsonl."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], name, x) for line in lines for name, x in line.items() if name != "step"]


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_events_are_the_metrics(cli, long, on_call, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        on_call(patch, progress.PlainLines, "__call__", 3, interrupt)
        assert cli(*long, "--out", run, "--tensorboard").code == 130
    assert cli("fit", "--resume", run, "--tensorboard").code == 0

    scalars, starts = written(run)
    assert 40 in starts, "what comes again after the checkpoint at step 30 replaces what was there"
    kept = {(step, name): value for step, name, value in scalars}
    expected = {(step, name): value for step, name, value in recorded(run)}
    # The interrupt came before the events of its chunk were written.
    missing = {key for key in expected if key[0] == 30}
    assert kept.keys() == expected.keys() - missing
    for key, value in kept.items():
        assert value == pytest.approx(expected[key], rel=1e-6), key


def test_without_its_package_it_says_what_to_install(cli, long, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    result = cli(*long, "--out", tmp_path / "run", "--tensorboard")
    assert result.code == 2
    assert "pip install 'scoreode[tensorboard]'" in result.err
