"""Sets that are neither copied nor put on the device whole: they train and resume as others do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scoreode import ScoreODE
from scoreode.data import Description, Stored, sources, stored
from scoreode.errors import InputError
from scoreode.evaluate.rows import blocks
from scoreode.model.build import prepare
from scoreode.model.config import Run
from scoreode.network import MLP
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE
from scoreode.train import Windows
from scoreode.train.batches import batches


@pytest.fixture
def large(monkeypatch):
    """Every file is."""
    monkeypatch.setattr(stored, "LARGE", 0)
    monkeypatch.setattr(stored, "BLOCK", 7)


@given(st.data())
def test_it_reads_like_an_array(data):
    rows = data.draw(hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)))
    numbers = st.integers(0, len(rows) - 1)
    order = np.array(data.draw(st.lists(numbers, min_size=1, unique=True)))
    found, expected = Stored(rows, order), rows[order]
    assert (len(found), found.shape, found.dtype) == (len(order), expected.shape, rows.dtype)
    np.testing.assert_array_equal(found[:], expected)
    part = data.draw(st.slices(len(order)))
    np.testing.assert_array_equal(found[part], expected[part])
    picked = np.array(data.draw(st.lists(st.integers(0, len(order) - 1))), int)
    np.testing.assert_array_equal(found[picked], expected[picked])
    np.testing.assert_array_equal(found.take(picked)[:], expected[picked])
    np.testing.assert_array_equal(found.along[:], rows[np.sort(order)])


@pytest.mark.usefixtures("large")
def test_a_large_array_is_split_as_a_small_one(tmp_path, monkeypatch):
    path = str(tmp_path / "rows.npy")
    np.save(path, np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    found = sources.load_data(path, seed=3)
    monkeypatch.setattr(stored, "LARGE", 10**9)
    expected = sources.load_data(path, seed=3)
    assert isinstance(found.train, Stored)
    assert not isinstance(expected.train, Stored)
    for part in ("train", "validation"):
        np.testing.assert_array_equal(getattr(found, part)[:], getattr(expected, part))
    other = Description.of(sources.load_data(path, seed=4))
    assert Description.of(found).fingerprint == Description.of(found).fingerprint
    assert Description.of(found).fingerprint != other.fingerprint, "of other training rows"


@pytest.mark.usefixtures("large")
def test_bad_rows_are_named_as_in_small_arrays(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 2))
    rows[41, 1] = np.nan
    path = tmp_path / "rows.npy"
    np.save(path, rows)
    with pytest.raises(InputError, match=r"in row 42, column x1 \(the first is NaN\)"):
        sources.load_data(str(path))
    rows[:, 1] = 3.0
    np.save(path, rows)
    data, run = sources.load_data(str(path)), Run(DenoisingScoreMatching(VE()))
    with pytest.raises(InputError, match=r"constant column x1: .*\(among the 45 rows"):
        prepare(run, data)


def test_windows_hold_all_rows_alike():
    """Of n rows, m windows of k hold each m k / n times, give or take a multinomial's spread."""
    n, k, m = 40, 100, 50
    of = lambda rows: lambda _key, _n: rows  # noqa: E731
    windows = Windows(Stored(np.arange(n), np.arange(n)), k, 0, of)
    at = lambda windows, step: windows.at(step)(None, k)  # noqa: E731
    read = [at(windows, step) for step in range(m)]
    counts = np.bincount(np.concatenate(read), minlength=n)
    expected = m * k / n
    chi2 = np.sum((counts - expected) ** 2 / expected)
    assert abs(chi2 - (n - 1)) < 4 * np.sqrt(2 * (n - 1))
    windows.prepare(7)
    np.testing.assert_array_equal(at(windows, 7), read[7], "read ahead")
    windows.prepare(7)
    np.testing.assert_array_equal(at(windows, 5), read[5], "another than was read ahead")
    other = Windows(np.arange(n), k, 1, of)
    assert not np.array_equal(at(other, 7), read[7]), "by the seed"


@pytest.mark.usefixtures("large")
def test_bytes_stay_bytes_until_they_are_drawn(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 6, 3), np.uint8)
    path = str(tmp_path / "images.npy")
    np.save(path, pixels)
    data = sources.load_data(path)
    assert (data.image_shape, data.bin_width) == ((4, 6, 3), 1.0)
    assert Description.of(data).bin_range == (0, 255)
    run = Run(DenoisingScoreMatching(VE()), network=MLP(8, 1), standardise="centre")
    windows = batches(data, prepare(run, data)[1].bijection, window=8)
    window = windows.at(0)
    assert window.sampler.rows.rows.dtype == np.uint8
    assert window.sampler.rows.rows.shape == (8, 72)
    columns, (rows,) = blocks(path, "test")
    assert columns == data.columns
    np.testing.assert_array_equal(rows, pixels.reshape(20, -1))


@pytest.mark.slow
@pytest.mark.usefixtures("large")
def test_it_learns_a_normal():
    """As one in memory does: the NLL of new rows is the entropy, within what 1000 rows tell."""
    x = np.random.default_rng(0).normal(size=(3000, 1)) * 3 + 5
    est = ScoreODE(order=1, network=MLP(16, 1), steps=400, random_state=0).fit(x)
    new = np.random.default_rng(1).normal(size=(1000, 1)) * 3 + 5
    truth = -0.5 * ((new - 5) / 3) ** 2 - np.log(3 * np.sqrt(2 * np.pi))
    below = truth.ravel() - est.score_samples(new)
    assert -3 * below.std() / 1000**0.5 < below.mean() < 0.02 + 3 * below.std() / 1000**0.5
