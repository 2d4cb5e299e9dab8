"""Fréchet distances and class scores against closed forms and SciPy; statistics in files."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

from scoreode.errors import InputError
from scoreode.evaluate.quality import FEATURES, Moments, class_score, frechet_distance, of_images


def moments(seed, k):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(k, k))
    return Moments(rng.normal(size=k), factor @ factor.T)


@given(k=st.integers(1, 12), seed=st.integers(0, 1000))
@example(k=10, seed=710)  # a covariance of condition 2·10¹⁰
def test_the_distance_is_that_of_the_matrix_square_root(k, seed):
    a, b = moments(seed, k), moments(seed + 1, k)
    root = sqrtm(a.covariance @ b.covariance).real
    spread = np.trace(a.covariance + b.covariance - 2 * root)
    truth = np.sum((a.mean - b.mean) ** 2) + spread
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * np.trace(a.covariance))


@given(
    stds=st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=8),
    shift=st.floats(-5, 5),
    seed=st.integers(0, 100),
)
def test_common_axes_have_a_closed_form(stds, shift, seed):
    """Σ (σ_1 − σ_2)² and the squared shift; also where covariances are singular."""
    s, k = np.array(stds), len(stds)
    axes = ortho_group.rvs(k, random_state=seed) if k > 1 else np.eye(1)
    a, b = (
        Moments(np.full(k, mean), (axes * column**2) @ axes.T)
        for mean, column in zip((0.0, shift), s.T, strict=True)
    )
    truth = np.sum((s[:, 0] - s[:, 1]) ** 2) + k * shift**2
    # Rounding of an eigenvalue 0 by ε tr Σ is one of its root by √ε.
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-6, abs=1e-5 * (1 + s.sum() ** 2))


def test_the_distance_of_draws_falls_to_zero_with_their_number():
    """Two samples of one law: about tr Σ / n from each mean, and more from the covariances."""
    rng = np.random.default_rng(0)
    distance = [
        np.mean(
            [frechet_distance(*(Moments.of(rng.normal(size=(n, 4))) for _ in "ab")) for _ in "abcd"]
        )
        for n in (100, 10_000)
    ]
    assert 8 / 100 < distance[0] < 3 * 8 / 100
    assert distance[1] == pytest.approx(distance[0] / 100, rel=0.7)


def test_features_of_different_networks_are_refused():
    with pytest.raises(InputError, match="3 features and 4 features"):
        frechet_distance(moments(0, 3), moments(0, 4))
    with pytest.raises(InputError, match="1 images: a covariance"):
        Moments.of(np.ones((1, 4)))


@given(classes=st.integers(1, 20), times=st.integers(1, 5))
def test_the_score_counts_classes(classes, times):
    """K if each image is surely of one of K classes alike; 1 if predictions say nothing."""
    logits = np.tile(1e4 * np.eye(classes), (times, 1))
    mean, std = class_score(logits, splits=1)
    assert mean == pytest.approx(classes)
    assert std == 0
    assert class_score(np.tile(np.arange(5.0), (30, 1)))[0] == pytest.approx(1)


def test_the_score_is_over_parts():
    logits = np.random.default_rng(0).normal(size=(40, 7))
    with pytest.raises(InputError, match="9 images: the score needs 10"):
        class_score(logits[:9])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    whole = np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), axis=1)))
    assert class_score(logits, splits=1) == pytest.approx((whole, 0))
    mean, std = class_score(logits, splits=4)
    assert 1 < mean < whole  # parts have marginals of their own, nearer to their images
    assert 0 < std < mean - 1


def test_statistics_come_back(tmp_path):
    a = moments(3, 5)
    a.write(tmp_path / "a.npz")
    again = Moments.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.mean, a.mean)
    np.testing.assert_array_equal(again.covariance, a.covariance)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(3)}, "not statistics with mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, "do not fit"),
        ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.nan)}, "not finite"),
        ({"mu": np.array([{}]), "sigma": np.eye(1)}, "not statistics"),  # would be unpickled
    ],
)
def test_other_files_are_not_statistics(arrays, message, tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        Moments.read(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="not statistics"):
        Moments.read(path)


def test_grey_images_are_shown_in_three_colours_in_order():
    images = np.arange(150, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    seen = []

    def network(images):
        return images.reshape(len(images), -1).astype(float), None

    features, logits = of_images(network, images, lambda done, _: seen.append(done))
    np.testing.assert_array_equal(features, np.arange(150)[:, None] * np.ones((1, 12)))
    assert logits is None
    assert seen[-1] == 150


def test_a_network_that_sees_finds_noise_further_than_other_pictures():
    """Needs the extra `quality`; the sky's gradient twice, and noise."""
    pytest.importorskip("efficientnet_lite_pytorch")
    network, rng = FEATURES["efficientnet-lite0"](None), np.random.default_rng(0)
    slopes = rng.uniform(0, 3, size=(60, 1, 1, 3))
    sky = np.linspace(0, 60, 32)[:, None, None] * slopes + rng.uniform(0, 60, slopes.shape)
    sky = np.broadcast_to(sky, (60, 32, 32, 3)).astype(np.uint8)
    noise = rng.integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
    first, second, other = (
        Moments.of(of_images(network, images)[0]) for images in (sky[:30], sky[30:], noise)
    )
    assert frechet_distance(first, other) > 3 * frechet_distance(first, second)
