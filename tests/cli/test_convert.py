"""Published checkpoints through the command: the same score, and clear words for other files."""

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from published import fourier, weights

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
