"""Folders that the diffusers package wrote, with a `UNet2DModel` and a scheduler of betas."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.errors import InputError, listing
from scoreode.model.weights.files import Weights
from scoreode.model.weights.files import read as read_file
from scoreode.model.weights.published import Options, Published
from scoreode.network import DDPM
from scoreode.network.filling import fill
from scoreode.network.published_ddpm import of_diffusers
from scoreode.process import Discrete
from scoreode.score import AbstractParametrisation, Data, Noise, Velocity
from scoreode.steps import SCHEDULES, Steps

WEIGHTS = "diffusion_pytorch_model"
_SUFFIXES = ".safetensors", ".bin"
_DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True}  # with attention
_UP = {"UpBlock2D": False, "AttnUpBlock2D": True}
_PARAMETRISATIONS: dict[str, type[AbstractParametrisation]] = {
    "epsilon": Noise,
    "sample": Data,
    "v_prediction": Velocity,
}
_SCHEDULERS = "DDPMScheduler", "DDIMScheduler", "PNDMScheduler"

# Defaults of the options that are read, and the only values of those that are not.
_NETWORK = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", *["AttnDownBlock2D"] * 3),
    "up_block_types": (*["AttnUpBlock2D"] * 3, "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "attn_norm_num_groups": None,
    "add_attention": True,
}
_NETWORK_ONLY = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "class_embed_type": None,
    "num_class_embeds": None,
}
_NETWORK_FREE = {"dropout", "num_train_timesteps"}  # of training
_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}
_SCHEDULER_ONLY = {"trained_betas": None, "rescale_betas_zero_snr": False}
_SCHEDULER_FREE = {  # of samplers
    *("variance_type", "clip_sample", "clip_sample_range", "thresholding", "sample_max_value"),
    *("dynamic_thresholding_ratio", "timestep_spacing", "steps_offset", "set_alpha_to_one"),
    *("skip_prk_steps", "timestep_values", "predict_epsilon", "tensor_format"),
}


def read(folder: Path, options: Options) -> Published:
    """A `UNet2DModel` with its scheduler: both in this folder, or each in its own inside.

    **Raises:** `InputError` for a file that is missing, for an option that is not known or has a
    value that is not, by its name, for `options` given, and for weights that do not fit.
    """
    options.check(folder)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = _first_file(
        *(place / "scheduler_config.json" for place in (folder, folder / "scheduler")),
        folder.parent / "scheduler" / "scheduler_config.json",
    )
    steps, parametrisation = _schedule(scheduler)
    weights = read_file(_first_file(*(unet / f"{WEIGHTS}{suffix}" for suffix in _SUFFIXES)))
    config_file = unet / "config.json"
    settings = _settings(config_file, _NETWORK, _NETWORK_ONLY, _NETWORK_FREE, ("UNet2DModel",))
    spec = _spec(config_file, settings, steps)
    network = _network(spec, weights)
    return Published(spec, network, spec.image_shape, Discrete(steps=steps), parametrisation)


def _network(spec: DDPM, weights: Weights) -> Any:
    arrays = weights.arrays(weights.tree)
    old = any(name.endswith(".proj_attn.weight") for name in arrays)
    d = int(np.prod(spec.image_shape))
    try:
        return fill(spec, d, lambda net: of_diffusers(net, old), arrays)
    except ValueError as error:
        raise InputError(f"{weights.path}: {error}") from error


def _first_file(*files: Path) -> Path:
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise InputError(f"{files[0]}: no such file; a folder of diffusers with a UNet2DModel is")
    return found


def _settings(
    file: Path,
    known: Mapping[str, Any],
    only: Mapping[str, Any],
    free: set[str],
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """The known options of a configuration, with their defaults.

    **Arguments:** `only`, the one value that each of these may have; `free`, those that change
    nothing here; `classes`, of what is configured.
    """
    try:
        config = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file}: no JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: no configuration of diffusers")
    if config.get("_class_name") not in classes:
        raise InputError(f"{file}: {config.get('_class_name')!r}; {listing(classes)} is read")
    found = dict(known)
    for name, value in config.items():
        if name.startswith("_") or name in free:
            continue
        if name in known:
            found[name] = tuple(value) if isinstance(value, list) else value
        elif name not in only:
            raise InputError(f"{file}: {name} is not known")
        elif value != only[name]:
            raise InputError(f"{file}: {name} is {value!r}, and only {only[name]!r} is read")
    return found


def _schedule(file: Path) -> tuple[Steps, AbstractParametrisation]:
    settings = _settings(file, _SCHEDULER, _SCHEDULER_ONLY, _SCHEDULER_FREE, _SCHEDULERS)
    kind, schedule = settings["prediction_type"], settings["beta_schedule"]
    if kind not in _PARAMETRISATIONS:
        raise InputError(f"{file}: prediction_type {kind!r}; {listing([*_PARAMETRISATIONS])}")
    if schedule not in SCHEDULES:
        raise InputError(f"{file}: beta_schedule {schedule!r}; {listing(SCHEDULES)} are read")
    betas = settings["beta_start"], settings["beta_end"]
    try:
        return Steps(schedule, settings["num_train_timesteps"], *betas), _PARAMETRISATIONS[kind]()
    except (ValueError, TypeError) as error:
        raise InputError(f"{file}: {error}") from error


def _spec(file: Path, settings: Mapping[str, Any], steps: Steps) -> DDPM:
    try:
        return _spec_of(settings, steps)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise InputError(f"{file}: {error}") from error


def _spec_of(settings: Mapping[str, Any], steps: Steps) -> DDPM:
    """**Raises:** `ValueError`, `TypeError` and the like for values that do not suit."""
    size, channels = settings["sample_size"], settings["block_out_channels"]
    height, width = size if isinstance(size, tuple) else (size, size)
    if settings["in_channels"] != settings["out_channels"]:
        raise ValueError("in_channels and out_channels differ")
    if any(c % channels[0] for c in channels):
        raise ValueError(f"block_out_channels {channels} are no multiples of the first")
    film, groups = settings["resnet_time_scale_shift"] == "scale_shift", settings["norm_num_groups"]
    if not film and settings["resnet_time_scale_shift"] != "default":
        raise ValueError(f"resnet_time_scale_shift {settings['resnet_time_scale_shift']!r}")
    if settings["attn_norm_num_groups"] not in ((groups,) if film else (None, groups)):
        raise ValueError("attn_norm_num_groups: only norm_num_groups is read")
    if settings["downsample_padding"] not in (0, 1):
        raise ValueError(f"downsample_padding {settings['downsample_padding']}: 0 and 1 are read")
    attends = _attends("down_block_types", settings, _DOWN)
    if attends != _attends("up_block_types", settings, _UP)[::-1] or len(attends) != len(channels):
        raise ValueError("down_block_types and up_block_types are no mirror images")
    return DDPM(
        (height, width, settings["in_channels"]),
        width=channels[0],
        multipliers=tuple(c // channels[0] for c in channels),
        depth=settings["layers_per_block"],
        attention=tuple(height >> i for i, here in enumerate(attends) if here),
        attend_in_middle=settings["add_attention"],
        head_channels=settings["attention_head_dim"],
        steps=steps,
        groups=groups,
        eps=settings["norm_eps"],
        film=film,
        pad_after=settings["downsample_padding"] == 0,
        cosine_first=settings["flip_sin_to_cos"],
        shift=settings["freq_shift"],
    )


def _attends(name: str, settings: Mapping[str, Any], known: Mapping[str, bool]) -> list[bool]:
    """Which blocks have attention. **Raises:** `ValueError` for a block that is not known."""
    for kind in settings[name]:
        if kind not in known:
            raise ValueError(f"{name} has {kind!r}; {listing([*known])} are read")
    return [known[kind] for kind in settings[name]]
