"""Damaged runs: what is whole is used, what is not is named, and nothing is made up."""

import json
import shutil

import numpy as np
import pytest

from scoreode import fitting
from scoreode.report import progress
from scoreode.train import loop

STEPS = 60


@pytest.fixture(scope="module", autouse=True)
def _often():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK", 10)
        patch.setattr(fitting, "SAVE_EVERY", 0.0)
        yield


@pytest.fixture(scope="module")
def whole(cli, table, tiny, tmp_path_factory):
    """A run from its beginning to its end."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert cli("fit", table, *tiny, "--steps", STEPS, "--out", run).code == 0
    return run


@pytest.fixture(scope="module")
def stopped(cli, table, tiny, tmp_path_factory):
    """The same run, stopped at step 40: it has the checkpoints 30 and 40."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    shown = progress.PlainLines.__call__

    def interrupted(self, report, value):
        shown(self, report, value)
        if report.step == 40:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.PlainLines, "__call__", interrupted)
        assert cli("fit", table, *tiny, "--steps", STEPS, "--out", run).code == 130
    assert checkpoints(run) == ["30", "40"]
    return run


@pytest.fixture
def copied(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def largest(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def flipped(path, where=0.5):
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 0x10
    path.write_bytes(content)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "a flipped bit in the arrays": lambda step: flipped(largest(step)),
    "truncated arrays": lambda step: truncated(largest(step)),
    "missing arrays": lambda step: shutil.rmtree(step / "arrays"),
    "an empty record": lambda step: (step / "record" / "metadata").write_text(""),
    "a record without its checksum": lambda step: (step / "record" / "metadata").write_text("{}"),
    "nothing left": lambda step: [shutil.rmtree(path) for path in step.iterdir() if path.is_dir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_falls_back_on_the_older_checkpoint(cli, copied, whole, metrics, damage):
    damage(copied / "checkpoints" / "40")
    result = cli("fit", "--resume", copied)
    assert result.code == 0, result.err
    assert metrics(copied) == metrics(whole)
    weights = "model.safetensors"
    assert (copied / weights).read_bytes() == (whole / weights).read_bytes()


def test_every_checkpoint_damaged(cli, copied, contents):
    for step in (copied / "checkpoints").iterdir():
        flipped(largest(step))
    before = contents(copied)
    result = cli("fit", "--resume", copied)
    assert result.code in (1, 2)
    assert f"{copied}/checkpoints: every checkpoint is damaged" in result.err
    assert "--out" in result.err
    assert contents(copied) == before


def test_a_damaged_checkpoint_prints_no_traceback(shell, copied):
    flipped(largest(copied / "checkpoints" / "40"))
    result = shell("fit", "--resume", copied)
    assert result.code == 0, result.err


@pytest.fixture
def model(trained, tmp_path):
    """A copy of a finished run, to be spoilt."""
    return shutil.copytree(trained, tmp_path / "model")


def refused(cli, run, table, file):
    """Every command that reads the run refuses it, and names the file and the remedy."""
    messages = []
    for command in (("nll", run, table), ("sample", run, "--out", "x.npy")):
        result = cli(*command)
        assert result.code in (1, 2), result.said
        assert f"{run / file}" in result.err
        assert result.out == ""
        messages.append(result.err)
    return messages[0]


@pytest.mark.parametrize("where", [0.0, 0.02, 0.3, 0.999])
def test_a_flipped_bit_in_the_model(cli, model, table, where):
    flipped(model / "model.safetensors", where)
    message = refused(cli, model, table, "model.safetensors")
    assert "damaged" in message or "does not fit" in message


@pytest.mark.parametrize("length", [0, 4, 1000, -1])
def test_a_truncated_model(cli, model, table, length):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    message = refused(cli, model, table, "model.safetensors")
    assert "damaged" in message
    assert "train again or restore a copy" in message


def test_the_model_of_another_run(cli, model, table):
    config = json.loads((model / "config.json").read_text())
    config["run"]["network"]["width"] = 8
    (model / "config.json").write_text(json.dumps(config))
    message = refused(cli, model, table, "model.safetensors")
    assert "does not fit its configuration" in message


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "{}", "null", "\x00\xff"])
def test_a_damaged_document(cli, model, table, file, content):
    (model / file).write_text(content)
    refused(cli, model, table, file)


def everywhere(value, path=()):
    """The path of every entry of a JSON document."""
    for key, child in value.items():
        yield (*path, key)
        if isinstance(child, dict):
            yield from everywhere(child, (*path, key))


# What a run cannot be rebuilt without: every entry but those that only inform.
INFORMS = {"versions", "n_train", "entropy", "fingerprint", "validation_fraction", "name", "seed"}


@pytest.mark.parametrize("spoilt", [None, "no such thing", -1, [], {}])
def test_config_entries_of_the_wrong_kind(cli, model, spoilt):
    config = json.loads((model / "config.json").read_text())
    for path in everywhere(config):
        if INFORMS & set(path) or path[0] == "versions":
            continue
        changed = json.loads(json.dumps(config))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = spoilt
        (model / "config.json").write_text(json.dumps(changed))
        result = cli("sample", model, "-n", 1, "--out", "x.npy")
        if result.code:
            assert str(model) in result.err, (path, result.err)
            assert "--debug" not in result.err, (path, result.err)


def test_config_entries_that_are_missing(cli, model):
    config = json.loads((model / "config.json").read_text())
    for key in config["data"]:
        changed = config | {"data": {k: v for k, v in config["data"].items() if k != key}}
        (model / "config.json").write_text(json.dumps(changed))
        for command in (("sample", model, "-n", 1, "--out", "x.npy"), ("fit", "--resume", model)):
            result = cli(*command)
            if result.code:
                assert "config.json" in result.err, (key, result.err)
                assert "--debug" not in result.err, (key, result.err)


def test_a_config_names_only_what_is_listed(cli, model, table):
    config = json.loads((model / "config.json").read_text())
    config["run"]["network"]["type"] = "os.system"
    (model / "config.json").write_text(json.dumps(config))
    message = refused(cli, model, table, "config.json")
    assert "'os.system'" in message


def test_metrics_cut_short_do_not_stop_a_resume(cli, copied, whole, metrics):
    file = copied / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 50, "progress": 0.8')
    assert cli("fit", "--resume", copied).code == 0
    assert metrics(copied) == metrics(whole)


def test_samples_of_a_whole_run_are_what_the_damaged_refuse(cli, trained, tmp_path):
    out = tmp_path / "x.npy"
    assert cli("sample", trained, "-n", 2, "--out", out).code == 0
    assert np.isfinite(np.load(out)).all()
