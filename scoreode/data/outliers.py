"""Finds absurd values before training: slips of the pen, missing units, codes for "unknown".

A value is absurd if it lies 20 spreads from the median, a spread being the deviation of a normal
law with the column's quartiles, and ten times as far as every value that is not. A heavy tail comes
near the first condition, but hardly ever meets the second: its values lie less far apart.
"""

from collections.abc import Sequence

import numpy as np

from scoreode.data.dataset import Dataset
from scoreode.errors import listing

_SPREADS, _GAP = 20.0, 10.0
_QUARTILES = 1.3490  # how far they are apart in a standard normal law
_MOST_SHARE = 0.02  # of a column's values; more are a part of its law
_SHOWN = 3  # values in a message
_ROWS = 2**17  # at most


def messages(rows: np.ndarray, columns: Sequence[str], *, numbered: bool = True) -> list[str]:
    """One message for every column with absurd values, which says where they are.

    **Arguments:** `numbered`: whether the rows are in the order in which a user has them.
    """
    found = []
    for name, column in zip(columns, rows.T, strict=True):
        absurd = np.flatnonzero(is_absurd(column))
        if len(absurd):
            shown = [_place(column, i, numbered) for i in absurd[:_SHOWN].tolist()]
            more = f" and {len(absurd) - _SHOWN} more" if len(absurd) > _SHOWN else ""
            found.append(
                f"column {name}: {listing(shown)}{more} far from all other values, the median being"
                f" {np.nanmedian(column):.3g}. The heavy tail of the density holds such rows;"
                " correct or drop them if they are wrong"
            )
    return found


def _place(column: np.ndarray, row: int, numbered: bool) -> str:
    return f"{column[row]:.6g}" + (f" (row {row + 1})" if numbered else "")


def of_data(data: Dataset) -> list[str]:
    """The messages of a data set's training rows; none for images and rows without end."""
    if data.sampler is not None or data.image_shape is not None:
        return []
    return messages(np.asarray(data.train[:_ROWS], float), data.columns, numbered=False)


def is_absurd(column: np.ndarray) -> np.ndarray:
    """Which values of a column are absurd, bool of its shape."""
    nothing = np.zeros(len(column), bool)
    low, median, high = np.nanquantile(column, (0.25, 0.5, 0.75))
    distance = np.abs(np.where(np.isnan(column), median, column) - median)
    ordered = np.sort(distance)
    far = int(np.searchsorted(ordered, _SPREADS * (high - low) / _QUARTILES, side="right"))
    if high == low or far == len(ordered) or len(ordered) - far > _MOST_SHARE * len(ordered):
        return nothing
    # Of the values far out, those beyond the first gap.
    before, after = ordered[far - 1 : -1], ordered[far:]
    gaps = np.flatnonzero(after > _GAP * before)
    return distance >= after[gaps[0]] if len(gaps) else nothing
