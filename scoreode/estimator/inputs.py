"""What people hand to the estimator, as rows of numbers, and rows as what they asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, validate_data

from scoreode.data import Dataset, Description, outliers, ties
from scoreode.data.columns import default_names
from scoreode.data.frames import check_whole, numeric_rows, read_frame
from scoreode.data.grids import indices
from scoreode.data.kinds import Kinds
from scoreode.data.output import as_frame, by_column
from scoreode.data.reading import NUMBERS, Reading
from scoreode.errors import InputError, OutlierWarning, TiesWarning, listing
from scoreode.model.fitted import Fitted

SAMPLES = 16  # of a row with discrete columns: 4 are 0.02 nats worse, see the log
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


def reading_of(est: Any, X: Any) -> Reading:
    """How the columns of X become numbers.

    Booleans are numbers where a grid is declared that they lie on.

    **Raises:** `InputError` for categories or discrete columns that are not there.
    """
    check_discrete(est.discrete)
    if est.categories is not None and (
        isinstance(est.categories, str) or np.ndim(est.categories) != 1
    ):
        raise InputError(f"categories {est.categories!r}: give a list of columns")
    if est.categories is None and not hasattr(X, "columns"):
        return replace(NUMBERS, gaps=None)
    named = X if hasattr(X, "columns") else Named(X)
    columns = tuple(with_text_names(named).columns)
    chosen = indices([] if est.categories is None else est.categories, columns, "categories")
    categories = tuple(columns[i] for i in sorted(chosen))
    if isinstance(est.discrete, str) or est.bin_width is not None:
        return Reading(categories=categories, numbers=None, gaps=None)
    found = indices([] if est.discrete is None else est.discrete, columns)
    numbers = tuple(columns[i] for i in found)
    return Reading(categories=categories, numbers=numbers, gaps=None)


def widths_of(bin_width: Any) -> list[float]:
    """Widths of bins as numbers. **Raises:** `InputError` for what is no number nor a list."""
    try:
        widths = np.atleast_1d(np.asarray(bin_width))
    except ValueError:  # rows of unequal length
        widths = np.empty((0, 0))
    if widths.ndim != 1 or widths.dtype.kind not in "iuf":
        raise InputError(f"bin_width {bin_width!r}: takes a number, or a list of one a column")
    return [float(width) for width in widths]


class Named:
    """The columns of an array by name, x0, x1 … or others, as a DataFrame has them."""

    def __init__(self, X: Any, names: tuple[str, ...] | None = None):
        self._rows = np.asarray(X)
        d = self._rows.shape[1] if self._rows.ndim == 2 else 0
        if names is not None and d != len(names):
            raise InputError(f"X has shape {self._rows.shape}; give columns {listing(names)}")
        self.columns = default_names(d) if names is None else names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._rows[:, self.columns.index(name)]


def with_text_names(frame: Any) -> Any:
    """A DataFrame whose columns have names of text: x0, x1 … where they are of another type."""
    if all(isinstance(name, str) for name in frame.columns):
        return frame
    return frame.set_axis(default_names(len(frame.columns)), axis=1)


def rows_of(
    estimator: BaseEstimator, X: Any, reading: Reading = NUMBERS, *, fitting: bool
) -> tuple[np.ndarray, Kinds]:
    """float64 rows (n, d) of an array, a DataFrame of pandas or polars, or images (n, h, w, c).

    In `fitting` the estimator learns the columns' number and names, and else compares them.

    **Returns:** the rows, and the kinds of columns that are no numbers, by `reading`.

    **Raises:** `InputError` naming the rows and columns of missing and infinite values, and the
    columns of text that are no categories; `ValueError` for other columns than those fitted, and
    what is no table.
    """
    kinds: Kinds = {}
    if hasattr(X, "columns"):
        rows, columns, kinds = read_frame(with_text_names(X), "X", reading)
        validate_data(estimator, X, reset=fitting, skip_check_array=True)
    else:
        _check_numbers(reading)
        flat: Any = X.reshape(len(X), -1) if isinstance(X, np.ndarray) and X.ndim > 2 else X
        options: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": False}
        rows = np.asarray(validate_data(estimator, flat, reset=fitting, **options))
        columns = names_of(estimator)
        if isinstance(flat, np.ndarray):  # before what float64 does not hold is lost
            check_whole(flat, columns, "X")
    images = isinstance(X, np.ndarray) and X.ndim > 2
    rows = numeric_rows(rows, columns, "X", gaps=() if images else reading.gaps)
    if not hasattr(X, "columns") and (reading.known or reading.categories):
        rows, _, kinds = read_frame(Named(rows), "X", reading)
    if fitting and len(rows) < 2:
        raise InputError(f"X has {len(rows)} sample (row); a density needs at least 2")
    return rows, kinds


def _check_numbers(reading: Reading) -> None:
    """Raises `InputError` if an array cannot hold what was fitted."""
    names = [name for name, kind in (reading.known or {}).items() if kind.source != "number"]
    if names:
        raise InputError(f"X: give a DataFrame, as in fit: {listing(names)} are no numbers")


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


def problems(estimator: Any, rows: np.ndarray, data: Dataset) -> Iterator[Warning]:
    """What was found in the rows, in the order in which they came, and does not stop a fit."""
    yield from map(TiesWarning, ties.find(data).messages(ties.in_python))
    if data.image_shape is None:
        names = names_of(estimator)
        numbers = [names.index(name) for name in data.columns]
        yield from map(OutlierWarning, outliers.messages(rows[:, numbers], data.columns))


def check_output(output: str) -> str:
    """The same. **Raises:** `InputError` unless it names a kind of table."""
    if output not in OUTPUTS:
        raise InputError(f"output {output!r}: choose from {', '.join(OUTPUTS)}")
    return output


def library_of(X: Any) -> str:
    """The package of a DataFrame, or that of a DataFrame to be made."""
    if type(X).__module__.partition(".")[0] == "polars" or find_spec("pandas") is None:
        return "polars"
    return "pandas"


def are_numbers(data: Description) -> bool:
    """Whether an array of numbers can hold the rows that were fitted."""
    found = (data.kinds.get(name) for name in data.modelled)
    return all(kind is None or kind.source == "number" for kind in found)


def as_output(fitted: Fitted, x: np.ndarray, c: np.ndarray | None, output: str) -> Any:
    """Rows as an array, or as a DataFrame in which columns of whole numbers are integers.

    An array has objects where there are columns of text, categories or dates.

    **Arguments:** `x`, numbers, and `c`, of whose columns the categories are those of the rows.
    """
    rows, names, whole = fitted.data.together(x, c)
    names, kinds = fitted.data.modelled, fitted.data.kinds
    d = len(names)
    if output != "numpy":
        return as_frame(by_column(rows[:, :d], names, whole[:d], kinds), kinds, output)
    columns = by_column(rows[:, :d], names, kinds=kinds).values()
    dtype = np.float64 if are_numbers(fitted.data) else object
    return np.stack([np.asarray(column, dtype) for column in columns], axis=1)
