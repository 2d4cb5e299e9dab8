"""Which columns are discrete, and the grid on which their values lie."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scoreode.data.dataset import Dataset
from scoreode.data.stored import blocks
from scoreode.errors import InputError

DETECTED_CELLS = 256  # of a column that nobody declared: bytes are discrete, prices are not
_MOST_CELLS = 2**20  # finer grids have room for anything
_BY_CHANCE = 1e-6  # k whole numbers are multiples of g apart with probability about g^(1 − k)
_ALIKE = 1e-6  # of a width: closer values are equal
_SHOWN = 3  # values in a message
Discrete = str | Sequence[str | int | bool] | np.ndarray


def bin_widths(
    rows: np.ndarray, columns: Sequence[str], discrete: Discrete | None
) -> tuple[float, ...] | None:
    """One width of bins a column, 0 for continuous ones; None if all are continuous.

    A declared column's is the widest of which all its values are multiples apart: 1 for counts and
    codes and whole constants, ½ for halves. "auto" takes the columns of at most 256 bins in which a
    value has two rows on average; of whole numbers wider than 1 only if that is no chance.

    **Arguments:** `discrete`: indices, names or a mask of columns, "auto", or None.

    **Raises:** `InputError` for a column that does not exist, or whose values lie on no grid.
    """
    if discrete is None or (not isinstance(discrete, str) and len(discrete) == 0):
        return None
    if isinstance(discrete, str):
        if discrete != "auto":
            raise InputError(
                f'discrete {discrete!r}: give "auto", or a list of columns: [{discrete!r}]'
            )
        widths = [detected_width(there(column)) for column in rows.T]
    else:
        declared = indices(discrete, columns)
        widths = [
            width_of(there(rows[:, j])) if j in declared else 0.0 for j in range(len(columns))
        ]
        for j in declared:
            if not widths[j]:
                shown = ", ".join(f"{value:g}" for value in np.unique(there(rows[:, j]))[:_SHOWN])
                raise InputError(
                    f"column {columns[j]}: declared discrete, but its values ({shown} …) are no"
                    " multiples of one width apart; round them, or leave it out of `discrete`"
                )
    return tuple(widths) if any(widths) else None


def there(column: np.ndarray) -> np.ndarray:
    """The values of a column that are not missing."""
    return column[~np.isnan(column)] if column.dtype.kind == "f" else column


def detected_width(column: np.ndarray) -> float:
    n_values, width = len(np.unique(column)), width_of(column)
    # Counts that are rarely positive may all be multiples of 3 by chance, and the next is none.
    whole = np.array_equal(column, np.rint(column))
    if whole and width > 1 and (1 - n_values) * np.log(width) > np.log(_BY_CHANCE):
        width = 1.0
    cells = np.ptp(column) / width + 1 if width else np.inf
    return width if 2 * n_values <= len(column) and cells <= DETECTED_CELLS else 0.0


def width_of(column: np.ndarray) -> float:
    """The greatest common divisor of the values' differences, by Euclid; 0 if there is none."""
    values = np.unique(column)
    steps = np.diff(values)
    if not len(steps):
        return float(values[0] == np.rint(values[0]))  # of a constant: a count that never varied
    spread = float(values[-1] - values[0])
    # Decimals are not exact in floats, less so where they once were float32.
    with np.errstate(over="ignore"):
        single = np.array_equal(values, values.astype(np.float32))
    lost = 8 * np.finfo(np.float32 if single else np.float64).eps * np.abs(values).max()
    if np.array_equal(values, np.rint(values)):
        lost = 0.0
    width = float(steps.min())
    while width * _MOST_CELLS > spread and width > 4 * lost:
        whole = spread / max(round(spread / width), 1)  # without the rounding errors of the search
        rest = _rest(steps, width)
        near = rest <= max(lost, _ALIKE * width)
        if near.all() or (_rest(steps, whole) <= max(lost, _ALIKE * whole)).all():
            return float(f"{whole:.12g}")
        width = float(rest[~near].min())
    return 0.0


def _rest(steps: np.ndarray, width: float) -> np.ndarray:
    """How far steps are from multiples of a width."""
    return np.abs(steps - width * np.rint(steps / width))


