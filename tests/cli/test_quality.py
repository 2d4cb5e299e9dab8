"""`quality` with a network that anyone can compute, and what it refuses."""

import json

import numpy as np
import pytest

from scoreode.cli.commands import quality
from scoreode.data import images
from scoreode.evaluate.quality import Moments, frechet_distance


def network(images):
    """Mean colour and contrast of the picture's halves; logits that tell bright from dark."""
    x = images.astype(np.float64).mean(3)
    features = np.stack([x[:, :14].mean((1, 2)), x[:, 14:].mean((1, 2)), x.std((1, 2))], 1)
    return features, np.stack([features[:, 2], features[:, 0]], 1) / 10


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    monkeypatch.setitem(quality.FEATURES, "inception", lambda _: network)
    without_classes = lambda images: (network(images)[0], None)  # noqa: E731
    monkeypatch.setitem(quality.FEATURES, "efficientnet-lite0", lambda _: without_classes)


@pytest.fixture
def samples(tmp_path):
    """Forty images of 28 × 28, as `sample` writes them."""
    path = tmp_path / "samples.npy"
    pixels = np.random.default_rng(1).integers(0, 200, (40, 784))
    np.save(path, pixels.astype(np.float64))
    return path


@pytest.fixture
def sets(monkeypatch):
    """A set called mnist, whose training part is brighter than its test part."""
    rng = np.random.default_rng(0)
    parts = {
        "train": rng.integers(50, 256, (300, 28, 28, 1)).astype(np.uint8),
        "test": rng.integers(0, 200, (200, 28, 28, 1)).astype(np.uint8),
    }
    monkeypatch.setattr(images, "read", lambda *_: images.Images(**parts))
    return parts


def test_the_distance_is_that_of_the_moments(cli, samples, sets):
    drawn = np.load(samples).reshape(-1, 28, 28, 1)
    for part in ("train", "test"):
        result = cli("quality", samples, "mnist", "--split", part, "--json")
        truth = frechet_distance(*(Moments.of(network(x)[0]) for x in (drawn, sets[part])))
        assert json.loads(result.out)["frechet_distance"] == pytest.approx(truth, rel=1e-9)


@pytest.mark.usefixtures("sets")
def test_fid_and_inception_score_are_of_the_inception_network_alone(cli, samples):
    assert "FID" not in cli("quality", samples, "mnist").out
    result = cli("quality", samples, "mnist", "--features", "inception", "--weights", "here")
    assert result.out.startswith("FID ")
    assert "Inception Score" in result.out
    assert "Inception Score" not in cli("quality", samples, "mnist").out


def test_statistics_are_kept_and_taken(cli, samples, sets, tmp_path):
    kept = tmp_path / "mnist.npz"
    first = cli("quality", samples, "mnist", "--statistics", kept).out
    sets["train"][:] = 0  # which must not be looked at again
    assert cli("quality", samples, "mnist", "--statistics", kept).out == first
    kept.write_bytes(kept.read_bytes()[:100])
    result = cli("quality", samples, "mnist", "--statistics", kept)
    assert result.code == 2
    assert "not statistics" in result.said


@pytest.mark.usefixtures("sets")
def test_few_samples_are_told_of(cli, tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((3, 784)))
    assert "3 samples for 3 features" in cli("quality", tmp_path / "few.npy", "mnist").err


@pytest.mark.usefixtures("sets")
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((5, 700)), "700 columns, but images of mnist are (28, 28, 1)"),
        (np.full((5, 784), 0.5), "whole numbers from 0 to 255"),
        (np.full((5, 784), 256.0), "whole numbers from 0 to 255"),
        (np.full((5, 784), np.nan), "missing, infinite or huge"),
    ],
)
def test_rows_that_are_no_images(cli, rows, message, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    result = cli("quality", tmp_path / "rows.npy", "mnist")
    assert result.code == 2
    assert message in result.said


def test_ones_own_images(cli, samples, sets, tmp_path):
    np.save(tmp_path / "own.npy", sets["train"])
    result = cli("quality", samples, tmp_path / "own.npy", "--json")
    same = cli("quality", samples, "mnist", "--json")
    distances = [json.loads(each.out)["frechet_distance"] for each in (result, same)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-9)
    for source, message in {
        tmp_path / "own.npy": "has no test part",
        samples: "not a set of images",
        "digits": "not a set of images",
    }.items():
        refused = cli("quality", samples, source, "--split", "test")
        assert refused.code == 2
        assert message in refused.said


@pytest.mark.usefixtures("sets")
def test_an_extra_that_is_missing(cli, samples, monkeypatch):
    from scoreode.evaluate.quality import features

    monkeypatch.setitem(quality.FEATURES, "inception", features.inception)
    monkeypatch.setattr(features, "importlib", Nothing)
    result = cli("quality", samples, "mnist", "--features", "inception")
    assert result.code == 1
    assert "pip install 'scoreode[quality]'" in result.said


class Nothing:
    """An environment without PyTorch."""

    @staticmethod
    def import_module(name):
        raise ModuleNotFoundError(name=name)
