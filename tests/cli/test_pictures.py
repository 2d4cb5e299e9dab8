"""A set of images through the command: bytes in, bits per dimension and pictures out."""

import hashlib
import json
import re
import shutil
import struct

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from environment import SCALED
from PIL import Image
from standard_errors import assert_mean

from scoreode.data import images, sources
from scoreode.errors import FailureError
from scoreode.network import UNet
from scoreode.report import figures, pixels
from scoreode.train import Rows, saved
from scoreode.train.samplers import Flipped


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A directory with a Fashion-MNIST of 60 and 6 pictures, taken for the published one."""
    root, patch = tmp_path_factory.mktemp("sets"), pytest.MonkeyPatch()
    (root / "fashion-mnist").mkdir()
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 6)):
        y, x = np.mgrid[:8, :6]
        waves = np.sin(0.2 * (x + rng.uniform(0, 20, (n, 1, 1))) + 0.1 * y)
        content = np.clip(128 + 100 * waves + 5 * rng.normal(size=(n, 8, 6)), 0, 255)
        written = struct.pack(">IIII", 2051, n, 8, 6) + content.astype(np.uint8).tobytes()
        file = root / "fashion-mnist" / f"{part}-images-idx3-ubyte"
        file.write_bytes(written)
        patch.setitem(images._IDX["fashion-mnist"], file.name, hashlib.md5(written).hexdigest())
    yield root
    patch.undo()


@pytest.fixture(scope="module")
def run(cli, sets, tmp_path_factory):
    run = tmp_path_factory.mktemp("pictures") / "run"
    options = ("--order", 1, "--width", 4, "--batch-size", 8, "--steps", 20, "--flip")
    result = cli("fit", "fashion-mnist", "--data-dir", sets, *options, "--out", run)
    assert result.code == 0, result.err
    return run


@pytest.mark.slow
def test_a_run_has_a_network_for_images(run):
    fitted = saved.load(run)
    assert fitted.run.network == UNet((8, 6, 1), width=4, multipliers=(1, 2))
    assert fitted.data.bin_width == 1
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


@pytest.mark.slow
def test_nll_is_in_bits_per_dimension(cli, run, sets, monkeypatch, tmp_path):
    monkeypatch.setenv("SCOREODE_DATA", str(sets))
    result = cli("nll", run, "fashion-mnist", "--json", "--out", tmp_path / "rows.csv")
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert (summary["n"], summary["d"]) == (6, 48)
    assert summary["bits_per_dim"] == pytest.approx(-summary["nats_mean"] / 48 / np.log(2))


@pytest.mark.slow
def test_runs_are_compared_by_few_probes_and_steps(cli, run, sets, tmp_path):
    options = ("fashion-mnist", "--data-dir", sets, "--json")
    summary = json.loads(cli("nll", run, "--n-probes", 4, "--tolerance", 0.05, *options).out)
    result = cli("compare", run, shutil.copytree(run, tmp_path / "other"), "--data", *options)
    assert result.code == 0, result.err
    found, _ = json.loads(result.out)["runs"]
    assert found["nats_mean"] == pytest.approx(summary["nats_mean"], rel=1e-6)
    assert found["probe_stderr"] == pytest.approx(summary["probe_stderr"], rel=1e-6)
    assert 2 < summary["bits_per_dim"] < 9


@pytest.mark.slow
def test_samples_are_pictures_of_bytes(cli, run, tmp_path):
    assert cli("sample", run, "-n", 3, "--out", tmp_path / "x.npy").code == 0
    drawn = np.load(tmp_path / "x.npy")
    assert drawn.shape == (3, 48)
    np.testing.assert_array_equal(drawn, np.round(drawn))
    sheet = tmp_path / "x.png"
    assert cli("sample", run, "-n", 3, "--out", sheet, "--sheet").code == 0
    assert images.folder(tmp_path).ndim == 4


def read(path):
    """The pixels of a PNG as it is."""
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.slow
def test_a_folder_has_a_file_of_true_pixels_for_every_image(cli, run, tmp_path):
    assert cli("sample", run, "-n", 3, "--out", tmp_path / "x.npy").code == 0
    drawn = np.load(tmp_path / "x.npy").reshape(3, 8, 6)
    result = cli("sample", run, "-n", 3, "--out", f"{tmp_path}/folder/")
    assert result.code == 0, result.err
    assert sorted(f.name for f in (tmp_path / "folder").iterdir()) == ["1.png", "2.png", "3.png"]
    for i in range(3):
        np.testing.assert_array_equal(read(tmp_path / "folder" / f"{i + 1}.png"), drawn[i])
    np.testing.assert_array_equal(images.folder(tmp_path / "folder")[..., 0], drawn)


@pytest.mark.slow
def test_one_image_is_a_file_of_true_pixels(cli, run, tmp_path):
    assert cli("sample", run, "-n", 1, "--out", tmp_path / "x.npy").code == 0
    assert cli("sample", run, "-n", 1, "--out", tmp_path / "x.png").code == 0
    pixels = np.load(tmp_path / "x.npy").reshape(8, 6)
    np.testing.assert_array_equal(read(tmp_path / "x.png"), pixels)


@pytest.mark.slow
def test_pictures_that_cannot_be_written_are_refused_before_any_work(cli, run, contents, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.txt").write_text("text")
    before = contents(tmp_path)
    refused = {
        ("-n", 3, "--out", folder): "folder is not empty",
        ("-n", 3, "--out", tmp_path / "x.png"): f"give --out {tmp_path / 'x'}/ for a file each",
        ("--out", tmp_path / "x.png"): "--sheet for all in one",
        ("--sheet", "--out", tmp_path / "x.npy"): "--sheet: is of images, in a .png",
    }
    for options, said in refused.items():
        result = cli("sample", run, *options)
        assert result.code == 2, options
        assert said in result.said
    assert contents(tmp_path) == before


def test_a_table_has_no_pictures_one_a_file(cli, trained, tmp_path):
    for options, said in {
        ("--out", tmp_path / "folder"): "a folder takes images, a table one of .csv",
        ("--out", tmp_path / "x.png", "--sheet"): "--sheet: is of images",
    }.items():
        result = cli("sample", trained, "-n", 2, *options)
        assert result.code == 2
        assert said in result.said
    assert not list(tmp_path.iterdir())


def test_a_folder_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    written = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2, 1)
    pixels.write_folder(written, tmp_path / "good")
    names = [f.name for f in sorted((tmp_path / "good").iterdir())]
    assert names == [f"{i:02}.png" for i in range(1, 13)]
    np.testing.assert_array_equal(images.folder(tmp_path / "good"), written)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(FailureError, match="No space left"):
        pixels.write_folder(written, tmp_path / "bad")
    assert [f.name for f in tmp_path.iterdir()] == ["good"]


def test_zero_is_black_and_nothing_is_stretched():
    dim = np.arange(40, 56.0).reshape(1, 16)
    np.testing.assert_array_equal(pixels.of_rows(dim, (4, 4), (0, 255)).ravel(), dim.ravel())
    levels = np.arange(17.0)[None]
    expected = np.rint(levels * 255 / 16).ravel()
    np.testing.assert_array_equal(pixels.of_rows(levels, (1, 17), (0, 16)).ravel(), expected)
    figure = figures.pictures(pixels.of_rows(dim, (4, 4, 1), (0, 255)), columns=1)
    (sheet,) = figure.axes[0].get_images()
    assert sheet.get_clim() == (0, 255)
    shown = np.asarray(sheet.get_array()).reshape(5, 5)[:4, :4]
    np.testing.assert_array_equal(shown.ravel(), dim.ravel())


@pytest.mark.slow
def test_runs_know_what_is_black_and_white(cli, run, tiny, tmp_path):
    assert saved.load(run).pixel_range == (0, 255)
    digits = tmp_path / "digits"
    assert cli("fit", "digits", *tiny, *SCALED, "--steps", 5, "--out", digits).code == 0
    assert saved.load(digits).pixel_range == (0, 16)
    assert cli("sample", digits, "-n", 2, "--out", tmp_path / "x.npy").code == 0
    assert cli("sample", digits, "-n", 2, "--out", tmp_path / "folder").code == 0
    drawn = np.load(tmp_path / "x.npy").reshape(2, 8, 8)
    for i in range(2):
        pixel = read(tmp_path / "folder" / f"{i + 1}.png")
        np.testing.assert_array_equal(pixel, np.rint(drawn[i] * 255 / 16))


@pytest.mark.slow
def test_least_likely_images_have_the_names_of_their_files(cli, run, sets, tmp_path):
    folder, out = tmp_path / "own", tmp_path / "page.html"
    folder.mkdir()
    test = images.read("fashion-mnist", sets).test
    for i in range(6):
        Image.fromarray(test[i, ..., 0]).save(folder / f"photo-{'fedcba'[i]}.png")
    few = ("--samples", 2, "--rows", 4)
    result = cli("report", run, "--data", folder, *few, "--out", out)
    assert result.code == 0, result.err
    text = out.read_text()
    assert '<th scope="col">file</th>' in text
    for number, name in re.findall(r'<th scope="row">(\d)</th><td>(photo-\w.png)</td>', text):
        assert name == f"photo-{'abcdef'[int(number) - 1]}.png"
    assert text.count("photo-") == 4


def test_held_out_images_are_known_by_their_place_in_the_folder(tmp_path):
    folder = tmp_path / "own"
    pixels.write_folder(
        np.random.default_rng(0).integers(0, 255, (20, 4, 4, 1), np.uint8), tmp_path / "own"
    )
    data = sources.load_data(str(folder), seed=3, validation=0.3)
    all_rows = images.folder(folder).reshape(20, -1)
    origin = data.origins["validation"]
    assert origin.part == ""
    np.testing.assert_array_equal(all_rows[origin.numbers], data.validation)


def test_a_set_that_is_not_there(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("SCOREODE_DATA", raising=False)
    result = cli("fit", "cifar10")
    assert result.code == 2
    assert "SCOREODE_DATA" in result.err
    result = cli("fit", "cifar10", "--data-dir", tmp_path)
    assert result.code == 2
    assert "cifar.html" in result.err
