"""Reads which supports are declared for columns, and checks that the values are inside."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scoreode.data.dataset import Dataset, Origin
from scoreode.data.domains import Circle, Domain, Interval, Support
from scoreode.data.grids import indices
from scoreode.data.mixed import check_numbers
from scoreode.data.stored import Stored, blocks
from scoreode.errors import InputError, is_number, unknown

_TURNS = {"turns": 1.0, "radians": 2 * math.pi, "hours": 24.0, "degrees": 360.0}
_ROUNDING = 1e-9  # of a period
_PARTS = ("train", "validation", "test")


def declare(bounds: Any, period: Any, columns: Sequence[str]) -> Support:
    """The domains that are declared for columns of these names.

    **Arguments:** `bounds`, a pair (low, high) by name or index, or a sequence with a pair for
    every column; None is no bound. `period`, a number in the same ways.

    **Raises:** `InputError` for what is neither, for unknown columns, and for bounds in the wrong
    order.
    """
    found: dict[str, Domain] = {}
    for name, pair in _by_name(bounds, columns, "bounds").items():
        if pair is not None:
            low, high = _ends(pair, name)
            if low is not None or high is not None:
                found[name] = Interval(low, high)
    for name, turn in _by_name(period, columns, "period").items():
        if turn is None:
            continue
        if not (is_number(turn) and 0 < turn < math.inf):
            raise InputError(f"period {turn!r} of column {name}: must be a number, positive")
        if name in found:
            raise InputError(f"column {name}: has bounds and a period; an angle has no bounds")
        found[name] = Circle(float(turn))
    return found


def _by_name(given: Any, columns: Sequence[str], what: str) -> dict[str, Any]:
    """What is declared, by the name of its column."""
    if given is None:
        return {}
    example = f"{what}={{{columns[0]!r}: {'(0, None)' if what == 'bounds' else '360'}}}"
    if isinstance(given, Mapping):
        names = [columns[min(indices([key], columns, what))] for key in given]
        if len(set(names)) < len(names):
            raise InputError(f"{what}: {', '.join(names)}: name every column once")
        return dict(zip(names, given.values(), strict=True))
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        raise InputError(f"{what} {given!r}: give them by column, such as {example}")
    if len(given) != len(columns):
        raise InputError(
            f"{what}: {len(given)} entries for {len(columns)} columns; give one a column, or some"
            f" by name, such as {example}"
        )
    return dict(zip(columns, given, strict=True))


def _ends(pair: Any, name: str) -> tuple[float | None, float | None]:
    ends = list(pair) if isinstance(pair, Sequence | np.ndarray) else []
    if isinstance(pair, str) or len(ends) != 2:
        raise InputError(f"bounds {pair!r} of column {name}: give a pair, (low, high)")
    for end in ends:
        if end is not None and (not is_number(end) or math.isnan(end)):
            raise InputError(
                f"bounds {pair!r} of column {name}: {end!r} is neither number nor None"
            )
    low, high = (None if end is None or math.isinf(end) else float(end) for end in ends)
    infinite = ends[0] == math.inf or ends[1] == -math.inf
    if infinite or (low is not None and high is not None and low >= high):
        raise InputError(f"bounds {pair!r} of column {name}: the first must be below the second")
    return low, high


def bounds_in(entries: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """Bounds from NAME=LOW:HIGH, NAME=LOW: and NAME=:HIGH. **Raises:** `InputError` for others."""
    found = {}
    for entry in entries:
        name, _, text = entry.rpartition("=")
        low, colon, high = text.partition(":")
        if not name or not colon or text == ":" or name in found:
            raise InputError(f"bounds {entry!r}: give NAME=LOW:HIGH, NAME=LOW: or NAME=:HIGH")
        found[name] = tuple(None if not end else _number(end, entry) for end in (low, high))
    return found


def periods_in(entries: Sequence[str]) -> dict[str, float]:
    """Periods from NAME=NUMBER. **Raises:** `InputError` for others."""
    found = {}
    for entry in entries:
        name, _, text = entry.rpartition("=")
        if not name or name in found:
            raise InputError(f"period {entry!r}: give NAME=NUMBER, such as wind=360")
        found[name] = _number(text, entry)
    return found


def _number(text: str, entry: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{entry!r}: {text!r} is no number") from None


def on_support(data: Dataset, support: Support, rows: np.ndarray | None = None) -> Dataset:
    """The data set with this support.

    **Arguments:** `rows`, the numbers that the data's rows have in the user's table, from 0, where
    these are not all.

    **Raises:** `InputError` for columns that are no continuous numbers, for values outside or at
    their bounds, and for angles that fill more than one period.
    """
    if not support:
        return data
    _check_columns(data, support)
    held = {name: domain for name, domain in support.items() if isinstance(domain, Interval)}
    for source, x, numbers in _tables(data, list(held)):
        numbers = numbers if rows is None else rows[numbers]
        check_inside(x, list(held), held, source, numbers)
    turned = {
        name: _turned(data, name, domain) if isinstance(domain, Circle) else domain
        for name, domain in support.items()
    }
    return replace(data, support=turned)


def _tables(data: Dataset, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """These columns of every table that the data come from: its name, rows and their numbers."""
    at = [data.columns.index(name) for name in names]
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for part in _PARTS:
        rows = getattr(data, part)
        if not names or not len(rows):
            continue
        origin = data.origins.get(part, Origin(np.arange(len(rows)), part))
        # Those of a stored part come in their order on the disk.
        numbers = np.sort(origin.numbers) if isinstance(rows, Stored) else origin.numbers
        x = np.concatenate([block[:, at] for block in blocks(rows)])
        found.setdefault(origin.part, []).append((x, numbers))
    for part, pairs in found.items():
        x, numbers = map(np.concatenate, zip(*pairs, strict=True))
        order = np.argsort(numbers)
        yield f"{data.name}, {part} rows" if part else data.name, x[order], numbers[order]


def _check_columns(data: Dataset, support: Support) -> None:
    """Raises `InputError` unless all are columns of continuous numbers of a table."""
    if data.sampler is not None or data.image_shape is not None:
        raise InputError(f"{data.name}: bounds and periods are for the columns of tables")
    check_numbers(list(support), data, "a bound or a period")
    widths = np.broadcast_to(0.0 if data.bin_width is None else data.bin_width, len(data.columns))
    for name in support:
        if name in data.given:
            raise InputError(
                f"{data.name}: column {name} is a condition, of which there is no density; give no"
                " bounds or period"
            )
        if name not in data.columns:
            raise InputError(f"{data.name}: {unknown('column', name, data.columns)}")
        if widths[data.columns.index(name)] > 0:
            raise InputError(
                f"{data.name}: column {name} is discrete, and its grid has a range of its own: give"
                " no bounds or period, or leave it continuous"
            )


def check_inside(
    x: np.ndarray,
    columns: Sequence[str],
    support: Support,
    source: str,
    rows: np.ndarray | None = None,
) -> None:
    """Raises `InputError` for values outside their bounds, and at them, where no density is.

    **Arguments:** `x` (n, d); `rows`, their numbers from 0 in `source`.
    """
    for name, domain in support.items():
        if not isinstance(domain, Interval):
            continue
        low, high = domain.ends
        column = x[:, columns.index(name)]
        outside = np.flatnonzero((column < low) | (column > high)).tolist()
        if outside:
            more = f" ({len(outside)} rows are outside)" if len(outside) > 1 else ""
            raise InputError(
                f"{source}: {_place(rows, outside[0])}, column {name} holds"
                f" {column[outside[0]]:.10g}, outside its bounds {domain}{more}; correct or drop"
                " such rows, or declare wider bounds"
            )
        at = np.flatnonzero((column == low) | (column == high)).tolist()
        if at:
            raise InputError(
                f"{source}: column {name}: {len(at)} of {len(column)} values lie exactly at a bound"
                f" ({column[at[0]]:.10g} in {_place(rows, at[0])}), where the density is 0 or"
                " infinite; where many do, that is an atom. Drop these rows, declare wider bounds,"
                " or declare the column discrete"
            )


def _place(rows: np.ndarray | None, i: int) -> str:
    return f"row {(i if rows is None else int(rows[i])) + 1}"


def _turned(data: Dataset, name: str, circle: Circle) -> Circle:
    """The circle with the range of its data, unless it has one: from 0, or from −period / 2 where
    some are below 0.

    **Raises:** `InputError` for angles that fill more than one period, as in another unit, and for
    a constant one.
    """
    x = np.concatenate([x for _, x, _ in _tables(data, [name])])
    low, high, period = float(np.nanmin(x)), float(np.nanmax(x)), circle.period
    spread = high - low
    if spread > period * (1 + _ROUNDING):
        units = ((unit, turn) for unit, turn in _TURNS.items() if turn > period and turn >= spread)
        unit, turn = next(units, (None, None))
        hint = "" if turn is None else f" {unit} seem meant, a period of {turn:.16g};"
        raise InputError(
            f"{data.name}: column {name}: angles from {low:.6g} to {high:.6g} fill more than one"
            f" period of {period:.6g}:{hint} if the period is right, reduce the angles to one"
            " period first"
        )
    if np.ptp(np.mod(x[~np.isnan(x)] - low, period)) == 0:
        raise InputError(
            f"{data.name}: column {name}: all angles are one point, {low:.6g}; drop it"
        )
    begin = -period / 2 if low < 0 else 0.0
    return replace(circle, start=begin if circle.start is None else circle.start)


def keep_inside(x: np.ndarray, columns: Sequence[str], support: Support) -> np.ndarray:
    """Rows x (n, d) in their support that stay strictly inside when rounded to float32."""
    x = x.copy()
    for name, domain in support.items():
        j = columns.index(name)
        if isinstance(domain, Circle):
            _, _, period, start = domain.limits
            last = np.nextafter(np.float32(start + period), np.float32(-np.inf))
            x[:, j] = np.minimum(x[:, j], last)
            continue
        low, high = _inner(domain)
        if low < high:
            x[:, j] = np.clip(x[:, j], low, high)
    return x


def _inner(domain: Interval) -> tuple[float, float]:
    """The least and the greatest float32 strictly inside."""
    info = np.finfo(np.float32)
    low, high = (np.float32(end) for end in domain.ends)
    if domain.low is not None:
        low = max(np.nextafter(low, np.float32(np.inf)), low + info.tiny)
    if domain.high is not None:
        high = min(np.nextafter(high, np.float32(-np.inf)), high - info.tiny)
    return float(low), float(high)
