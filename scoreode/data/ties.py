"""Values that repeat in columns taken as continuous, found before training.

Of a density no value is drawn twice. Where values do repeat, log p has no bound: it is that of
spikes as narrow as the model can make them, and says nothing. Measurements that are rounded repeat,
too, but finely and evenly: their cells are narrower than what a model resolves.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scoreode.data.columns import as_text
from scoreode.data.dataset import Dataset
from scoreode.data.grids import detected_width, width_of
from scoreode.errors import listed

_ROWS, _VALUES = 2**17, 2**23  # that are looked at, at most
_EVEN = 320  # values among the middle 80 % of rows: with more, cells are narrower than σ_min
_SCATTERED = 2048  # values there that leave most cells of their grid empty, or lie on none
_OCCUPIED = 0.25  # of the cells, where values are not scattered
_MIDDLE = (0.1, 0.9)
_NEIGHBOURS = 10  # values on either side, which an atom stands out from
_USUAL, _OUTSTANDING = 0.9, 5.0  # so many times what so many other values have at most
_LEAST, _SHARE = 5, 0.01  # rows in an atom
_SHOWN, _NAMED = 4, 10  # atoms and columns in a message


@dataclass(frozen=True)
class Ties:
    """What repeats: columns on grids by width, columns of few values, atoms, whole rows."""

    grids: dict[str, float]
    scattered: dict[str, int]
    atoms: dict[str, dict[float, float]]
    """Of a column the values, with their parts of the rows."""
    repeated: float
    """The part of rows that are equal to one before, where that says more than a bootstrap."""
    automatic: bool
    """Whether detection would declare these grids, and no others."""

    def told(self, declared: Callable[[list[str] | str], str]) -> list[str]:
        """What is wrong and the remedy, a few sentences each.

        **Arguments:** `declared`, how columns of these names, or "auto", are declared.
        """
        found = []
        if self.grids:
            names = "auto" if self.automatic else list(self.grids)
            widths = [f"{name} (multiples of {width:g})" for name, width in self.grids.items()]
            found.append(
                f"{_columns(self.grids)} {listed(widths)}: all values lie on a grid, and repeat: a"
                f" continuous density of them is one of spikes. Declare them: {declared(names)}"
            )
        if self.scattered:
            counts = [f"{name} ({k} values)" for name, k in self.scattered.items()]
            found.append(
                f"{_columns(self.scattered)} {listed(counts)}: few values, which repeat and lie on"
                " no grid: they have no density. Write whole numbers for them and declare them:"
                f" {declared(list(self.scattered))}"
            )
        if self.atoms:
            held = [f"{name} ({_held(atoms)})" for name, atoms in self.atoms.items()]
            found.append(
                f"{_columns(self.atoms)} {listed(held)}: there is no density at these values, but a"
                " spike. Drop these rows, or model apart whether a row is one of them"
            )
        if self.repeated:
            found.append(
                f"{100 * self.repeated:.2g} % of the rows repeat others in every column: there is"
                " no density there, but a spike, and equal rows both train and validate. Drop the"
                " repetitions"
            )
        return found


def found_in(data: Dataset) -> Ties:
    """What repeats among training rows, in columns that are on no declared grid; not of images."""
    nothing = Ties({}, {}, {}, 0.0, False)
    if data.sampler is not None or data.image_shape is not None:
        return nothing
    width = np.broadcast_to(0.0 if data.bin_width is None else data.bin_width, len(data.columns))
    free = np.flatnonzero(width == 0).tolist()
    if not free:
        return nothing
    most = min(_ROWS, max(_VALUES // len(data.columns), 1))
    rows = np.asarray(data.train[:most], np.float64)[:, free] + 0.0  # −0 is 0
    return _found(rows, [data.columns[j] for j in free])


def _found(rows: np.ndarray, columns: Sequence[str]) -> Ties:
    detected = np.array([detected_width(column) for column in rows.T])
    grids = {columns[j]: float(detected[j]) for j in np.flatnonzero(detected).tolist()}
    automatic, scattered, atoms = bool(grids), dict[str, int](), dict[str, dict[float, float]]()
    free = np.flatnonzero(detected == 0).tolist()
    distinct, counts = _distinct(rows, free)
    for j in free:
        column, name = distinct[:, j], columns[j]
        apart = _atoms(column)
        rest = column if _whole(column) else column[~np.isin(column, list(apart))]
        if len(rest) and _spiky(rest):
            automatic = False
            if width := width_of(rest):
                grids[name] = width
            else:
                scattered[name] = len(np.unique(column))
        elif apart:
            atoms[name] = apart
    said = any(columns[j] in found for found in (grids, scattered, atoms) for j in free)
    repeated = _repeated(counts) if not said else 0.0
    return Ties(grids, scattered, atoms, repeated, automatic)


def _distinct(rows: np.ndarray, free: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The rows without repetitions of whole ones, and how often each was there.

    One column alone tells no repeated row from a repeated value.
    """
    if len(free) < 2:
        return rows, np.ones(len(rows), int)
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    _, first, counts = np.unique(whole.ravel(), return_index=True, return_counts=True)
    return rows[first], counts


def _repeated(counts: np.ndarray) -> float:
    """The part of rows that repeat others, where half do, or where one row stands out."""
    n, extra = int(counts.sum()), int(counts.sum() - len(counts))
    most = int(counts.max())
    others = (n - most) / max(len(counts) - 1, 1)
    outstanding = most >= max(_LEAST, _SHARE * n, _OUTSTANDING * others)
    return extra / n if outstanding or 2 * extra >= n else 0.0


def _whole(column: np.ndarray) -> bool:
    return np.array_equal(column, np.rint(column))


def _atoms(column: np.ndarray) -> dict[float, float]:
    """The values that far more rows hold than hold their neighbours, most frequent first."""
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
    """Whether values repeat, and are few enough for a model to tell them apart."""
    if len(column) < 2 * len(np.unique(column)):
        return False
    low, high = np.quantile(column, _MIDDLE, method="nearest")
    middle = column[(column >= low) & (column <= high)]  # the tails of any law are sparse
    k, width = len(np.unique(middle)), width_of(middle)
    cells = (high - low) / width + 1 if width else np.inf
    return 2 * k <= len(middle) and k <= (_EVEN if k >= _OCCUPIED * cells else _SCATTERED)


def _columns(found: dict) -> str:
    return f"column{'s' * (len(found) > 1)}"


def _held(atoms: dict[float, float]) -> str:
    """Which part of the rows holds which value."""
    held = [f"{100 * part:.2g} % hold exactly {value:.6g}" for value, part in atoms.items()]
    more = f", and {len(held) - _SHOWN} values more" if len(held) > _SHOWN else ""
    return ", ".join(held[:_SHOWN]) + more


def in_python(names: list[str] | str) -> str:
    """How columns are declared to the estimator."""
    return f"discrete={names!r}" if len(names) <= _NAMED else "discrete=[…]"


def in_command(names: list[str] | str) -> str:
    """How columns are declared to `scoreode fit`."""
    text = names if isinstance(names, str) else as_text(names)
    return f"--discrete {shlex.quote(text)}" if len(names) <= _NAMED else "--discrete NAME,…"
