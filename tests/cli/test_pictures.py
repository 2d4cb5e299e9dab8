"""A set of images through the command: bytes in, bits per dimension and pictures out."""

import json
import shutil
import struct

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from standard_errors import assert_mean

from scoreode import fitting
from scoreode.batches import Flipped
from scoreode.data import images
from scoreode.network import UNet
from scoreode.train import Rows


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A directory with a Fashion-MNIST of 60 and 16 pictures."""
    root = tmp_path_factory.mktemp("sets")
    (root / "fashion-mnist").mkdir()
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 16)):
        y, x = np.mgrid[:28, :28]
        waves = np.sin(0.2 * (x + rng.uniform(0, 20, (n, 1, 1))) + 0.1 * y)
        content = np.clip(128 + 100 * waves + 5 * rng.normal(size=(n, 28, 28)), 0, 255)
        file = root / "fashion-mnist" / f"{part}-images-idx3-ubyte"
        file.write_bytes(struct.pack(">IIII", 2051, n, 28, 28) + content.astype(np.uint8).tobytes())
    return root


@pytest.fixture(scope="module")
def run(cli, sets, tmp_path_factory):
    run = tmp_path_factory.mktemp("pictures") / "run"
    options = ("--order", 1, "--width", 4, "--batch-size", 8, "--steps", 20, "--flip")
    result = cli("fit", "fashion-mnist", "--data-dir", sets, *options, "--out", run)
    assert result.code == 0, result.err
    return run


def test_a_run_has_a_network_for_images(run):
    fitted = fitting.load(run)
    assert fitted.run.network == UNet((28, 28, 1), width=4)
    assert fitted.data["bin_width"] == 1
    assert fitted.run.flip


def test_rows_of_a_table_are_not_turned(cli, tiny, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 3)))
    result = cli("fit", tmp_path / "x.npy", *tiny, "--flip", "--out", tmp_path / "run")
    assert result.code == 2
    assert "flip" in result.err
    assert not (tmp_path / "run").exists()


def test_images_are_turned_half_of_the_time():
    shape, n = (2, 3, 2), 4000
    image = np.arange(12.0).reshape(shape)
    sampler = Flipped(Rows(jnp.asarray(image.reshape(1, -1), jnp.float32)), shape)
    drawn = np.asarray(jax.jit(lambda key: sampler(key, n))(jr.key(0))).reshape(n, *shape)
    kept, turned = (np.all(drawn == x, axis=(1, 2, 3)) for x in (image, image[:, ::-1]))
    assert np.all(kept ^ turned)
    assert_mean(turned, 0.5)


def test_nll_is_in_bits_per_dimension(cli, run, sets, monkeypatch, tmp_path):
    monkeypatch.setenv("SCOREODE_DATA", str(sets))
    result = cli("nll", run, "fashion-mnist", "--json", "--out", tmp_path / "rows.csv")
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert (summary["n"], summary["d"]) == (16, 784)
    assert summary["bits_per_dim"] == pytest.approx(-summary["nats_mean"] / 784 / np.log(2))


def test_runs_are_compared_by_few_probes_and_steps(cli, run, sets, tmp_path):
    options = ("fashion-mnist", "--data-dir", sets, "--json")
    summary = json.loads(cli("nll", run, "--n-probes", 4, "--tolerance", 0.05, *options).out)
    result = cli("compare", run, shutil.copytree(run, tmp_path / "other"), "--data", *options)
    assert result.code == 0, result.err
    found, _ = json.loads(result.out)["runs"]
    assert found["nats_mean"] == pytest.approx(summary["nats_mean"], rel=1e-6)
    assert found["probe_stderr"] == pytest.approx(summary["probe_stderr"], rel=1e-6)
    assert 2 < summary["bits_per_dim"] < 9


def test_samples_are_pictures_of_bytes(cli, run, tmp_path):
    assert cli("sample", run, "-n", 3, "--out", tmp_path / "x.npy").code == 0
    drawn = np.load(tmp_path / "x.npy")
    assert drawn.shape == (3, 784)
    np.testing.assert_array_equal(drawn, np.round(drawn))
    assert cli("sample", run, "-n", 3, "--out", tmp_path / "x.png").code == 0
    assert images.folder(tmp_path).ndim == 4


def test_a_set_that_is_not_there(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("SCOREODE_DATA", raising=False)
    result = cli("fit", "cifar10")
    assert result.code == 2
    assert "SCOREODE_DATA" in result.err
    result = cli("fit", "cifar10", "--data-dir", tmp_path)
    assert result.code == 2
    assert "cifar.html" in result.err
