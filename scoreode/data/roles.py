"""The role of every column of numbers in a row, as a network is told it.

One network learns p(x_A | x_B) for disjoint sets of columns A and B. A column is

- diffused: in A;
- given: in B, with its value;
- absent: integrated out;
- missing: without a value in the data, which is itself a part of the row.

The roles are conditions, the last 4d numbers of c: indicators of given, absent and missing columns,
and then the given values, NaN of the other columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_KINDS = 4  # given, absent, missing, values


def n_roles(d: int) -> int:
    """How many numbers the roles of d columns are."""
    return _KINDS * d


def roles_of(
    hidden: np.ndarray, columns: Sequence[str], gaps: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are absent, and which missing, both (n, d), where those `hidden` are.

    Hidden columns that had gaps in training are missing, and others absent.
    """
    has_gaps = np.array([name in gaps for name in columns], bool)
    return hidden & ~has_gaps, hidden & has_gaps


def with_roles(
    c: np.ndarray, absent: np.ndarray, missing: np.ndarray, given: np.ndarray | None = None
) -> np.ndarray:
    """c (n, k + 4d): conditions (n, k), and the roles.

    **Arguments:** `absent` and `missing`, bool (n, d); `given`, the values of given columns, NaN
    of others, in the units of the data (None: none is given).
    """
    values = np.full(absent.shape, np.nan) if given is None else given
    return np.concatenate([c, ~np.isnan(values), absent, missing, values], axis=1, dtype=np.float64)


def split_roles(c: Any, d: int) -> tuple[Any, Any, Any, Any, Any]:
    """The conditions (..., k), and given, absent, missing and values, each (..., d)."""
    k = c.shape[-1] - n_roles(d)
    return c[..., :k], *(c[..., k + i * d : k + (i + 1) * d] for i in range(_KINDS))


def as_rows(c: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows x_B (n, d) of what is given, NaN elsewhere, and their c: all others are absent."""
    conditions, given, _, _, values = split_roles(c, d)
    x = np.where(given > 0, values, np.nan)
    return x, with_roles(conditions, given == 0, np.zeros_like(given))
