"""The section that compares samples with data: images, densities, scatter plots, a table."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scoreode.evaluate import calibration
from scoreode.evaluate.densities import Examined
from scoreode.evaluate.text import of, value
from scoreode.flow import GridLikelihood
from scoreode.report import figures, pixels
from scoreode.report.html import Picture, Pictures, Section, Table, Text

_COARSE = GridLikelihood(n_steps=24)  # accurate enough for a plot
_GRID, _LINE, _BINS = 64, 400, 50
_PAIRED, _LISTED, _GIVEN = 6, 12, 3  # columns
_COMPARED = (
    "Quantiles of held-out rows and of samples, in the units of the columns, for the columns that"
    f" differ most, at most {_LISTED}. KS is the largest difference of the two distribution"
    " functions. The last column is its 95 % quantile if both distributions are equal."
)


def samples(found: Sequence[Examined]) -> Section:
    """Pictures of every model's samples, and a table of their differences from data."""
    each, rows = [], []
    for i, examined in enumerate(found):
        shown = any(examined.held_out is other.held_out for other in found[:i])
        compared = _comparison(examined)
        each.append([*_pictures(examined, compared, shown, of(examined.subject, found))])
        rows += [_row(column, of(examined.subject, found)) for column in compared[:_LISTED]]
    if max(map(len, each)) == 1:
        each = [[picture for pictures in each for picture in pictures]]
    blocks: list[Any] = [Pictures(pictures) for pictures in each]
    if rows:
        shares = [f"{100 * q:g} %" for q in calibration.QUANTILES]
        head = [*(f"data, {q}" for q in shares), *(f"samples, {q}" for q in shares)]
        blocks += [Text(_COMPARED), Table(["column", *head, "KS", "KS of equals, 95 %"], rows)]
    return Section("Samples", blocks)


def _comparison(examined: Examined) -> list[calibration.Column]:
    """The columns of samples compared with held-out rows; empty for images or without rows."""
    if examined.fitted.data.image_shape:
        return []
    columns, rows = examined.fitted.data.columns, examined.rows
    if rows is None:
        return []
    d = len(columns)  # conditions are those of the data
    return calibration.columns(rows[:, :d], examined.samples[:, :d], columns)


def _row(column: calibration.Column, whose: str) -> list[str]:
    quantiles = (value(x, ".3g") for x in (*column.data, *column.samples))
    return [f"{column.name}{whose}", *quantiles, f"{column.ks:.3f}", f"{column.ks_limit:.3f}"]


def _pictures(
    examined: Examined, compared: Sequence[calibration.Column], shown: bool, whose: str
) -> Iterator[Picture]:
    """The pictures of a model; without those of the data if they were `shown` before."""
    data = examined.rows
    data = None if data is None else data.astype(np.float64)
    shape, columns = examined.fitted.data.image_shape, examined.fitted.data.columns
    if shape:
        yield from _images(examined, None if shown else data, whose)
    elif examined.fitted.data.conditions or examined.fitted.data.has_roles:
        yield _pairs(examined, data, compared, whose)
    elif len(columns) == 1:
        yield _line(examined, data, whose)
    elif len(columns) == 2:
        yield from _plane(examined, data, shown, whose)
    else:
        yield _pairs(examined, data, compared, whose)


def _images(examined: Examined, data: np.ndarray | None, whose: str) -> Iterator[Picture]:
    fitted, samples = examined.fitted, examined.samples
    shape = fitted.data.image_shape
    assert shape is not None  # of images

    def sheet(rows: np.ndarray) -> Figure:
        return figures.pictures(pixels.of_rows(rows, shape, fitted.pixel_range), columns=8)

    if data is not None:
        rows = data[: len(samples)]
        yield Picture(f"Data, {len(rows)} rows", sheet(rows))
    yield Picture(f"Samples{whose}, {len(samples)} rows", sheet(samples))


def _row_count(rows: np.ndarray, *sides: tuple[float, float]) -> str:
    """The number of rows, and of those outside of a figure with these sides."""
    outside = figures.outside(rows, *sides)
    return f"{len(rows)} rows" + (f", {outside} outside" if outside else "")


def _line(examined: Examined, data: np.ndarray | None, whose: str) -> Picture:
    """The model's density and a histogram of the data, or of the samples without data."""
    name, rows = ("samples", examined.samples) if data is None else ("data", data)
    sides = figures.limits(rows)
    x = np.linspace(*sides, _LINE)
    heights, edges = np.histogram(rows, _BINS, sides)
    heights = heights / len(rows) / np.diff(edges)
    at = np.searchsorted(edges, x, "right")
    histogram = np.concatenate([[0.0], heights, [0.0]])[at]
    nats = examined.fitted.whole.log_likelihood(x[:, None], how=_COARSE).nats
    curves = {name: histogram, "model": np.exp(nats)}
    label = examined.fitted.data.columns[0]
    title = f"Density{whose}, {name}: {_row_count(rows, sides)}"
    return Picture(title, figures.lines(x, {"": curves}, label))


def _plane(
    examined: Examined, data: np.ndarray | None, shown: bool, whose: str
) -> Iterator[Picture]:
    columns, rows = examined.fitted.data.columns, examined.samples
    box = figures.around(rows if data is None else data)
    if data is not None and not shown:
        picture = figures.points(data, columns, box, figures.DATA)
        yield Picture(f"Data, {_row_count(data, box[:2], box[2:])}", picture)
    picture = figures.points(rows, columns, box, figures.SAMPLES)
    yield Picture(f"Samples{whose}, {_row_count(rows, box[:2], box[2:])}", picture)
    grid = figures.grid(box, _GRID)
    nats = np.asarray(examined.fitted.whole.log_likelihood(grid, how=_COARSE).nats)
    yield Picture(f"Log-density{whose}", figures.log_density(nats, columns, box))


def _pairs(
    examined: Examined, data: np.ndarray | None, compared: Sequence[calibration.Column], whose: str
) -> Picture:
    """Pairs of the columns that differ most (without data the first ones) and of the conditions."""
    columns, rows = examined.columns, examined.samples
    given = examined.fitted.data.conditions[:_GIVEN]
    of_data = [name for name in given if name in examined.fitted.data.given]
    room = _PAIRED - len(given)
    names = [*([column.name for column in compared[:room]] or columns[:room]), *given]
    chosen = sorted(map(columns.index, names))
    which = "the columns of largest KS" if len(compared) > room else "columns in pairs"
    which += f", given {', '.join(of_data)} of the data" if of_data else ""
    halves = "" if data is None else ": data below the diagonal (blue), samples above (orange)"
    shown = None if data is None else data[:, chosen]
    figure, n_outside = figures.pairs(shown, rows[:, chosen], [columns[i] for i in chosen])
    outside = f"; rows outside: {n_outside}" if n_outside else ""
    return Picture(f"Samples{whose}, {which}{halves}{outside}", figure, wide=True)
