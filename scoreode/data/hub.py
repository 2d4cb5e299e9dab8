"""Data sets of the Hugging Face Hub, or in a folder laid out as one, through its own `datasets`.

Sets that have a column of pictures are images, and all others tables. The package runs no code that
comes with a set.
"""

from typing import Any

import numpy as np

from scoreode.data.columns import Pick, everything
from scoreode.data.frames import from_frame
from scoreode.data.images import Images, Pixels, stacked
from scoreode.errors import InputError, listed

PREFIX = "hf:"
_PARTS = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}


def is_id(source: str) -> bool:
    """Whether this names a set of the Hub: hf:owner/name, or hf:owner/name:configuration."""
    return source.startswith(PREFIX)


def read(
    source: str, pick: Pick = everything
) -> Images | tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The images of a set, or its table as `tables.read` returns it.

    What has neither a test nor a validation part is one table, "all".

    **Raises:** `InputError` for a set that is not to be had, with what `datasets` says; for columns
    that are not numeric, and for images unlike each other.
    """
    splits = _splits(source)
    if "train" not in splits:
        raise InputError(f"{source}: has no train part, but {listed(list(splits))}")
    pictures = [
        name for name, kind in splits["train"].features.items() if type(kind).__name__ == "Image"
    ]
    if len(pictures) > 1:
        raise InputError(f"{source}: has several columns of images, {listed(pictures)}")
    if pictures:
        parts = {part: _images(split, pictures[0], source) for part, split in splits.items()}
        test = parts.get("test", parts.get("validation", parts["train"][:0]))
        return Images(parts["train"], test)
    picked = pick(tuple(splits["train"].column_names), source)
    read = {
        part: from_frame(split.to_polars().select(picked), f"{source} ({part})")
        for part, split in splits.items()
    }
    rows = {part: rows for part, (rows, _) in read.items()}
    return rows if len(rows) > 1 else {"all": rows["train"]}, read["train"][1]


def _splits(source: str) -> dict[str, Any]:
    """The parts that are known by name."""
    from datasets import load_dataset

    path, _, configuration = source.removeprefix(PREFIX).partition(":")
    try:
        found = load_dataset(path, configuration or None)
    except (OSError, ValueError) as error:  # what is missing, and what a configuration is missing
        said = " ".join(str(error).split())
        raise InputError(f"{source}: cannot be had: {said}") from error
    splits = {str(name): split for name, split in found.items()}
    return {_PARTS[name]: split for name, split in splits.items() if name in _PARTS}


def _images(split: Any, column: str, source: str) -> Pixels:
    named = ((f"image {i}", image) for i, image in enumerate(split[column], 1))
    return stacked(f"{source}: ", named)
