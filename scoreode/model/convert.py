"""Published checkpoints of score-based SDEs on images, as finished runs.

Flax keeps a checkpoint as one MessagePack map; arrays are its extension type 1, (shape, dtype,
bytes). Nothing in it is executed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import Dataset, Description
from scoreode.errors import InputError
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Centring, Chain
from scoreode.network import NCSNpp
from scoreode.network.published import from_flax, spec_of
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE, VP
from scoreode.score import Noise, ScoreModel

# Pixels from −1 to 1, twice as far apart as in [0, 1]: bytes and their noise are in [0, 256).
PIXELS = Centring(np.array([128.0]), np.array([128.0]))
PIXELS_VE = VE(0.02, 100.0)
_ARRAY = 1
_WEIGHTS = "params_ema"  # the moving average, which is what is evaluated


def convert(
    checkpoint: Path,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    **sizes: tuple[int, ...],
) -> Fitted:
    """A published NCSN++ (VE, σ from 0.01 to 50 for pixels in [0, 1]) or DDPM++ (VP).

    **Arguments:** `image_shape`, (h, w, c); `sizes`, the network's `multipliers` and `attention`
    where they are not those for CIFAR-10: weights do not tell them.

    **Raises:** `InputError` for a file that is no such checkpoint, naming what does not fit.
    """
    state = read(checkpoint)
    params = state.get(_WEIGHTS)
    if not isinstance(params, Mapping):
        raise InputError(f"{checkpoint}: holds no {_WEIGHTS}; a training state of Flax is expected")
    try:
        spec = spec_of(params, image_shape, **sizes)
        network = from_flax(spec, params)
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{checkpoint}: {error}") from error
    process = PIXELS_VE if isinstance(spec, NCSNpp) else VP()
    run = Run(
        DenoisingScoreMatching(process, order=1),
        parametrisation=Noise(),
        network=spec,
        standardise="centre",
        batch_size=128,
        learning_rate=2e-4,
    )
    density = Density(Chain((PIXELS,)), ScoreModel(process, Noise(), network))
    return Fitted(run, density, _description(image_shape), int(state.get("step", 0)), 0, None)


def _description(shape: tuple[int, int, int]) -> Description:
    columns = tuple(f"pixel_{i}_{j}_{c}" for i, j, c in np.ndindex(shape))
    nothing = np.zeros((0, len(columns)), np.uint8)
    data = Dataset("", nothing, nothing, nothing, columns, bin_width=1.0, image_shape=shape)
    return Description.of(data)


def read(path: Path) -> Mapping[str, Any]:
    """The maps and arrays of a Flax checkpoint. **Raises:** `InputError` if it is none."""
    import msgpack

    try:
        state = msgpack.unpackb(path.read_bytes(), ext_hook=_array, strict_map_key=False)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise InputError(f"{path}: not a checkpoint of Flax, or cut short ({error})") from error
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: not a checkpoint of Flax")
    return state


def _array(code: int, data: bytes) -> Any:
    import msgpack

    if code != _ARRAY:
        return None  # a scalar of the optimiser's: nothing that is wanted
    shape, dtype, values = msgpack.unpackb(data)
    dtype = dtype.decode() if isinstance(dtype, bytes) else dtype
    if np.dtype(dtype).kind not in "fiub":
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(values, dtype).reshape(shape)
