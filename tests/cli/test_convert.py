"""Published checkpoints through the command: the same score, and clear words for other files."""

import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import msgpack
import numpy as np
import pytest
from published import fourier, weights
from published_models import diffusers
from torch_files import Archive, Call, Global, pickled

from scoreode.network import DDPM
from scoreode.network.published_ddpm import of_diffusers
from scoreode.train import saved


def packed(tree):
    """As Flax writes it: arrays are extension type 1."""

    def array(value):
        content = (value.shape, value.dtype.name, value.tobytes())
        return msgpack.ExtType(1, msgpack.packb(content))

    return msgpack.packb(tree, default=array)


@pytest.fixture(scope="module")
def published():
    params, model = weights("ncsnpp")
    return {"step": 1300, "params_ema": params, "lr": 2e-4}, model


OPTIONS = ("--image-shape", 8, 12, 3, "--multipliers", 1, 2, "--attention", 4)


@pytest.mark.slow
def test_the_score_is_the_published_one(cli, published, tmp_path):
    state, model = published
    file, out = tmp_path / "checkpoint_1", tmp_path / "run"
    file.write_bytes(packed(state))
    result = cli("convert", file, "--out", out, *OPTIONS)
    assert result.code == 0, result.err
    fitted = saved.load(out)
    assert fitted.steps == 1300
    assert fitted.data.bin_width == 1
    rng, sigma = np.random.default_rng(0), 0.3
    x = rng.uniform(0, 256, (8, 12, 3))
    x_t = x + 256 * sigma * rng.normal(size=x.shape)
    expected = model(2 * x_t / 256 - 1, fourier(state["params_ema"], sigma)) / sigma / 256
    process = fitted.run.objective.process
    t = float(process.t_of_log_snr(jnp.asarray(-2 * np.log(2 * sigma))))
    found = fitted.density.score(x_t.reshape(1, -1), t)
    np.testing.assert_allclose(found[0], expected.ravel(), atol=1e-4 * np.std(expected))


def test_other_files(cli, published, tmp_path):
    whole = packed(published[0])
    one_layer = {"Conv_0": {"kernel": np.zeros((3, 3, 3, 8))}}
    cases = {
        "cut": (whole[: len(whole) // 2], "cut short"),
        "text": (b"x0,x1\n1,2\n", "not a checkpoint"),
        "bare": (packed({"step": 1}), "holds no params_ema"),
        "other": (packed({"params_ema": one_layer}), "missing"),
    }
    for name, (content, said) in cases.items():
        file = tmp_path / name
        file.write_bytes(content)
        result = cli("convert", file, "--out", tmp_path / "run", *OPTIONS)
        assert result.code == 2
        assert said in result.said
        assert not (tmp_path / "run").exists()
    assert cli("convert", tmp_path / "none", "--out", tmp_path / "run").code == 2


@pytest.mark.slow
def test_a_converted_model_is_a_run_like_any_other(cli, tmp_path):
    """Of weights that predict no noise the ODE scales, so that the density is known: a Gaussian."""
    spec = DDPM((4, 4, 3), 8, (1,), 1, attention=(), attend_in_middle=False, groups=4)
    net = eqx.filter_eval_shape(lambda key: spec.build((48,), key), jr.key(0))
    arrays = {name: np.zeros(leaf.shape, np.float32) for name, leaf, _ in of_diffusers(net)}
    blocks = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
    config = blocks | {"block_out_channels": [8], "sample_size": 4, "add_attention": False}
    schedule = {"beta_schedule": "linear", "num_train_timesteps": 50, "beta_end": 0.2}
    folder, _ = diffusers("tiny", tmp_path / "pipeline", config, schedule, arrays)
    run = tmp_path / "run"
    result = cli("convert", folder, "--out", run)
    assert result.code == 0, result.err
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    result = cli("nll", run, tmp_path / "images.npy", "--json")
    assert result.code == 0, result.err
    process = saved.load(run).run.objective.process
    ends = jnp.float32(process.t_min), jnp.float32(process.t_max)
    scale = float(process.alpha(ends[0]) / process.alpha(ends[1]) * process.prior_scale())
    # An image's mean square over its cells: that of their middles, and 1/12.
    z = np.mean(((images + 0.5 - 128) / 127.5) ** 2) + 1 / 12 / 127.5**2
    nats = math.log(127.5 * scale * math.sqrt(2 * math.pi)) + 0.5 * z / scale**2
    found = json.loads(result.out)
    np.testing.assert_allclose(found["bits_per_dim"], nats / math.log(2), atol=2e-3)
    how = ("--method", "dpm", "--steps", 4)
    result = cli("sample", run, "-n", 2, "--out", tmp_path / "samples.npy", *how)
    assert result.code == 0, result.err
    samples = np.load(tmp_path / "samples.npy")
    assert samples.size == 2 * 48
    alone = cli("verify", run)
    assert alone.code == 2
    assert "no rows of its own" in alone.said
    result = cli("verify", run, tmp_path / "images.npy", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["itself"]["unconverged"] == 0
    assert not any(found["itself"]["asymmetry"])
    # s = 0, and the density of x_t is N(0, v) with v from the end, where it is the prior's.
    t = jnp.asarray(found["itself"]["t"])
    alpha, sigma = (np.asarray(jax.vmap(f)(t)) for f in (process.alpha, process.sigma))
    v = (alpha * scale / float(process.alpha(ends[0]))) ** 2
    mean_square = alpha**2 * z + sigma**2
    draws = 3 * 48
    expected, error = sigma**2 * mean_square / v**2, np.sqrt(2 / draws)
    np.testing.assert_allclose(found["itself"]["own_score"], expected, rtol=4 * error)
    result = cli("report", run, "--data", tmp_path / "images.npy", "--out", tmp_path / "page.html")
    assert result.code == 0, result.err
    assert "bits/dim" in (tmp_path / "page.html").read_text()


def test_a_hostile_file_is_refused_and_not_executed(cli, tmp_path):
    target = tmp_path / "written"
    file = tmp_path / "model.pth"
    Archive().write(file, pickled({"model": Call(Global("os", "system"), f"touch {target}")}))
    result = cli("convert", file, "--out", tmp_path / "run")
    assert result.code == 2
    assert "os.system" in result.said
    assert not target.exists()
    assert not (tmp_path / "run").exists()
