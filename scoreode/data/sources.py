"""Loads data: a set by name, a table in a file, a folder of images, or a set of the Hub."""

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
    split,
    split_numbers,
)
from scoreode.data.kinds import Kinds
from scoreode.data.reading import NUMBERS, Reading
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
    """Whether it is the name of a set, which has a test part, and not a path."""
    return source in DATA_NAMES or hub.is_id(source)


def is_folder(source: str) -> bool:
    """Whether it is a folder of images: without a table's suffix and without .parquet parts."""
    has_suffix = tables.kind_of(source) in tables.READ
    return os.path.isdir(source) and not has_suffix and not tables.is_parts(source)


def pictures(source: str) -> images.Pixels | None:
    """The images in a folder or in an array of uint8; None for any other source."""
    return images.folder(source) if is_folder(source) else images.array(source)


def load_data(
    source: str,
    seed: int = 0,
    validation: float = 0.1,
    data_dir: Path | None = None,
    pick: Pick = everything,
    reading: Reading = NUMBERS,
) -> Dataset:
    """A data set by name, the table in a file or the images in a folder, split by the seed.

    **Arguments:** `source`, a name, a path or an id of the Hub; `seed` and `validation`, the share
    of validation rows, for the split; `data_dir`, the directory of image sets (None:
    SCOREODE_DATA); `pick`, which selects the columns of a table to read; `reading`, how those that
    are no numbers in a file become numbers.

    **Raises:** `InputError` for an unknown name (with the nearest known one) and for unusable data.
    """
    check_seed(seed)
    if source in TOYS:
        return from_sampler(source, TOYS[source], seed)
    if source == "digits":
        return digits(seed)
    if source in images.SETS:
        return from_images(source, images.read(source, data_dir), seed, validation)
    content = _read(source, pick, reading)
    path = None if hub.is_id(source) else os.path.abspath(source)
    if source == tables.STDIN:
        source, path = tables.STDIN_NAME, None
    if isinstance(content, images.Images):
        data = from_images(source, content, seed, validation)
    else:
        data = _from_parts(source, *content, seed, validation)
    if len(data.train) < 2:
        n = sum(map(len, (data.train, data.validation, data.test)))
        raise InputError(f"{source}: {n} row{'s' * (n > 1)}, not enough to fit a density")
    return replace(data, path=path)


def _from_parts(
    source: str,
    parts: dict[str, np.ndarray],
    columns: tuple[str, ...],
    kinds: Kinds,
    seed: int,
    validation: float,
) -> Dataset:
    """The data set of a table or its parts; validation rows come from train if no part has them."""
    if "all" in parts:
        data = from_rows(source, parts["all"], columns, seed, validation)
        return replace(data, kinds=kinds)
    train, none = parts["train"], parts["train"][:0]
    held_out, test = (parts.get(part, none) for part in ("validation", "test"))
    if len(held_out):
        return Dataset(source, train, held_out, test, columns)
    numbers = split_numbers(len(train), seed, validation)[:2]
    origins = {p: Origin(n, "train") for p, n in zip(("train", "validation"), numbers, strict=True)}
    train, held_out, _ = split(train, seed, validation)
    return Dataset(source, train, held_out, test, columns, origins=origins)


def _read(
    source: str, pick: Pick, reading: Reading
) -> images.Images | tuple[dict[str, np.ndarray], tuple[str, ...], Kinds]:
    """A set of the Hub, the images in a folder, or the table in a file."""
    if source == tables.STDIN_NAME:
        raise InputError(
            "the rows came from standard input, and are not kept: save them in a file, and start a"
            " new training on that file"
        )
    if hub.is_id(source):
        if reading.categories:
            raise InputError(f"{source}: categories are for files; write the set into a .parquet")
        content = hub.read(source, pick)
        return content if isinstance(content, images.Images) else (*content, {})
    pixels = pictures(source)
    if pixels is not None:
        return images.Images(pixels, pixels[:0])
    if not tables.is_table(source):
        raise InputError(unknown("data set", source, DATA_NAMES) + "; a file needs its suffix")
    return tables.read_kinds(source, pick, reading)
