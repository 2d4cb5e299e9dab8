"""Published weights of every format: our networks compute what the published code computes."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_models import RECORDS, SIZES, arrays_of, diffusers, guided, score_sde, write
from safetensors.numpy import save_file
from torch_files import Archive, save

from scoreode.errors import InputError
from scoreode.model.convert import convert
from scoreode.model.weights.published import Options
from scoreode.score import Data, Noise, Velocity

DDPM, TODAY = "diffusers: as ddpm-cifar10-32", "diffusers: other options"
NCSNPP, DDPMPP = "score_sde: NCSN++", "score_sde: DDPM++"
GUIDED = "guided-diffusion: convolutions"


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", RECORDS)
def test_outputs_are_those_of_the_published_code(tmp_path, name):
    fitted = convert(*write(name, tmp_path))
    network, process = fitted.density.score_model.network, fitted.run.objective.process
    forward = eqx.filter_jit(jax.tree.map(lambda leaf: leaf.astype(jnp.float64), network))
    y = np.random.default_rng(0).normal(size=192)
    assert len(RECORDS[name]["outputs"]) == 2
    for level, expected in RECORDS[name]["outputs"]:
        steps = getattr(process, "steps", None)
        log_snr = jnp.asarray(level, jnp.float64)
        log_snr = log_snr if steps is None else steps.log_snr(log_snr)
        # NCSN++'s first layer takes x_t, from x_t / √(1 + σ²).
        scale = np.sqrt(1 + np.exp(-log_snr)) if getattr(fitted.run.network, "raw", False) else 1
        found = forward(jnp.asarray(y / scale), log_snr)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.std(expected))


def test_steps_and_averages_of_score_sde(tmp_path):
    fitted = convert(*score_sde(NCSNPP, tmp_path))
    assert fitted.steps == 7
    weight = arrays_of(NCSNPP)["all_modules.3.weight"]
    found = fitted.density.score_model.network.first.weight
    np.testing.assert_array_equal(found, weight)  # the average's, not the model's


def test_a_state_dict_of_score_sde_as_safetensors(tmp_path):
    save_file(arrays_of(DDPMPP), tmp_path / "a.safetensors")
    fitted = convert(tmp_path / "a.safetensors", Options(**SIZES))
    assert type(fitted.run.network).__name__ == "DDPMpp"


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    arrays, options = arrays_of(DDPMPP), Options(**SIZES)
    file = tmp_path / "a.pth"
    cases = [
        ({"all_modules.2.Conv_0.bias": np.zeros(3)}, "all_modules|Conv_0"),
        ({"other": np.zeros(3)}, "other: not of NCSN"),
        ({"all_modules.99.weight": np.zeros((3, 3))}, "Dense_2/kernel is left over"),
        ({"all_modules.2.weight": "text"}, "all_modules.2.weight is not an array"),
    ]
    for more, said in cases:
        with pytest.raises(InputError, match=said):
            convert(save(arrays | more, file), options)
    names = list(arrays)
    ema = {"shadow_params": [arrays[name] for name in names[1:]]}
    with pytest.raises(InputError, match="no moving average"):
        convert(save({"model": arrays, "ema": ema}, file), options)
    ema = {"shadow_params": [arrays[name] for name in names[::-1]]}
    with pytest.raises(InputError, match=rf"average of {names[0]} has shape"):
        convert(save({"model": arrays, "ema": ema}, file), options)
    with pytest.raises(InputError, match="--schedule: says nothing about"):
        convert(save(arrays, file), Options(schedule="linear"))
    with pytest.raises(InputError, match="not the weights of a known network"):
        convert(save({"a": np.zeros(3)}, file))
    with pytest.raises(InputError, match="holds no state dict"):
        convert(Archive().write(file, b"\x80\x02K\x01."))


@pytest.mark.parametrize(
    ("kind", "parametrisation"),
    [("epsilon", Noise), ("sample", Data), ("v_prediction", Velocity)],
)
def test_what_a_network_of_diffusers_predicts(tmp_path, kind, parametrisation):
    folder, _ = diffusers(TODAY, tmp_path / "a", scheduler={"prediction_type": kind})
    fitted = convert(folder)
    assert type(fitted.run.parametrisation) is parametrisation
    # The middle of a byte's cell is where training had the byte: b / 127.5 − 1.
    z = fitted.density.bijection.forward(np.array([[0.5], [255.5]]))[0]
    np.testing.assert_allclose(z, [[-1], [1]])


CONFIGS = {
    "class_embed_type": ("timestep", "class_embed_type is 'timestep', and only None"),
    "new_option": (None, "new_option is not known"),
    "act_fn": ("gelu", "act_fn is 'gelu'"),
    "down_block_types": (["DownBlock2D", "SkipDownBlock2D"], "SkipDownBlock2D"),
    "up_block_types": (["UpBlock2D", "UpBlock2D"], "no mirror images"),
    "downsample_padding": (2, "downsample_padding 2"),
    "resnet_time_scale_shift": ("scale_shift", "attn_norm_num_groups"),
    "block_out_channels": ([8, 12], "no multiples"),
    "norm_num_groups": (3, "cannot be divided into 3 groups"),
    "out_channels": (6, "in_channels and out_channels differ"),
    "sample_size": (None, "config.json"),
    "layers_per_block": (2, "is missing"),
    "_class_name": ("UNet2DConditionModel", "UNet2DConditionModel"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_that_are_not_known_are_refused_by_name(tmp_path, name):
    value, said = CONFIGS[name]
    folder, _ = diffusers(DDPM, tmp_path / "a", config={name: value})
    with pytest.raises(InputError, match=said):
        convert(folder)


SCHEDULERS = {
    "beta_schedule": ("sigmoid", "beta_schedule 'sigmoid'"),
    "trained_betas": ([0.1, 0.2], "trained_betas"),
    "rescale_betas_zero_snr": (True, "rescale_betas_zero_snr is True"),
    "prediction_type": ("flow", "prediction_type 'flow'"),
    "beta_end": (2, "beta_1"),
    "num_train_timesteps": ("many", "scheduler_config.json"),
    "_class_name": ("ScoreSdeVeScheduler", "ScoreSdeVeScheduler"),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_that_are_not_known_are_refused_by_name(tmp_path, name):
    value, said = SCHEDULERS[name]
    folder, _ = diffusers(DDPM, tmp_path / "a", scheduler={name: value})
    with pytest.raises(InputError, match=said):
        convert(folder)


def test_folders_without_their_files(tmp_path):
    folder, _ = diffusers(TODAY, tmp_path / "a")
    with pytest.raises(InputError, match="--heads: says nothing about"):
        convert(folder, Options(heads=2))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(InputError, match=r"give their folder, with config\.json"):
        convert(file)
    assert convert(folder / "unet").run == convert(folder).run  # the scheduler is found beside it
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged"):
        convert(folder)
    file.unlink()
    with pytest.raises(InputError, match="diffusion_pytorch_model"):
        convert(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        convert(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps([]))
    with pytest.raises(InputError, match="no configuration"):
        convert(folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InputError, match=r"scheduler_config\.json: no such file"):
        convert(folder)


def test_models_of_guided_diffusion_that_are_refused(tmp_path):
    file, options = guided(GUIDED, tmp_path)
    with pytest.raises(InputError, match="give --schedule linear or cosine"):
        convert(file, Options(**SIZES))
    classes = save(arrays_of(GUIDED) | {"label_emb.weight": np.zeros((10, 128))}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="conditional on classes"):
        convert(classes, options)
    with pytest.raises(InputError, match="cannot be divided into 5 heads"):
        convert(file, Options(**SIZES, schedule="linear", heads=5))


def test_more_steps_are_told_to_the_network_in_units_of_a_thousandth(tmp_path):
    file, _ = guided(GUIDED, tmp_path)
    fitted = convert(file, Options(**SIZES, schedule="linear", steps=4000))
    steps = fitted.run.objective.process.steps
    assert (steps.n, steps.beta_0, steps.beta_1) == (4000, 2.5e-5, 5e-3)
    features = fitted.run.network.features
    log_snr = steps.log_snr(jnp.asarray(2000.0))
    np.testing.assert_allclose(features(log_snr)[0], np.cos(500.0), atol=1e-3)
