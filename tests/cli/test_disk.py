"""A disk that refuses: exit status 1, the path named, and what was saved before still there."""

import shutil

import pytest

from scoreode import fitting
from scoreode.train import loop

STEPS = 60
DISK = """
import resource
def full():
    # No file can grow any more, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
"""
FULL = DISK + "full()\n"
OFTEN = (
    DISK
    + """
import scoreode.fitting as fitting, scoreode.train.loop as loop
from scoreode.train import folder, checkpoint
loop.CHUNK, fitting.SAVE_EVERY = 10, 0.0
def at(owner, name, count):
    original, calls = getattr(owner, name), []
    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            full()
        return original(*args, **kwargs)
    setattr(owner, name, counted)
"""
)
MOMENTS = {
    "metrics": ('at(folder.RunFolder, "append_metrics", 3)', "metrics.jsonl"),
    "a checkpoint": ('at(checkpoint.Checkpoints, "save", 4)', "checkpoints"),
    "the model": ('at(fitting, "save_arrays", 1)', "model.safetensors"),
    "the summary": ('at(folder.RunFolder, "write_summary", 1)', "summary.json"),
}


@pytest.fixture(scope="module", autouse=True)
def _often():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHUNK", 10)
        patch.setattr(fitting, "SAVE_EVERY", 0.0)
        yield


@pytest.fixture(scope="module")
def options(table, tiny):
    return ("fit", table, *tiny, "--steps", STEPS)


@pytest.fixture(scope="module")
def whole(cli, options, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert cli(*options, "--out", run).code == 0
    return run


@pytest.mark.parametrize(("moment", "named"), MOMENTS.values(), ids=MOMENTS)
def test_a_disk_that_fills_up(shell, cli, options, whole, metrics, tmp_path, moment, named):
    run = tmp_path / "run"
    result = shell(*options, "--out", run, before=OFTEN + moment)
    assert result.code == 1, result.err
    assert f"cannot write {run / named}" in result.err.replace("a checkpoint to ", "")
    assert "too large" in result.err.lower(), "the system's own reason"
    assert not list(run.glob("*.partial"))

    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    assert metrics(run) == metrics(whole)
    weights = "model.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_disk_that_is_full_from_the_start(shell, options, tmp_path):
    run = tmp_path / "run"
    result = shell(*options, "--out", run, before=FULL)
    assert result.code == 1
    assert f"cannot write {run}/config.json" in result.err
    assert "free or choose another place" in result.err


@pytest.mark.parametrize("place", ["/proc/nowhere/run", "{file}/run"])
def test_a_run_folder_that_cannot_be(cli, options, tmp_path, place):
    (tmp_path / "file").write_text("text")
    run = place.format(file=tmp_path / "file")
    result = cli(*options, "--out", run)
    assert result.code == 1, result.err
    assert f"cannot create {run}" in result.err
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet", ".png"])
@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}", "{none}"])
def test_samples_that_cannot_be_written(cli, trained, tmp_path, suffix, place):
    (tmp_path / "file").write_text("text")
    folder = place.format(file=tmp_path / "file", none=tmp_path / "none")
    out = f"{folder}/x{suffix}"
    result = cli("sample", trained, "-n", 2, "--out", out)
    assert result.code == 1, result.err
    assert f"cannot write {out}" in result.err
    assert "None" not in result.err
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_densities_that_cannot_be_written(cli, trained, table, tmp_path, suffix):
    out = tmp_path / "none" / f"x{suffix}"
    result = cli("nll", trained, table, "--json", "--out", out)
    assert result.code == 1, result.err
    assert f"cannot write {out}" in result.err


def test_what_stood_there_is_kept_when_the_disk_is_full(shell, cli, trained, tmp_path):
    before = {}
    for suffix in (".npy", ".csv", ".png"):
        out = tmp_path / f"x{suffix}"
        assert cli("sample", trained, "-n", 3, "--out", out).code == 0
        before[out] = out.read_bytes()
    for out, content in before.items():
        result = shell("sample", trained, "-n", 5, "--out", out, before=FULL)
        assert result.code == 1, result.err
        assert f"cannot write {out}" in result.err
        assert out.read_bytes() == content
        assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_run_is_read_where_nothing_can_be_written(shell, trained, table, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    result = shell("nll", run, table, "--json", before=FULL)
    # Standard output is a pipe here, not a file.
    assert result.code == 0, result.err
    assert '"nats_mean"' in result.out
