"""NCSN++ with VE and DDPM++ with VP, from the checkpoints of score_sde and score_sde_pytorch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scoreode.errors import InputError
from scoreode.model.standardise import Centring
from scoreode.model.weights.files import Weights
from scoreode.model.weights.published import CIFAR10, Options, Published
from scoreode.network import NCSNpp
from scoreode.network.published import flax_of_torch, from_flax, spec_of
from scoreode.process import VE, VP

# Pixels from −1 to 1, twice as far apart as in [0, 1]: bytes and their noise are in [0, 256).
PIXELS = Centring(np.array([128.0]), np.array([128.0]))
PIXELS_VE = VE(0.02, 100.0)
MODULES = "all_modules."
_AVERAGE = "params_ema"  # the moving average of the weights, which is what is evaluated
_BUFFER = "sigmas"  # levels of discrete models
_FEATURES = "all_modules.0.W"  # not trained, so without an average
_WRAPPED = "module."


def read(weights: Weights, options: Options) -> Published:
    """NCSN++ (VE, σ from 0.01 to 50 for pixels in [0, 1]) or DDPM++ (VP).

    **Raises:** `InputError`, and `ValueError` or `KeyError`, for weights that do not fit.
    """
    options.check(weights.path, *CIFAR10)
    params = _params(weights)
    spec = spec_of(params, **options.sizes)  # pyright: ignore[reportArgumentType]
    process = PIXELS_VE if isinstance(spec, NCSNpp) else VP()
    steps = weights.tree.get("step", 0)
    network, shape = from_flax(spec, params), spec.image_shape
    steps = int(steps) if isinstance(steps, int | np.ndarray) else 0
    return Published(spec, network, shape, process, pixels=PIXELS, steps=steps)


def _params(weights: Weights) -> Mapping[str, Any]:
    """The average of the weights, as Flax has them; the weights where there is no average."""
    if weights.flax:
        params = weights.tree.get(_AVERAGE)
        if not isinstance(params, Mapping):
            raise InputError(
                f"{weights.path}: holds no {_AVERAGE}; a training state of Flax is expected"
            )
        return params
    tree = weights.tree
    model, ema = tree.get("model"), tree.get("ema")
    state = model if isinstance(model, Mapping) else tree
    arrays = {name.removeprefix(_WRAPPED): a for name, a in weights.arrays(state).items()}
    arrays.pop(_BUFFER, None)
    if isinstance(ema, Mapping):
        arrays |= _average(weights, ema, arrays)
    return flax_of_torch(arrays)


def _average(
    weights: Weights, ema: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The average by name: a list, in the order of the model's trained parameters."""
    shadow = ema.get("shadow_params")
    names = [name for name in arrays if name != _FEATURES]
    if not isinstance(shadow, list) or len(shadow) != len(names):
        raise InputError(f"{weights.path}: holds no moving average of the model's parameters")
    average = weights.arrays(dict(zip(names, shadow, strict=True)))
    for name, array in average.items():
        if array.shape != arrays[name].shape:
            raise InputError(
                f"{weights.path}: the moving average of {name} has shape {array.shape} where"
                f" {arrays[name].shape} is expected"
            )
    return average
