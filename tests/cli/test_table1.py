"""`scoreode reproduce cifar10-ve-…`: pre-training, fine-tuning, and the published number."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from PIL import Image
from untrained import untrained

from scoreode.data import downsampled, from_images
from scoreode.data.images import Images
from scoreode.model.build import blank_density
from scoreode.model.config import Run, from_json, to_json
from scoreode.network import NCSNpp
from scoreode.objective import DenoisingScoreMatching, UniformTime
from scoreode.process import VE
from scoreode.reproduce import table1
from scoreode.reproduce.paper import TABLE_1
from scoreode.score import Noise
from scoreode.train import saved, trainer


@pytest.fixture
def few_steps(monkeypatch):
    """A preset of few steps of a small network."""
    steps = ({"steps": 4}, {"steps": 2})
    sizes = {"width": 4, "process": VE(0.01, 10.0), "budgets": steps, "test_rows": 4}
    unet = table1.Preset(**sizes, depth=None, batch_size=4)
    monkeypatch.setitem(table1.PRESETS, "cpu-10min", unet)
    monkeypatch.setattr(table1, "_SAMPLING", table1.DPMSolver(4))


@pytest.fixture
def small(monkeypatch, request):
    """Few small pictures, in place of the set of that name."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(60, 200, (80, 1, 1, 3)) + 10 * rng.normal(size=(80, 3, 3, 3))
    pixels = np.clip(colours, 0, 255).astype(np.uint8)
    name = getattr(request, "param", "cifar10")
    data = from_images(name, Images(pixels[:64], pixels[64:]), 0, 0.1)
    monkeypatch.setattr(table1, "data_of", lambda *_: data)
    return name


@pytest.fixture
def quickly(few_steps, monkeypatch):  # noqa: ARG001 (fewer than its steps)
    """No training at all: for what is said beside the numbers."""
    monkeypatch.setattr(trainer, "train", untrained)


@pytest.mark.slow
@pytest.mark.usefixtures("small", "few_steps")
def test_a_row(cli, tmp_path):
    out = tmp_path / "row"
    result = cli("reproduce", "cifar10-ve-second", "--preset", "cpu-10min", "--out", out)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["published_bits_per_dim"] == 3.44
    lines = result.out.splitlines()
    assert len(lines) < 10, "a table, and not all that summary.json holds"
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["published"] == ["3.44", "for", "cifar10"]
    assert "the authors' has σ_max²" in " ".join(rows["prior"])
    assert summary["published_on"] == summary["data"] == "cifar10"
    assert rows["fine-tuned"][:2] == ["2", f"{summary['fine_tuned']['bits_per_dim']:.4f}"]
    assert rows["change"][0] == f"{summary['change_bits_per_dim']:.4f}"
    for stage, steps in (("pre_trained", 4), ("fine_tuned", 2)):
        assert 2 < summary[stage]["bits_per_dim"] < 10
        assert summary[stage]["n"] == 4
        assert summary[stage]["steps"] == steps
    bits = [summary[stage]["bits_per_dim"] for stage in ("pre_trained", "fine_tuned")]
    # The same images, noise and probes: the difference is known far better than either.
    assert summary["change_bits_per_dim"] == pytest.approx(bits[1] - bits[0], abs=1e-9)
    assert 0 < summary["change_stderr"] < summary["fine_tuned"]["bits_per_dim_stderr"]
    assert (out / "samples.png").read_bytes().startswith(b"\x89PNG")
    before, after = (saved.load(out / stage) for stage in ("pre-trained", "fine-tuned"))
    assert after.run.objective.order == 2
    # Two small steps from the same weights: near, and not the same.
    one, two = (
        np.concatenate([np.ravel(a) for a in jax.tree.leaves(fitted.density.score_model)])
        for fitted in (before, after)
    )
    assert 0 < np.linalg.norm(one - two) < 0.1 * np.linalg.norm(one)


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("small", ["imagenet32", "imagenet32-old"], indirect=True)
def test_a_published_number_stands_beside_its_own_set_alone(cli, tmp_path, small):
    """Both sets are called ImageNet 32 × 32, and differ by about 0.3 bits/dim."""
    out = tmp_path / "row"
    options = ("--preset", "cpu-10min", "--data", small, "--out", out)
    result = cli("reproduce", "imagenet32-ve-third", *options)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["data"], summary["published_on"]) == (small, "imagenet32-old")
    if small == "imagenet32-old":
        assert summary["published_bits_per_dim"] == 4.04
        assert "published              4.04 for imagenet32-old" in result.out
    else:
        assert summary["published_bits_per_dim"] is None
        assert "nothing for imagenet32; this number of Table 1 is for imagenet32-old" in result.out
        assert "4.04" not in result.out
    assert f"test images of {small}\n" in result.out


