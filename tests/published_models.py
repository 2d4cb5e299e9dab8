"""Files of tiny published models, as their packages write them, and what the packages compute.

`model/published_outputs.json` holds, for each, the names and shapes of its parameters, and outputs
of the published code with the arrays of `random_weights`; `benchmarks/published_weights.py` wrote
it. Images are 8 × 8, of two resolutions with one block each and attention at 4.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from torch_files import random_weights, save

from scoreode.model.weights.published import Options

RECORDS = json.loads((Path(__file__).parent / "model" / "published_outputs.json").read_text())
SIZES = {"image_shape": (8, 8, 3), "multipliers": (1, 2), "attention": (4,)}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
CONFIG = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [8, 16],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 8,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
OTHER = {
    **{"attention_head_dim": 8, "downsample_padding": 1, "flip_sin_to_cos": True},
    **{"freq_shift": 0, "norm_eps": 1e-5, "dropout": 0.1},
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "variance_type": "fixed_large",
}


def arrays_of(name):
    return random_weights(RECORDS[name]["shapes"])


def score_sde(name, folder):
    """A checkpoint whose weights are not their average: that is a list besides."""
    arrays = arrays_of(name)
    average = [array for key, array in arrays.items() if key != "all_modules.0.W"]
    model = {"module.sigmas": np.linspace(0, 1, 5)}
    for key, array in arrays.items():
        model[f"module.{key}"] = array if key == "all_modules.0.W" else array + 1
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": average}
    state = {"optimizer": {"state": {}, "param_groups": [{"lr": 2e-4}]}, "model": model}
    return save(state | {"ema": ema, "step": 7}, folder / "checkpoint_8.pth"), Options(**SIZES)


def diffusers(name, folder, config=(), scheduler=(), arrays=None):
    """A pipeline: of old, in one folder, with PyTorch's file; of today, in two, as safetensors."""
    old = name.endswith("cifar10-32")
    arrays = arrays_of(name) if arrays is None else arrays
    folder.mkdir(exist_ok=True)
    unet, other = (folder, folder) if old else (folder / "unet", folder / "scheduler")
    unet.mkdir(exist_ok=True)
    other.mkdir(exist_ok=True)
    if old:
        for new, before in OLD.items():
            arrays = {key.replace(new, before): array for key, array in arrays.items()}
        save(arrays, unet / "diffusion_pytorch_model.bin")
    else:
        save_file(arrays, unet / "diffusion_pytorch_model.safetensors")
    cosine = {} if old else {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}
    settings = CONFIG | ({} if old else OTHER) | dict(config)
    (unet / "config.json").write_text(json.dumps(settings))
    settings = SCHEDULER | cosine | dict(scheduler)
    (other / "scheduler_config.json").write_text(json.dumps(settings))
    return folder, Options()


def guided(name, folder):
    file = save(arrays_of(name), folder / "ema_0.9999_000010.pt")
    if name.endswith("blocks"):
        return file, Options(**SIZES, schedule="cosine", head_channels=16, new_attention_order=True)
    return file, Options(**SIZES, schedule="linear", heads=4)


WRITERS = {"score_sde": score_sde, "diffusers": diffusers, "guided-diffusion": guided}


def write(name, folder):
    """The file or folder of a model, and the options that it takes."""
    return WRITERS[name.split(":")[0]](name, folder)
