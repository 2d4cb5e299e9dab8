"""Damaged runs: what is whole is used, what is not is named, and nothing is made up."""

import json
import shutil

import pytest

from scoreode import __version__

pytestmark = [
    pytest.mark.usefixtures("often"),
    # Reads that Orbax began of a truncated array end after its event loop has.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def copied(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


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


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_falls_back_on_the_older_checkpoint(cli, copied, whole, same, damage):
    damage(copied / "checkpoints" / "40")
    result = cli("fit", "--resume", copied)
    assert result.code == 0, result.err
    same(copied, whole)


def test_every_checkpoint_damaged(cli, copied, contents):
    for step in (copied / "checkpoints").iterdir():
        flipped(largest(step))
    before = contents(copied)
    result = cli("fit", "--resume", copied)
    assert result.code in (1, 2)
    assert f"{copied}/checkpoints: every checkpoint is damaged" in result.err
    assert "--out" in result.err
    assert contents(copied) == before


@pytest.mark.slow
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
INFORMS = {"versions", "n_train", "entropy", "fingerprint", "name", "seed"}


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", [None, "no such thing", -1, [], {}])
def test_config_entries_of_the_wrong_kind(cli, model, spoilt):
    config = json.loads((model / "config.json").read_text())
    refused = 0
    for path in everywhere(config):
        if INFORMS & set(path):
            continue
        changed = json.loads(json.dumps(config))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = spoilt
        (model / "config.json").write_text(json.dumps(changed))
        # Loading is what is tested: the data are not there.
        result = cli("nll", model, "none.csv")
        assert result.code, path
        assert str(model) in result.err or "none.csv: no such" in result.err, (path, result.err)
        assert "--debug" not in result.err, (path, result.err)
        refused += str(model) in result.err
    assert refused > 10


@pytest.mark.slow
def test_config_entries_that_are_missing(cli, model):
    config = json.loads((model / "config.json").read_text())
    for key in config["data"]:
        changed = config | {"data": {k: v for k, v in config["data"].items() if k != key}}
        (model / "config.json").write_text(json.dumps(changed))
        for command in (("nll", model, "none.csv"), ("fit", "--resume", model)):
            result = cli(*command)
            if result.code:
                assert f"{model}" in result.err or "none.csv: no such" in result.err, key
                assert "--debug" not in result.err, (key, result.err)


def test_a_config_names_only_what_is_listed(cli, model, table):
    config = json.loads((model / "config.json").read_text())
    config["run"]["network"]["type"] = "os.system"
    (model / "config.json").write_text(json.dumps(config))
    message = refused(cli, model, table, "config.json")
    assert "'os.system'" in message
    assert "written by" not in message


@pytest.mark.parametrize("future", [{"dropout": 0.1}, {"type": "Transformer"}])
def test_a_config_of_another_version_says_so(cli, model, table, future):
    config = json.loads((model / "config.json").read_text())
    config["run"]["network"] |= future
    config["versions"]["scoreode"] = "9.0.0"
    (model / "config.json").write_text(json.dumps(config))
    message = refused(cli, model, table, "config.json")
    assert f"written by scoreode 9.0.0, and this is {__version__}" in message


def test_metrics_that_are_gone_do_not_stop_a_resume(cli, copied):
    (copied / "metrics.jsonl").unlink()
    result = cli("fit", "--resume", copied)
    assert result.code == 0, result.err
    assert (copied / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ({"sigma_min": 20.0}, "sigma_min 20.0, sigma_max 10.0: must be positive and finite"),
        ({"sigma_min": 0.0}, "sigma_min 0.0"),
        ({"sigma_max": float("nan")}, "sigma_max nan: must be positive and finite"),
        ({"t_min": 1.0}, "t_min 1.0, t_max 1.0"),
        ({"type": "VP", "beta_0": 30.0, "beta_1": 20.0}, "beta_0 30.0, beta_1 20.0"),
    ],
)
def test_a_process_that_is_none(cli, trained, table, tmp_path, process, said):
    run = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    known = config["run"]["objective"]["process"]
    config["run"]["objective"]["process"] = process if "type" in process else known | process
    (run / "config.json").write_text(json.dumps(config))
    for command in (("nll", run, table), ("fit", "--resume", run)):
        result = cli(*command)
        assert result.code == 2
        assert f"{run}/config.json: cannot rebuild" in result.err
        assert said in result.err
