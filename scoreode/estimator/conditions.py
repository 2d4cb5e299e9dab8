"""Conditions as the estimator is given them: which argument holds them, their names, their rows.

In scikit-learn the argument after X is y, a target, which a density ignores. Here it is also where
the conditions of p(x | c) stand. Targets have one dimension and conditions two, and what could be
either is refused: a condition is never ignored.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array

from scoreode.data.frames import read_frame
from scoreode.data.kinds import Kinds
from scoreode.data.reading import Reading
from scoreode.errors import InputError


def from_arguments(y: Any, C: Any) -> Any:
    """The conditions in the arguments of `fit` or `score`; None where there are none.

    **Raises:** `InputError` for a y that may or may not be meant as a condition.
    """
    if y is None:
        return C
    values = np.asarray(y)
    dimensions = values.ndim
    if dimensions == 2:
        if C is not None:
            raise InputError("conditions are given twice, as y and as C; leave one out")
        return y
    if dimensions != 1:
        raise InputError(f"y has {dimensions} dimensions; conditions are rows, of shape (n, k)")
    if values.dtype.kind == "f" and not np.all(values == np.rint(values)):
        raise InputError(
            "y has one dimension, and real numbers: if it is a condition, give it as C=y; if it is"
            " a target, leave it out, as a density has none"
        )
    return C


def with_names(
    C: Any, n: int, taken: Sequence[str], known: Kinds | None = None
) -> tuple[np.ndarray, tuple[str, ...], Kinds]:
    """Conditions (n, k) to train on, their names, and the kinds of those that are no numbers; of
    one dimension, they are one column.

    **Arguments:** `known`, the kinds of a former training.

    **Raises:** `InputError` for another number of rows, and for names that are taken.
    """
    c, kinds = _numbers(C, Reading(known))
    c = c[:, None] if c.ndim == 1 else c
    if len(c) != n:
        raise InputError(f"C has {len(c)} rows, and X has {n}: give one condition a row")
    names = _names(C) or tuple(f"c{i}" for i in range(c.shape[1]))
    both = [name for name in names if name in taken]
    if both:
        raise InputError(f"X and C both have a column {', '.join(both)}; rename one")
    return c, names, kinds


def for_density(C: Any, names: Sequence[str], kinds: Kinds) -> np.ndarray | None:
    """Conditions (m, k) for a density with these, or None for one without.

    Of one dimension, they are one row, or, where there is one condition, one column.

    **Raises:** `InputError` for conditions that are missing, too many, or other ones.
    """
    if not names:
        if C is not None:
            raise InputError(
                "C: this density was fitted without conditions, and takes none; fit(X, C), with C"
                " of shape (n, k), fits a conditional one (seeds are given as random_state=…)"
            )
        return None
    k = len(names)
    if C is None:
        raise InputError(f"this density is conditional on {', '.join(names)}: give C, (n, {k})")
    (c, _), found = _numbers(C, Reading(kinds)), _names(C)
    c = c.reshape((-1, 1) if k == 1 else (1, -1)) if c.ndim == 1 else c
    if c.shape[1] != k:
        raise InputError(
            f"C has {c.shape[1]} columns, but the density is conditional on {k}: {', '.join(names)}"
        )
    unnamed = [f"c{i}" for i in range(k)]
    if found and list(found) != list(names) and list(names) != unnamed:
        raise InputError(
            f"C has the columns {', '.join(found)}, but the density is conditional on"
            f" {', '.join(names)}; name and order them so"
        )
    return c


def repeat(c: np.ndarray | None, n: int) -> np.ndarray | None:
    """Conditions for n rows: as many, or one for all. **Raises:** `InputError` for others."""
    if c is None or len(c) == n:
        return c
    if len(c) != 1:
        raise InputError(f"C has {len(c)} rows, and X has {n}: give as many, or one for all")
    return np.repeat(c, n, axis=0)


def _numbers(C: Any, reading: Reading) -> tuple[np.ndarray, Kinds]:
    """Conditions as numbers, and the kinds of the columns of a DataFrame that are none."""
    if _names(C):
        rows, _, kinds = read_frame(C, "C", reading)
        return rows, kinds
    if np.ndim(C) not in (1, 2):
        raise InputError(
            f"C has {np.ndim(C)} dimensions; conditions are rows, of shape (n, k) (seeds are given"
            " as random_state=…)"
        )
    options: dict[str, Any] = {"dtype": "float64", "ensure_2d": False}
    return np.asarray(check_array(C, input_name="C", **options)), {}


def _names(C: Any) -> tuple[str, ...]:
    columns = tuple(getattr(C, "columns", ()))
    return columns if all(isinstance(name, str) for name in columns) else ()
