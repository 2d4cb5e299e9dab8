"""Data beside samples, as what they are: pictures, a line, a plane, or a table."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scoreode.examine import calibration
from scoreode.examine.examined import Examined
from scoreode.examine.written import value
from scoreode.flow import GridLikelihood
from scoreode.report import figures
from scoreode.report.html import Picture, Pictures, Section, Table, Text

_FOR_EYES = GridLikelihood(n_steps=24)  # a colour shows no more
_GRID, _LINE, _BINS = 64, 400, 50
_PAIRED, _LISTED = 6, 12  # columns


def samples(found: Sequence[Examined]) -> Section:
    """For every model what its samples look like, and how they differ from data."""
    blocks: list[Any] = []
    for i, examined in enumerate(found):
        shown = any(examined.held_out is other.held_out for other in found[:i])
        if len(found) > 1:
            blocks.append(Text(examined.subject.label, "heading"))
        blocks += _section(examined, shown)
    return Section("Samples", blocks)


def _section(examined: Examined, shown: bool) -> Iterator[Any]:
    """Pictures, and a table of columns; of data that were shown before only the model's part."""
    held_out, rows = examined.held_out, examined.samples
    data = None if isinstance(held_out, str) else held_out.rows.astype(np.float64)
    shape, columns = examined.fitted.data["image_shape"], examined.fitted.data["columns"]
    if shape:
        yield Pictures(_images(None if shown else data, rows, tuple(shape)))
        return
    if len(columns) == 1:
        yield Pictures([_line(examined, data)])
    elif len(columns) == 2:
        yield Pictures([*_plane(examined, data, shown)])
    if data is not None:
        compared = calibration.columns(data, rows, columns)
        if len(columns) > 2:
            yield _pairs(examined, data, compared)
        yield from _columns(compared, len(data), len(rows), explained=shown)


def _images(data: np.ndarray | None, samples: np.ndarray, shape: tuple[int, ...]) -> list[Picture]:
    drawn = {} if data is None else {"Data": data[: len(samples)]}
    return [
        Picture(f"{name}, {len(rows)}", figures.pictures(rows, shape, columns=8))
        for name, rows in (drawn | {"Samples": samples}).items()
    ]


def _line(examined: Examined, data: np.ndarray | None) -> Picture:
    """The model's density over the data's, or the samples' where there are none."""
    name, rows = ("samples", examined.samples) if data is None else ("data", data)
    low, high = np.quantile(rows, [0, 1])
    x = np.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), _LINE)
    heights, edges = np.histogram(rows, _BINS, density=True)
    at = np.searchsorted(edges, x, "right")
    histogram = np.concatenate([[0.0], heights, [0.0]])[at]
    nats = examined.fitted.density.log_likelihood(x[:, None], how=_FOR_EYES).nats
    curves = {name: histogram, "model": np.exp(nats)}
    label = examined.fitted.data["columns"][0]
    return Picture("Density", figures.lines(x, {"": curves}, label))


def _plane(examined: Examined, data: np.ndarray | None, shown: bool) -> Iterator[Picture]:
    columns, rows = examined.fitted.data["columns"], examined.samples
    box = figures.around(rows if data is None else data)
    if data is not None and not shown:
        picture = figures.points(data, columns, box, figures.DATA)
        yield Picture(f"Data, {len(data)} rows", picture)
    picture = figures.points(rows, columns, box, figures.SAMPLES)
    yield Picture(f"Samples, {len(rows)} rows", picture)
    grid = figures.grid(box, _GRID)
    nats = np.asarray(examined.fitted.density.log_likelihood(grid, how=_FOR_EYES).nats)
    yield Picture("Log-density of the model", figures.log_density(nats, columns, box))


def _pairs(
    examined: Examined, data: np.ndarray, compared: Sequence[calibration.Column]
) -> Pictures:
    """The columns in which samples and data differ most."""
    columns = examined.fitted.data["columns"]
    picked = sorted(columns.index(column.name) for column in compared[:_PAIRED])
    names = [columns[i] for i in picked]
    which = "All columns" if len(columns) <= _PAIRED else "The columns that differ most"
    title = f"{which}: data below the diagonal (blue), samples above (orange)"
    figure = figures.pairs(data[:, picked], examined.samples[:, picked], names)
    return Pictures([Picture(title, figure, wide=True)])


def _columns(
    compared: Sequence[calibration.Column], n_data: int, n_samples: int, explained: bool
) -> Iterator[Any]:
    """Quantiles and distances of columns, those that differ most first."""
    if not explained:
        yield Text(
            f"Quantiles of {n_data} held-out rows and of {n_samples} samples, in the columns' own"
            " units. KS is the largest difference of their distribution functions; below"
            f" {compared[0].ks_limit:.3f} in 95 % of cases where both are alike."
        )
    percent = [f"{100 * q:g} %" for q in calibration.QUANTILES]
    head = ["column", *(f"data, {q}" for q in percent), *(f"samples, {q}" for q in percent), "KS"]
    rows = [
        [
            column.name,
            *(value(x, ".3g") for x in (*column.data, *column.samples)),
            f"{column.ks:.3f}",
        ]
        for column in compared[:_LISTED]
    ]
    yield Table(head, rows)
    if len(compared) > _LISTED:
        yield Text(f"The {_LISTED} columns of {len(compared)} that differ most.")