def indices(
    names: Sequence[str | int | bool] | np.ndarray, columns: Sequence[str], what: str = "discrete"
) -> set[int]:
    """The indices of columns that are given by index, by name, or by a mask.

    **Raises:** `InputError` for a column that does not exist, saying `what` it was given as.
    """
    d, chosen = len(columns), list(names)
    if chosen and all(isinstance(c, bool | np.bool_) for c in chosen):
        if len(chosen) != d:
            raise InputError(f"{what}: a mask of {len(chosen)}, where there are {d} columns")
        return set(np.flatnonzero(chosen).tolist())
    found = set()
    for column in chosen:
        if isinstance(column, str) and column in columns:
            found.add(columns.index(column))
        elif isinstance(column, int | np.integer) and -d <= column < d:
            found.add(int(column) % d)
        else:
            raise InputError(f"{what}: no column {column!r} among {', '.join(columns)}")
    return found


_ON_GRID = 1e-6  # relative: how far from a multiple a value in decimals may be
_MOST_WIDTHS = 2**24


def on_grid(data: Dataset, bin_width: Sequence[float]) -> Dataset:
    """The data set with its grid declared: one width, or one for every column.

    The grid goes through 0 if the first row lies on such a one, and else through that row: bytes
    may have been scaled to any interval.

    **Raises:** `InputError` for another number of widths, negative ones, values off the grid, and a
    grid that is too fine or too wide for them.
    """
    widths, d = tuple(map(float, bin_width)), len(data.columns)
    if len(widths) not in (1, d):
        raise InputError(f"bin width: {len(widths)} numbers; give one, or one a column, {d}")
    if not all(np.isfinite(w) and w >= 0 for w in widths) or not any(widths):
        raise InputError(f"bin width {widths}: must be positive, or 0 for a continuous column")
    first = np.asarray(data.train[:1][0, : len(widths)], np.float64)
    if np.isnan(first).any():  # of the first value there is
        columns = (there(column) for column in np.asarray(data.train[:]).T[: len(widths)])
        first = np.array([column[0] for column in columns])
    edges = tuple(np.where(_off_grid(first, widths, 0.0), first, 0.0).tolist())
    one = len(widths) == 1
    data = replace(
        data, bin_width=widths[0] if one else widths, bin_edge=edges[0] if one else edges
    )
    for part in (data.train, data.validation, data.test):
        for rows in blocks(part):
            check_grid(rows, data.bin_width, data.bin_edge, data.columns, data.name)
    _check_cells(data)
    return data


def _check_cells(data: Dataset) -> None:
    """Raises `InputError` for a grid that float32, in which models compute, does not tell apart,
    and for one that has unlike values in one cell."""
    low, high = data.extremes
    width = np.broadcast_to(np.asarray(data.bin_width, np.float64), low.shape)
    safe = np.where(width > 0, width, np.inf)
    fine = np.maximum(np.abs(low), np.abs(high)) / safe > _MOST_WIDTHS
    wide = (width > 0) & (low < high) & (high - low < width / 2)
    told = {
        "reaches more than 2^24 bin widths from 0, which float32 does not tell apart; subtract a"
        " constant, or leave it continuous": fine,
        "lies in one bin, but its values differ; give the width of the grid they lie on": wide,
    }
    for what, bad in told.items():
        if bad.any():
            j = int(np.argmax(bad))
            raise InputError(f"{data.name}: column {data.columns[j]} {what} (width {width[j]:g})")


def check_grid(
    rows: np.ndarray,
    bin_width: Any,
    bin_edge: Any,
    columns: Sequence[str],
    source: str,
    first_row: int = 0,
) -> None:
    """Raises `InputError` naming a value that is no whole number of widths from the edge."""
    off = _off_grid(rows, bin_width, bin_edge)
    if off.any():
        i, j = np.argwhere(off)[0]
        width, edge = (np.broadcast_to(a, rows.shape[1:])[j] for a in (bin_width, bin_edge))
        through = f" through {edge:g}" if edge else ""
        raise InputError(
            f"{source}: row {first_row + i + 1}, column {columns[j]} holds {rows[i, j]:g}, which is"
            f" not on the grid of width {width:g}{through}: values have to be multiples of it apart"
        )


def _off_grid(rows: np.ndarray, bin_width: Any, bin_edge: Any) -> np.ndarray:
    width = np.asarray(bin_width, np.float64)
    safe = np.where(width > 0, width, 1.0)
    steps = (rows - np.asarray(bin_edge, np.float64)) / safe
    size = np.maximum(1, np.abs(rows) / safe)
    return (width > 0) & (np.abs(steps - np.rint(steps)) > _ON_GRID * size)
