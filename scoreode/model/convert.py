"""Published checkpoints of diffusion models of images, as finished runs."""

from pathlib import Path

import numpy as np

from scoreode.data import Dataset, Description
from scoreode.errors import InputError
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Chain
from scoreode.model.weights import diffusers, files, guided, score_sde
from scoreode.model.weights.published import Options, Published
from scoreode.model.weights.score_sde import PIXELS, PIXELS_VE
from scoreode.objective import DenoisingScoreMatching
from scoreode.score import ScoreModel

__all__ = ["PIXELS", "PIXELS_VE", "Options", "convert"]


def convert(checkpoint: Path, options: Options = Options()) -> Fitted:
    """A published model of bytes: NCSN++, DDPM++, or a U-Net of DDPM; see `files.FORMATS`.

    **Arguments:** `options`, what the weights do not tell.

    **Raises:** `InputError` for a file that is no such checkpoint, naming what does not fit.
    """
    if checkpoint.is_dir():
        found = diffusers.read(checkpoint, options)
    else:
        found = _of_file(checkpoint, options)
    run = Run(
        DenoisingScoreMatching(found.process, order=1),
        parametrisation=found.parametrisation,
        network=found.spec,
        standardise="centre",
        batch_size=128,
        learning_rate=2e-4,
    )
    score_model = ScoreModel(found.process, found.parametrisation, found.network)
    density = Density(Chain((found.pixels,)), score_model)
    return Fitted(run, density, _description(found.image_shape), found.steps, 0, None)


def _of_file(checkpoint: Path, options: Options) -> Published:
    """The model in a file, whose names say what it is."""
    weights = files.read(checkpoint)
    names = [name for name in weights.tree if isinstance(name, str)]
    of_score_sde = "ema" in names or any(score_sde.MODULES in name for name in names)
    try:
        if weights.flax or of_score_sde:
            return score_sde.read(weights, options)
        if guided.FIRST in names:
            return guided.read(weights, options)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{checkpoint}: {error}") from error
    if "conv_in.weight" in names:
        raise InputError(
            f"{checkpoint}: weights of diffusers; give their folder, with config.json and"
            " scheduler_config.json"
        )
    raise InputError(f"{checkpoint}: not the weights of a known network; read are {files.FORMATS}")


def _description(shape: tuple[int, int, int]) -> Description:
    columns = tuple(f"pixel_{i}_{j}_{c}" for i, j, c in np.ndindex(shape))
    nothing = np.zeros((0, len(columns)), np.uint8)
    data = Dataset("", nothing, nothing, nothing, columns, bin_width=1.0, image_shape=shape)
    return Description.of(data)
