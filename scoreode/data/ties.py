"""Detects repeated values in continuous columns before training.

Draws from a density never repeat. Where values do repeat, log p is unbounded: the model fits spikes
as narrow as it can, and log p means nothing. Rounded measurements also repeat, but on a fine and
evenly filled grid, whose cells are narrower than a model can resolve.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from scoreode.data.columns import as_text
from scoreode.data.dataset import Dataset
from scoreode.data.grids import detected_width, there, width_of
from scoreode.errors import listing

_ROWS, _VALUES = 2**17, 2**23  # at most this many rows and values are examined
_EVEN = 320  # values in the middle 80 % of rows; with more, cells are narrower than σ_min
_SCATTERED = 2048  # the same for values that lie on no grid, or leave most of its cells empty
_OCCUPIED = 0.25  # share of occupied cells from which values are not scattered
_MIDDLE = (0.1, 0.9)
_NEIGHBOURS = 10  # values on either side with which an atom is compared
_USUAL, _OUTSTANDING = 0.9, 5.0  # an atom has 5 times the 0.9-quantile of the others' counts
_LEAST, _SHARE = 5, 0.01  # fewest rows in an atom, and least share of the rows
_SHOWN, _NAMED = 4, 10  # at most this many atoms and columns in a message


@dataclass(frozen=True)
class Ties:
    """Repetitions in the data.

    `grids` are columns on a grid, with its width; `scattered` are columns of few values on no grid,
    with their number; `atoms` are single values that many rows hold.
    """

    grids: dict[str, float]
    scattered: dict[str, int]
    atoms: dict[str, dict[float, float]]
    """For each column the values and their shares of the rows."""
    repeated: float
    """The share of rows that equal an earlier row; 0 if it is no larger than after a bootstrap."""
    automatic: bool
    """Whether "auto" would declare exactly these grids."""
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the greatest value of each column with atoms."""

    def messages(self, declared: Callable[[list[str] | str], str]) -> list[str]:
        """One message for each problem, with the remedy.

        **Arguments:** `declared`, the text that declares columns of these names, or "auto".
        """
        messages = []
        if self.grids:
            names = "auto" if self.automatic else list(self.grids)
            widths = [f"{name} (multiples of {width:g})" for name, width in self.grids.items()]
            messages.append(
                f"{_columns(self.grids)} {listing(widths)}: all values lie on a grid and repeat, so"
                " that a continuous density would consist of spikes. Declare them as discrete:"
                f" {declared(names)}"
            )
        if self.scattered:
            counts = [f"{name} ({k} values)" for name, k in self.scattered.items()]
            messages.append(
                f"{_columns(self.scattered)} {listing(counts)}: a few values repeat and lie on no"
                " grid, so that they have no density. Replace them by whole numbers and declare the"
                f" {_columns(self.scattered)} as discrete: {declared(list(self.scattered))}"
            )
        if self.atoms:
            shares = [f"{name} ({self._shares(name)})" for name in self.atoms]
            messages.append(
                f"{_columns(self.atoms)} {listing(shares)}: these values have no density but are"
                " spikes. Drop their rows, or model separately whether a row holds such a value"
            )
        if self.repeated:
            messages.append(
                f"{100 * self.repeated:.2g} % of the rows repeat others in every column: they have"
                " no density but are spikes, and equal rows are in training and in validation."
                " Drop the repetitions"
            )
        return messages

    def _shares(self, name: str) -> str:
        """The share of the rows that hold each atom of a column, and which lie at an end."""
        atoms, (low, high) = self.atoms[name], self.ends.get(name, (None, None))
        places = {low: ", the least value", high: ", the greatest value"}
        shares = [
            f"{100 * share:.2g} % hold exactly {value:.6g}{places.get(value, '')}"
            for value, share in atoms.items()
        ]
        more = f", and {len(shares) - _SHOWN} more values" if len(shares) > _SHOWN else ""
        return ", ".join(shares[:_SHOWN]) + more


