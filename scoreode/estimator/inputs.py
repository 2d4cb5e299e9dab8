"""What people hand to the estimator, as rows of numbers, and rows as what they asked for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, validate_data

from scoreode.data import Description
from scoreode.data.frames import check_whole, from_frame, numeric_rows
from scoreode.data.output import by_column, whole_columns
from scoreode.errors import InputError

OUTPUTS = ("numpy", "pandas", "polars")
_MAX_SEED = np.iinfo(np.int32).max


def seed_of(random_state: Any) -> int:
    """A seed from an int, a NumPy Generator or RandomState, which are drawn from, or None.

    **Raises:** `InputError` for anything else.
    """
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(_MAX_SEED))
    try:
        if isinstance(random_state, bool):
            raise ValueError("a truth value")
        return int(check_random_state(random_state).randint(_MAX_SEED))
    except ValueError as error:
        raise InputError(
            f"random_state {random_state!r}: takes an int between 0 and {2**32 - 1}, a"
            " numpy.random.Generator or RandomState, or None"
        ) from error


def plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters whose NumPy numbers are Python's, which compiled code and JSON take."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()}


def check_discrete(discrete: Any) -> None:
    """Raises `InputError` for what is no list of columns, nor a name."""
    if discrete is not None and not isinstance(discrete, str) and np.ndim(discrete) != 1:
        raise InputError(f'discrete {discrete!r}: give "auto", or a list of columns')


def widths_of(bin_width: Any) -> list[float]:
    """Widths of bins as numbers. **Raises:** `InputError` for what is no number nor a list."""
    try:
        widths = np.atleast_1d(np.asarray(bin_width))
    except ValueError:  # rows of unequal length
        widths = np.empty((0, 0))
    if widths.ndim != 1 or widths.dtype.kind not in "iuf":
        raise InputError(f"bin_width {bin_width!r}: takes a number, or a list of one a column")
    return [float(width) for width in widths]


def rows_of(estimator: BaseEstimator, X: Any, *, fitting: bool) -> np.ndarray:
    """float64 rows (n, d) of an array, a DataFrame of pandas or polars, or images (n, h, w, c).

    In `fitting` the estimator learns the columns' number and names, and else compares them.

    **Raises:** `InputError` naming the rows and columns of missing and infinite values, and the
    columns of text; `ValueError` for other columns than those fitted, and what is no table.
    """
    if hasattr(X, "columns"):
        rows, columns = from_frame(X, "X")
        validate_data(estimator, X, reset=fitting, skip_check_array=True)
    else:
        flat: Any = X.reshape(len(X), -1) if isinstance(X, np.ndarray) and X.ndim > 2 else X
        options: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": False}
        rows = np.asarray(validate_data(estimator, flat, reset=fitting, **options))
        columns = names_of(estimator)
        if isinstance(flat, np.ndarray):  # before what float64 does not hold is lost
            check_whole(flat, columns, "X")
    rows = numeric_rows(rows, columns, "X")
    if fitting and len(rows) < 2:
        raise InputError(f"X has {len(rows)} sample (row); a density needs at least 2")
    return rows


def weights_of(weights: Any, n: int) -> np.ndarray | None:
    """Weights of n rows, at least two of them positive; None for equal ones.

    **Raises:** `ValueError` for negative, missing or infinite weights, and for another number.
    """
    if weights is None:
        return None
    if np.asarray(weights).ndim == 0:
        raise InputError(f"sample_weight {weights!r}: give one number a row, {n} in all")
    options: dict[str, Any] = {"dtype": np.float64, "ensure_2d": False}
    weights = np.asarray(check_array(weights, input_name="sample_weight", **options))
    if weights.shape != (n,):
        raise InputError(f"sample_weight has shape {weights.shape}; one number a row is ({n},)")
    if np.any(weights < 0):
        raise InputError(f"sample_weight: row {np.argmax(weights < 0) + 1} has a negative one")
    if np.count_nonzero(weights) < 2:
        raise InputError("sample_weight: all but one or all are zero; two rows have to count")
    if not np.isfinite(np.sum(weights)):
        raise InputError("sample_weight: the sum is not finite; divide them all by the largest")
    return weights


def names_of(estimator: Any) -> tuple[str, ...]:
    """The columns' names: those of the DataFrame that was fitted, or x0, x1 …"""
    unnamed = [f"x{i}" for i in range(estimator.n_features_in_)]
    return tuple(map(str, getattr(estimator, "feature_names_in_", unnamed)))


def check_output(output: str) -> None:
    """Raises `InputError` unless this names a kind of table."""
    if output not in OUTPUTS:
        raise InputError(f"output {output!r}: choose from {', '.join(OUTPUTS)}")


def as_output(rows: np.ndarray, data: Description, output: str) -> Any:
    """Rows as an array, or as a DataFrame in which columns of whole numbers are integers.

    **Arguments:** `data`, the `Description`, which rows are drawn for.
    """
    if output == "numpy":
        return rows
    whole = whole_columns(data.bin_width, data.bin_edge, rows.shape[1])
    series = by_column(rows, data.columns, whole)
    if output == "pandas":
        import pandas as pd

        return pd.DataFrame(series)
    import polars as pl

    return pl.DataFrame(series)
