"""Where rows come from: a set by name, a table in a file, a folder of images, a set of the Hub."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from scoreode.data import hub, images, tables, toy
from scoreode.data.columns import Pick, everything
from scoreode.data.dataset import (
    Dataset,
    Origin,
    digits,
    from_images,
    from_rows,
    from_sampler,
    parted,
    split,
)
from scoreode.errors import InputError, check_seed, unknown

TOYS: dict[str, toy.AbstractToy] = {
    "mixture": toy.Mixture(),
    "checkerboard": toy.Checkerboard(),
    "8gaussians": toy.EightGaussians(),
    "moons": toy.Moons(),
    "circles": toy.Circles(),
    "rings": toy.Rings(),
    "swissroll": toy.SwissRoll(),
    "2spirals": toy.TwoSpirals(),
}
DATA_NAMES = (*TOYS, "digits", *images.SETS)


def is_named(source: str) -> bool:
    """Whether it is a set by name, which has a test part, and not by its place."""
    return source in DATA_NAMES or hub.is_id(source)


def is_folder(source: str) -> bool:
    """Whether it is a folder, of images; one that is called like a table is none."""
    called = tables.kind_of(source) in tables.READ
    return os.path.isdir(source) and not called and not tables.is_parts(source)


def pictures(source: str) -> images.Pixels | None:
    """The images in a folder or in an array of bytes; None of any other source."""
    return images.folder(source) if is_folder(source) else images.array(source)


def load_data(
    source: str,
    seed: int = 0,
    validation: float = 0.1,
    data_dir: Path | None = None,
    pick: Pick = everything,
) -> Dataset:
    """A data set by name, the table in a file or the images in a folder, split by the seed.

    **Arguments:** `data_dir`, where sets of images are (default: what SCOREODE_DATA names); `pick`,
    of all columns of a table those that are read.

    **Raises:** `InputError` for an unknown name (with the nearest) or what cannot be used.
    """
    check_seed(seed)
    if source in TOYS:
        return from_sampler(source, TOYS[source], seed)
    if source == "digits":
        return digits(seed)
    if source in images.SETS:
        return from_images(source, images.read(source, data_dir), seed, validation)
    found, place = _read(source, pick), None if hub.is_id(source) else os.path.abspath(source)
    if source == tables.STDIN:
        source, place = tables.STDIN_NAME, None
    if isinstance(found, images.Images):
        data = from_images(source, found, seed, validation)
    else:
        data = _from_parts(source, *found, seed, validation)
    if len(data.train) < 2:
        n = sum(map(len, (data.train, data.validation, data.test)))
        raise InputError(f"{source}: {n} row{'s' * (n > 1)}, not enough to fit a density")
    return replace(data, path=place)


def _from_parts(
    source: str,
    parts: dict[str, np.ndarray],
    columns: tuple[str, ...],
    seed: int,
    validation: float,
) -> Dataset:
    """Of a table, or of its parts; where validation is not among them, training is split."""
    if "all" in parts:
        return from_rows(source, parts["all"], columns, seed, validation)
    train, none = parts["train"], parts["train"][:0]
    held_out, test = (parts.get(part, none) for part in ("validation", "test"))
    if len(held_out):
        return Dataset(source, train, held_out, test, columns)
    drawn = {"validation": Origin(parted(len(train), seed, validation)[1], "train")}
    train, held_out, _ = split(train, seed, validation)
    return Dataset(source, train, held_out, test, columns, origins=drawn)


def _read(source: str, pick: Pick) -> images.Images | tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """A set of the Hub, the images in a folder, or the table in a file."""
    if source == tables.STDIN_NAME:
        raise InputError(
            "the rows came from standard input, which is not kept: save them in a file, and give"
            " that; training on them is begun anew"
        )
    if hub.is_id(source):
        return hub.read(source, pick)
    pixels = pictures(source)
    if pixels is not None:
        return images.Images(pixels, pixels[:0])
    if not tables.is_table(source):
        raise InputError(unknown("data set", source, DATA_NAMES) + "; a file needs its suffix")
    return tables.read(source, pick)