def test_a_row_reads_the_set_that_its_number_is_for(cli, tmp_path, monkeypatch):
    """The other set in its place is not taken, and what to download is said."""
    (tmp_path / "imagenet32").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3072), np.uint8)
    for name in [f"train_data_batch_{i}" for i in range(1, 11)] + ["val_data"]:
        np.savez(tmp_path / "imagenet32" / name, data=pixels)
    options = ("--preset", "cpu-10min", "--data-dir", tmp_path, "--out", tmp_path / "row")
    result = cli("reproduce", "imagenet32-ve", *options)
    assert result.code == 2
    assert "has no imagenet32-old/train_32x32.tar" in result.err
    assert "academictorrents.com" in result.err
    assert not (tmp_path / "row").exists()
    chosen = table1.data_of("imagenet32-ve", "cpu-10min", 0, tmp_path, "imagenet32")
    assert (chosen.name, len(chosen.train), len(chosen.test)) == ("imagenet32", 300, 30)

    for part, n in (("train_32x32", 4), ("valid_32x32", 2)):
        (tmp_path / part).mkdir()
        monkeypatch.setitem(downsampled.PARTS, part, n)
        for i in range(n):
            Image.fromarray(pixels[i].reshape(32, 32, 3)).save(tmp_path / part / f"{i}.png")
    own = table1.data_of("imagenet32-ve", "cpu-10min", 0, tmp_path)
    assert (own.name, len(own.train), len(own.test)) == ("imagenet32-old", 4, 2)


@pytest.mark.slow
def test_weights_are_carried_over_to_a_network_that_recomputes():
    spec = NCSNpp((4, 4, 3), width=4, multipliers=(1,), depth=1, attention=())
    run = Run(DenoisingScoreMatching(VE()), network=spec, standardise="centre")
    density = blank_density(run, 48)
    again = replace(run, network=replace(spec, recompute=True))
    carried = table1.carry_over(density, again)
    assert carried.score_model.network.spec.recompute
    x, t = jr.normal(jr.key(0), (48,)), jnp.asarray(0.3)
    found, expected = (eqx.filter_jit(d.score_model)(x, t) for d in (carried, density))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_name_of_table_1_is_a_row():
    assert set(TABLE_1) == set(table1.ROWS)
    assert table1.ROWS["imagenet32-ve-deep-second"] == table1.Row("imagenet32-old", True, 2, 4.05)
    assert table1.ROWS["cifar10-ve"] == table1.Row("cifar10", False, 1, 3.66)


def test_published_settings_differ_by_the_set():
    cifar, imagenet = (
        table1._run(table1.ROWS[name], table1.PRESETS["full"], (32, 32, 3), 1, 0)
        for name in ("cifar10-ve-deep", "imagenet32-ve")
    )
    assert (cifar.flip, cifar.network.dropout, cifar.network.depth) == (True, 0.1, 8)
    assert (imagenet.flip, imagenet.network.dropout, imagenet.network.depth) == (False, 0.0, 4)


@pytest.mark.parametrize(
    ("name", "order", "batch"),
    [("cifar10-ve", 1, 128), ("cifar10-ve-second", 2, 128), ("imagenet32-ve-deep-third", 3, 48)],
)
def test_as_published_is_as_the_authors_configurations_say(name, order, batch):
    row, variant = table1.ROWS[name], table1.Variant(as_published=True)
    size, shape = table1.PRESETS["full"], (32, 32, 3)
    before = table1._run(row, size, shape, 1, 0, variant)
    after = table1._run(row, size, shape, order, 1, variant)
    assert (before.objective.order, after.objective.order) == (1, order)
    assert (before.batch_size, after.batch_size) == (128, batch)
    # Fine-tuning goes on with the steps; both have warmed up after 5000.
    assert (before.steps, after.steps) == (950_000, 1_000_000)
    for run in (before, after):
        schedule = saved._optimiser(run).schedule
        rates = [float(schedule(jnp.float32(step / run.steps))) for step in (2500, 6000, run.steps)]
        assert rates == pytest.approx([1e-4, 2e-4, 2e-4], rel=1e-3)
        assert (run.b2, run.clip, run.ema_decay) == (0.999, 1.0, 0.999)
        assert run.objective.weighting == UniformTime(stratified=False)
        assert run.parametrisation == Noise()
        # σ from 0.01 to 50 for pixels in [0, 1], which the network is told, and sees as 2 x − 1.
        process, network = run.objective.process, run.network
        assert (process.sigma_min / network.unit, process.sigma_max / network.unit) == (0.01, 50)
        assert network.raw
        assert from_json(to_json(run)) == run
    today = table1._run(row, size, shape, 1, 0)
    assert (today.learning_rate_decay, today.b2, today.batch_size) == (True, 0.99, 128)
    assert today.objective.weighting.stratified


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cifar10-ve", ("--as-published", "--preset", "cpu-10min"), "is for --preset full"),
        ("cifar10-ve", ("--as-published", "--quick"), "is for --preset full"),
        ("mog", ("--as-published",), "--as-published is for the rows of Table 1"),
        ("checkerboard", ("--trace-only",), "--trace-only is for the rows of Table 1"),
        ("cifar10-ve-deep", ("--trace-only",), "for cifar10-ve-deep-second and cifar10-ve-deep-th"),
    ],
)
def test_variants_are_for_some_rows(cli, tmp_path, name, options, said):
    result = cli("reproduce", name, *options, "--out", tmp_path / "x")
    assert result.code == 2
    assert said in result.said
    assert not (tmp_path / "x").exists()


