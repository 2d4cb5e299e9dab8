"""Sets of the Hugging Face Hub and folders of images, read from folders that are laid out so."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from scoreode.data import sources
from scoreode.errors import InputError
from scoreode.evaluate.rows import blocks

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Nothing is asked of the network, and nothing kept but here."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def pictures(folder, n, channels=3, side=8):
    """Images in a folder, and their pixels."""
    folder.mkdir(parents=True)
    pixels = RNG.integers(0, 256, (n, side, side, channels), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image.squeeze()).save(folder / f"{i:02}.png")
    return pixels


def tables(folder, **parts):
    """A set of tables, a part in every file."""
    folder.mkdir()
    for part, columns in parts.items():
        pl.DataFrame(columns).write_parquet(folder / f"{part}-00000-of-00001.parquet")
    return f"hf:{folder}"


@pytest.mark.parametrize("channels", [1, 3])
def test_images(tmp_path, channels):
    train = pictures(tmp_path / "set" / "train", 6, channels)
    test = pictures(tmp_path / "set" / "test", 3, channels)
    data = sources.load_data(f"hf:{tmp_path / 'set'}", validation=0.0)
    assert (data.image_shape, data.bin_width) == ((8, 8, channels), 1.0)
    found = {row.tobytes() for row in data.train}
    assert found == {image.tobytes() for image in train}, "as a set: fit shuffles them"
    np.testing.assert_array_equal(data.test, test.reshape(3, -1))


def test_tables(tmp_path):
    a, b = RNG.normal(size=(2, 9))
    columns = {"a": a, "b": b.astype(np.float32)}
    parts = {"train": columns, "validation": {"a": [1.0], "b": [2.0]}, "test": {"a": a, "b": a}}
    source = tables(tmp_path / "set", **parts)
    data = sources.load_data(source)
    assert data.columns == ("a", "b")
    np.testing.assert_array_equal(data.train, np.stack([a, columns["b"]], 1))
    np.testing.assert_array_equal(data.validation, [[1.0, 2.0]])
    names, (rows,) = blocks(source, "test")
    assert names == data.columns
    # A column has one type in all parts.
    np.testing.assert_array_equal(rows, np.stack([a, a.astype(np.float32)], 1))


def test_one_table_is_split(tmp_path):
    a = RNG.normal(size=(40, 2))
    data = sources.load_data(tables(tmp_path / "set", train={"a": a[:, 0], "b": a[:, 1]}))
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 0)
    both = np.concatenate([data.train, data.validation])
    np.testing.assert_array_equal(both[np.argsort(both[:, 0])], a[np.argsort(a[:, 0])])
    with pytest.raises(InputError, match="has no test rows, only train, validation"):
        blocks(data.name, "test")


def test_training_is_split_where_no_part_is_for_validation(tmp_path):
    a = RNG.normal(size=20)
    data = sources.load_data(tables(tmp_path / "set", train={"a": a}, test={"a": a[:5]}))
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 5)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([data.train, data.validation]), 0)[:, 0], np.sort(a)
    )
    np.testing.assert_array_equal(data.test[:, 0], a[:5])


def test_what_is_not_to_be_had(tmp_path):
    with pytest.raises(InputError, match=r"hf:nobody/nothing: cannot be loaded: .*nobody/nothing"):
        sources.load_data("hf:nobody/nothing")
    text = tables(tmp_path / "text", train={"a": [1.0, 2.0], "b": ["x", "y"]})
    with pytest.raises(InputError, match=r"text \(train\): column 'b' is not numeric: row 1"):
        sources.load_data(text)
    with pytest.raises(InputError, match="no train part, but test"):
        sources.load_data(tables(tmp_path / "tested", test={"a": [1.0, 2.0]}))
    pictures(tmp_path / "unlike" / "train", 2)
    Image.new("L", (8, 8)).save(tmp_path / "unlike" / "train" / "02.png")
    with pytest.raises(InputError, match="image 3: 8 × 8, grey, but image 1 is 8 × 8, colour"):
        sources.load_data(f"hf:{tmp_path / 'unlike'}")


def test_a_folder_of_images(tmp_path, monkeypatch):
    pixels = pictures(tmp_path / "photos", 9)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    data = sources.load_data("photos", validation=0.2)
    assert (len(data.train), len(data.validation), len(data.test)) == (7, 2, 0)
    assert data.image_shape == (8, 8, 3)
    columns, (rows,) = blocks("photos", "test")
    assert columns == data.columns
    np.testing.assert_array_equal(rows, pixels.reshape(9, -1), "all, in the order of their names")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: contains no images"):
        sources.load_data("empty")
    pictures(tmp_path / "one", 1)
    with pytest.raises(InputError, match="one: 1 row, not enough to fit a density"):
        sources.load_data("one")
