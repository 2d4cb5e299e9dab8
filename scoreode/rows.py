"""Rows for a run: those that it was begun on, and those to evaluate, of a file or a named set."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode import evaluate, fitting, recipes
from scoreode.data import Dataset, tables
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


def trained_on(
    run: recipes.Run, described: dict[str, Any], data_dir: Path | None, remedy: str = ""
) -> Dataset:
    """The data set that a run was begun on. **Raises:** `InputError` if it is another by now."""
    source = described["name"]
    data = recipes.load_data(source, run.seed, run.validation_fraction, data_dir)
    if fitting.described(data)["fingerprint"] != described["fingerprint"]:
        raise InputError(f"{source} has changed since the run began{remedy}")
    return replace(data, bin_width=described["bin_width"], bin_edge=described["bin_edge"])


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