@pytest.fixture
def own_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    np.save(tmp_path / "own.npy", pixels)
    return tmp_path / "own.npy"


@pytest.mark.slow
def test_a_row_as_published(cli, tmp_path, monkeypatch, own_images):
    """Its fine-tuning goes on from the state of pre-training, in the published coordinates."""
    steps = ({"steps": 3}, {"steps": 2})
    sizes = {"width": 4, "depth": 1, "process": VE(), "budgets": steps, "test_rows": 2}
    monkeypatch.setitem(table1.PRESETS, "full", table1.Preset(**sizes))
    monkeypatch.setattr(table1, "_SAMPLING", table1.DPMSolver(2))
    monkeypatch.setattr(table1, "_BATCHES", {1: 4, 2: 2})
    full = table1._run

    def flat(*arguments):
        run = full(*arguments)
        return replace(run, network=replace(run.network, multipliers=(1,)))

    monkeypatch.setattr(table1, "_run", flat)
    out = tmp_path / "row"
    options = ("--as-published", "--trace-only", "--data", own_images, "--out", out)
    result = cli("reproduce", "cifar10-ve-second", *options)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["as_published"], summary["trace_only"]) == (True, True)
    assert (summary["pre_trained"]["steps"], summary["fine_tuned"]["steps"]) == (3, 5)
    assert json.loads((out / "fine-tuned/config.json").read_text())["command"].count("--") == 5
    before, after = (saved.load(out / stage) for stage in ("pre-trained", "fine-tuned"))
    assert (before.run.batch_size, after.run.batch_size) == (4, 2)
    assert (after.run.objective.lambda1.value, after.run.objective.lambda1_trace.value) == (0, 1)
    for fitted in (before, after):
        (pixels,) = fitted.density.bijection.parts
        assert (pixels.mean, pixels.scale) == (128, 128)
        assert fitted.density.score_model.radius is None
    first, second = (saved.state(out / stage) for stage in ("pre-trained", "fine-tuned"))
    counts = [int(state.moments[1].count) for state in (first, second)]
    assert counts == [int(first.step), int(second.step)] == [3, 5]
    nu = [jax.tree.leaves(state.moments[1].nu) for state in (first, second)]
    for earlier, later in zip(*nu, strict=True):
        assert np.all(np.asarray(later) >= 0.999**2 * np.asarray(earlier) * (1 - 1e-5))


def test_a_set_that_is_not_there_leaves_nothing(cli, tmp_path):
    out = tmp_path / "row"
    options = ("--preset", "cpu-10min", "--data-dir", tmp_path, "--out", out)
    result = cli("reproduce", "cifar10-ve", *options)
    assert result.code == 2
    assert "cifar.html" in result.err
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
def test_a_row_of_ones_own_images(cli, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 3, 3), np.uint8)
    np.save(tmp_path / "own.npy", pixels)
    source, out = tmp_path / "own.npy", tmp_path / "row"
    options = ("--preset", "cpu-10min", "--data", source, "--out", out)
    result = cli("reproduce", "cifar10-ve-third", *options)
    assert result.code == 0, result.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["data"] == str(source)
    assert f"nothing for {source}; this number of Table 1 is for cifar10" in result.out
    assert summary["published_bits_per_dim"] is None
    assert summary["fine_tuned"]["n"] == 4, "a tenth, which no training has seen"
    run = saved.load(out / "fine-tuned").run
    assert not run.flip, "one's own may not be turned"
    held_out = table1.data_of("cifar10-ve", "cpu-10min", 0, None, str(source))
    assert (len(held_out.train), len(held_out.validation), len(held_out.test)) == (36, 0, 4)


@pytest.mark.parametrize(
    ("preset", "shape", "said"),
    [
        ("cpu-10min", (40, 5), "is a model of images"),
        ("cpu-10min", (4, 8, 8, 3), "too few images"),
        ("full", (40, 12, 16, 3), "cannot be halved three times"),
    ],
)
def test_images_that_a_row_cannot_take(cli, tmp_path, preset, shape, said):
    dtype = np.uint8 if len(shape) == 4 else float
    np.save(tmp_path / "own.npy", np.random.default_rng(0).integers(0, 256, shape).astype(dtype))
    options = ("--preset", preset, "--data", tmp_path / "own.npy", "--out", tmp_path / "row")
    result = cli("reproduce", "cifar10-ve", *options)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "row").exists()


@pytest.mark.parametrize("option", [("--preset", "full"), ("--data", "mnist")])
def test_presets_are_for_images(cli, tmp_path, option):
    result = cli("reproduce", "mog", *option, "--out", tmp_path / "x")
    assert result.code == 2
    assert "--quick" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkerboard", "cifar10-ve"])
def test_constants_are_for_mog(cli, tmp_path, name):
    result = cli("reproduce", name, "--constants", "authors", "--out", tmp_path / "x")
    assert result.code == 2
    assert f"--constants is for mog, not for {name}" in result.err
    assert not (tmp_path / "x").exists()