def find(data: Dataset) -> Ties:
    """The repetitions in training rows, in columns without a declared grid; none for images."""
    nothing = Ties({}, {}, {}, 0.0, False)
    if data.sampler is not None or data.image_shape is not None:
        return nothing
    width = np.broadcast_to(0.0 if data.bin_width is None else data.bin_width, len(data.columns))
    free = np.flatnonzero(width == 0).tolist()
    if not free:
        return nothing
    most = min(_ROWS, max(_VALUES // len(data.columns), 1))
    rows = np.asarray(data.train[:most], np.float64)[:, free] + 0.0  # −0 is 0
    return _find(rows, [data.columns[j] for j in free])


def _find(rows: np.ndarray, columns: Sequence[str]) -> Ties:
    detected = np.array([detected_width(there(column)) for column in rows.T])
    grids = {columns[j]: float(detected[j]) for j in np.flatnonzero(detected).tolist()}
    automatic, scattered, atoms = bool(grids), dict[str, int](), dict[str, dict[float, float]]()
    free = np.flatnonzero(detected == 0).tolist()
    distinct, counts = _distinct(rows, free)
    for j in free:
        column, name = there(distinct[:, j]), columns[j]
        column_atoms = _atoms(column)
        rest = column if _whole(column) else column[~np.isin(column, list(column_atoms))]
        if len(rest) and _spiky(rest):
            automatic = False
            if width := width_of(rest):
                grids[name] = width
            else:
                scattered[name] = len(np.unique(column))
        elif column_atoms:
            atoms[name] = column_atoms
    reported = any(columns[j] in found for found in (grids, scattered, atoms) for j in free)
    # Of what is there at most one value: equal rows cannot be told from equal values.
    told = (~np.isnan(distinct)).sum(1) >= min(2, len(columns))
    repeated = _repeat_share(counts[told]) if not reported and told.any() else 0.0
    of_atoms = {name: rows[:, columns.index(name)] for name in atoms}
    ends = {name: (float(np.nanmin(c)), float(np.nanmax(c))) for name, c in of_atoms.items()}
    return Ties(grids, scattered, atoms, repeated, automatic, ends)


def _distinct(rows: np.ndarray, free: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows and their counts.

    With a single column, a repeated row cannot be told from a repeated value: all rows are kept.
    """
    if len(free) < 2:
        return rows, np.ones(len(rows), int)
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    _, first, counts = np.unique(whole.ravel(), return_index=True, return_counts=True)
    return rows[first], counts


def _repeat_share(counts: np.ndarray) -> float:
    """The share of rows that repeat others; 0 if it is below half and no row stands out."""
    n, extra = int(counts.sum()), int(counts.sum() - len(counts))
    most = int(counts.max())
    others = (n - most) / max(len(counts) - 1, 1)
    outstanding = most >= max(_LEAST, _SHARE * n, _OUTSTANDING * others)
    return extra / n if outstanding or 2 * extra >= n else 0.0


def _whole(column: np.ndarray) -> bool:
    return np.array_equal(column, np.rint(column))


def _atoms(column: np.ndarray) -> dict[float, float]:
    """The values that occur far more often than their neighbours, most frequent first."""
    values, counts = np.unique(column, return_counts=True)
    usual = np.quantile(counts, _USUAL, method="lower")
    least = max(_LEAST, _SHARE * len(column), _OUTSTANDING * usual)
    found = {}
    for i in np.flatnonzero(counts >= least):
        around = np.r_[counts[max(i - _NEIGHBOURS, 0) : i], counts[i + 1 : i + 1 + _NEIGHBOURS]]
        near = np.quantile(around, _USUAL, method="lower") if len(around) else np.inf
        if counts[i] >= _OUTSTANDING * near:
            found[float(values[i])] = float(counts[i] / len(column))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _spiky(column: np.ndarray) -> bool:
    """Whether values repeat and are few enough for a model to resolve them."""
    if len(column) < 2 * len(np.unique(column)):
        return False
    low, high = np.quantile(column, _MIDDLE, method="nearest")
    middle = column[(column >= low) & (column <= high)]  # the tails of any law are sparse
    k, width = len(np.unique(middle)), width_of(middle)
    cells = (high - low) / width + 1 if width else np.inf
    return 2 * k <= len(middle) and k <= (_EVEN if k >= _OCCUPIED * cells else _SCATTERED)


def _columns(found: dict) -> str:
    return f"column{'s' * (len(found) > 1)}"


def in_python(names: list[str] | str) -> str:
    """The argument that declares columns to the estimator."""
    return f"discrete={names!r}" if len(names) <= _NAMED else "discrete=[…]"


def in_command(names: list[str] | str) -> str:
    """The option that declares columns to `scoreode fit`."""
    text = names if isinstance(names, str) else as_text(names)
    return f"--discrete {shlex.quote(text)}" if len(names) <= _NAMED else "--discrete NAME,…"
