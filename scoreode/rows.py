"""Rows to evaluate: of a file or of a part of a named set, that fit the run they are for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from scoreode import evaluate, recipes
from scoreode.data import tables
from scoreode.errors import InputError
from scoreode.fitting import Fitted


def blocks(
    source: str, part: str, seed: int = 0, data_dir: Path | None = None
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    """The columns and rows of a file, or of a part of a set that has parts."""
    if source not in recipes.DATA_NAMES and Path(source).suffix:
        return tables.blocks(source, part, evaluate.BLOCK)
    data = recipes.load_data(source, seed, data_dir=data_dir)
    rows = getattr(data, part)
    if len(rows) == 0:
        raise InputError(f"{source}: has no {part} rows")
    starts = range(0, len(rows), evaluate.BLOCK)
    return data.columns, (rows[i : i + evaluate.BLOCK] for i in starts)


def check_columns(fitted: Fitted, columns: Sequence[str], source: str) -> None:
    """Raises `InputError` unless these are the columns that the run was trained on, in order."""
    trained = fitted.data["columns"]
    if len(columns) != len(trained):
        raise InputError(
            f"{source}: {len(columns)} columns, but the run was trained on {len(trained)}"
            f" ({_listed(trained)})"
        )
    unnamed = [f"x{i}" for i in range(len(trained))]  # what arrays call theirs
    if list(columns) != trained and unnamed not in (list(columns), trained):
        raise InputError(
            f"{source}: has the columns {_listed(columns)}, but the run was trained on"
            f" {_listed(trained)}; name and order them so"
        )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:10]) + (", …" if len(columns) > 10 else "")
