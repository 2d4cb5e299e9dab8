"""State dicts of guided-diffusion and improved-diffusion: an unconditional `UNetModel`.

They hold neither the schedule nor the number of heads, so options say them.
"""

import re
from functools import partial

import numpy as np

from scoreode.errors import InputError, unknown
from scoreode.model.weights.files import Weights
from scoreode.model.weights.published import Options, Published
from scoreode.network import DDPM
from scoreode.network.filling import fill
from scoreode.network.published_ddpm import of_guided
from scoreode.process import Discrete
from scoreode.steps import Steps

FIRST = "input_blocks.0.0.weight"
_LABELS = "label_emb.weight"
_SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
_STEPS = 1000


def read(weights: Weights, options: Options) -> Published:
    """A `UNetModel` that predicts the noise, with learnt variances or without.

    **Raises:** `InputError`, and `ValueError` or `KeyError`, for weights that do not fit.
    """
    if options.schedule is None:
        raise InputError(
            f"{weights.path}: weights do not tell the betas; give --schedule linear or cosine"
        )
    if options.schedule not in _SCHEDULES:
        raise InputError(unknown("schedule", options.schedule, _SCHEDULES))
    if _LABELS in weights.tree:
        raise InputError(f"{weights.path}: is conditional on classes ({_LABELS}); others are read")
    n = options.steps or _STEPS
    scale = _STEPS / n  # of the linear betas, and of the steps that the network is told
    steps = Steps(_SCHEDULES[options.schedule], n, scale * 1e-4, scale * 0.02)
    arrays = weights.arrays(weights.tree)
    spec = _spec(arrays, steps, options)
    name = partial(of_guided, by_part=options.new_attention_order)
    network = fill(spec, int(np.prod(spec.image_shape)), name, arrays)
    return Published(spec, network, spec.image_shape, Discrete(steps=steps))


def _spec(arrays: dict[str, np.ndarray], steps: Steps, options: Options) -> DDPM:
    sizes = options.sizes
    levels = len(sizes["multipliers"])
    numbers = [re.match(r"input_blocks\.(\d+)\.", name) for name in arrays]
    blocks = len({found[1] for found in numbers if found})
    width = arrays["time_embed.0.weight"].shape[1]
    first = arrays["input_blocks.1.0.emb_layers.1.weight"]
    return DDPM(
        **sizes,  # pyright: ignore[reportArgumentType]
        width=width,
        depth=(blocks - levels) // levels,
        heads=options.heads or 1,
        head_channels=options.head_channels,
        steps=steps,
        eps=1e-5,
        film=len(first) == 2 * len(arrays["input_blocks.1.0.out_layers.3.weight"]),
        by_blocks=not any(re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", n) for n in arrays),
        pad_after=False,
        cosine_first=True,
        shift=0,
        unit=steps.n / _STEPS,
    )
