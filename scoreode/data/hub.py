"""Data sets of the Hugging Face Hub, or in a folder with the same layout, read by `datasets`.

A set with a column of images is read as images, any other as a table. No code that comes with a set
is run.
"""

from typing import Any

import numpy as np

from scoreode.data.columns import Pick, everything
from scoreode.data.frames import from_frame
from scoreode.data.images import Images, Pixels, stack
from scoreode.errors import InputError, listing

PREFIX = "hf:"
_PARTS = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}


def is_id(source: str) -> bool:
    """Whether this is a data set of the Hub: hf:owner/name or hf:owner/name:configuration."""
    return source.startswith(PREFIX)


def read(
    source: str, pick: Pick = everything
) -> Images | tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The images of a set, or its table as `tables.read` returns it.

    A table without test and validation parts is returned as one part, "all".

    **Raises:** `InputError` if the set cannot be loaded, with the message of `datasets`; if columns
    are not numeric; if images differ in size or kind.
    """
    splits = _splits(source)
    if "train" not in splits:
        raise InputError(f"{source}: has no train part, but {listing(list(splits))}")
    pictures = [
        name for name, kind in splits["train"].features.items() if type(kind).__name__ == "Image"
    ]
    if len(pictures) > 1:
        raise InputError(f"{source}: has several columns of images, {listing(pictures)}")
    if pictures:
        parts = {part: _images(split, pictures[0], source) for part, split in splits.items()}
        test = parts.get("test", parts.get("validation", parts["train"][:0]))
        return Images(parts["train"], test)
    columns = pick(tuple(splits["train"].column_names), source)
    tables = {
        part: from_frame(split.to_polars().select(columns), f"{source} ({part})")
        for part, split in splits.items()
    }
    rows = {part: rows for part, (rows, _) in tables.items()}
    return rows if len(rows) > 1 else {"all": rows["train"]}, tables["train"][1]


def _splits(source: str) -> dict[str, Any]:
    """The train, validation and test parts."""
    from datasets import load_dataset

    path, _, configuration = source.removeprefix(PREFIX).partition(":")
    try:
        loaded = load_dataset(path, configuration or None)
    except (OSError, ValueError) as error:  # a missing set, and a missing configuration
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: cannot be loaded: {reason}") from error
    splits = {str(name): split for name, split in loaded.items()}
    return {_PARTS[name]: split for name, split in splits.items() if name in _PARTS}


def _images(split: Any, column: str, source: str) -> Pixels:
    images = ((f"image {i}", image) for i, image in enumerate(split[column], 1))
    return stack(f"{source}: ", images)
