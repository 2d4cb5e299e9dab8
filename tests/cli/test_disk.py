"""A disk that refuses: exit status 1, the path named, and what was saved before still there."""

import contextlib
import os
import resource

import pytest

from scoreode.train import RunFolder, checkpoint, saved

pytestmark = pytest.mark.usefixtures("often")

# Without the cache of compiled functions, whose files would be cut short for other tests, too.
FULL = """
import os, resource
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
"""
MOMENTS = {
    "metrics": (RunFolder, "append_metrics", 3, "metrics.jsonl"),
    "a checkpoint": (checkpoint.Checkpoints, "save", 4, "checkpoints"),
    "the model": (saved, "save_arrays", 1, "model.safetensors"),
    "the summary": (RunFolder, "write_summary", 1, "summary.json"),
}


def fill():
    """Lets no file grow any more, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


@pytest.fixture
def freed():
    """The limits of before, afterwards."""

    def freed():
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield freed
    freed()


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_disk_that_fills_up(cli, long, whole, same, freed, tmp_path, monkeypatch, moment):
    owner, name, count, named = moment
    run, original, calls = tmp_path / "run", getattr(owner, name), []

    def filled(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            fill()
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, filled)
        result = cli(*long, "--out", run)
    freed()
    assert result.code == 1, result.err
    assert f"cannot write {run / named}" in result.err.replace("a checkpoint to ", "")
    assert "too large" in result.err.lower(), "the system's own reason"
    assert not list(run.glob("*.partial*"))

    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run, whole)


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start(shell, long, tmp_path):
    run = tmp_path / "run"
    result = shell(*long, "--out", run, before=FULL)
    assert result.code == 1
    assert f"cannot write {run}/config.json" in result.err
    assert "make room, or choose another place" in result.err


@pytest.mark.parametrize("place", ["/proc/nowhere/run", "{file}/run"])
def test_a_run_folder_that_cannot_be(cli, long, tmp_path, place):
    (tmp_path / "file").write_text("text")
    run = place.format(file=tmp_path / "file")
    result = cli(*long, "--out", run)
    assert result.code == 1, result.err
    assert f"cannot create {run}" in result.err
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet", ".png"])
@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}", "{none}"])
def test_samples_that_cannot_be_written(cli, whole, tmp_path, suffix, place):
    (tmp_path / "file").write_text("text")
    folder = place.format(file=tmp_path / "file", none=tmp_path / "none")
    out = f"{folder}/x{suffix}"
    result = cli("sample", whole, "-n", 2, "--out", out)
    assert result.code == 1, result.err
    assert f"cannot write {out}" in result.err
    assert "None" not in result.err
    assert (tmp_path / "file").read_text() == "text"


def test_densities_that_cannot_be_written(cli, whole, table, tmp_path):
    out = tmp_path / "none" / "x.csv"
    result = cli("nll", whole, table, "--json", "--out", out)
    assert result.code == 1, result.err
    assert f"cannot write {out}" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet", ".png"])
def test_what_stood_there_is_kept_when_the_disk_is_full(cli, whole, freed, tmp_path, suffix):
    out = tmp_path / f"x{suffix}"
    assert cli("sample", whole, "-n", 3, "--out", out).code == 0
    before = out.read_bytes()
    fill()
    result = cli("sample", whole, "-n", 5, "--out", out, "--force")
    freed()
    assert result.code == 1, result.err
    assert f"cannot write {out}" in result.err
    assert out.read_bytes() == before
    assert os.listdir(tmp_path) == [out.name]


def test_a_run_is_read_where_nothing_can_be_written(cli, whole, table, freed):
    with contextlib.chdir("/"):
        fill()
        result = cli("nll", whole, table, "--json")
        freed()
    assert result.code == 0, result.err
    assert '"nats_mean"' in result.out


@pytest.mark.slow
def test_a_disk_that_fills_up_amid_a_checkpoint_is_said_in_one_line(shell, table, tiny, tmp_path):
    """Each limit is met at another place in Orbax, whose threads would each say why they fail."""
    for limit in (8000, 60_000):
        run = tmp_path / f"run-{limit}"
        options = (*tiny[:2], "--width", 64, "--depth", 2, "--steps", 5, "--quiet", "--out", run)
        full = FULL.replace("(0,", f"({limit},")
        result = shell("fit", table, *options, before=full)
        assert result.code == 1
        assert result.err.startswith(f"scoreode: cannot write a checkpoint to {run}/checkpoints")
        assert "File too large" in result.err
        assert len(result.err.splitlines()) == 1
