"""Figures of densities, and of samples as points or pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scoreode._files import replace_whole
from scoreode.errors import InputError

DATA, SAMPLES = "#0072b2", "#d55e00"  # distinct for colour-blind readers too
Box = tuple[float, float, float, float]
"""Left, right, bottom, top."""
_REACH = 5.0  # interquartile ranges from the quartiles that a figure shows
_LIMIT = 4.5  # half the side of the window for the 2-D toys


def window(n: int) -> np.ndarray:
    """The points of an n × n grid over the 2-D toys' window, shape (n², 2)."""
    return grid((-_LIMIT, _LIMIT, -_LIMIT, _LIMIT), n)


def densities(panels: Mapping[str, np.ndarray]) -> Figure:
    """Densities on `window` grids, (n²,), side by side on one colour scale."""
    figure = Figure(figsize=(3.1 * len(panels), 3.4), layout="constrained")
    top = np.quantile(next(iter(panels.values())), 0.99) * 1.25
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, density) in zip(axes, panels.items(), strict=True):
        n = round(len(density) ** 0.5)
        extent = (-_LIMIT, _LIMIT, -_LIMIT, _LIMIT)
        axis.imshow(
            density.reshape(n, n), origin="lower", extent=extent, cmap="magma", vmin=0, vmax=top
        )
        axis.set(title=title, xticks=[], yticks=[])
    return figure


def lines(
    x: np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]], label: str = "x"
) -> Figure:
    """Densities of one variable in panels; the first of a panel is filled, the others are lines."""
    figure = Figure(figsize=(3.4 * len(panels), 2.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        (truth, density), *models = curves.items()
        axis.fill_between(x, density, color="0.85", label=truth)
        for (name, model), style in zip(models, ("-", "--"), strict=False):
            axis.plot(x, model, style, linewidth=1.2, label=name)
        axis.set(title=title, xlabel=label, ylim=(0, 1.6 * density.max()))
    axes[0].set(ylabel="density")
    axes[0].legend(frameon=False)
    return figure


@runtime_checkable
class OverTime(Protocol):
    """ℓ_Fisher and ℓ_SM over t, each with a `value`."""

    t: np.ndarray
    fisher: Any
    score_matching: Any


def fisher_curves(models: Mapping[str, OverTime]) -> Figure:
    """ℓ_Fisher(t) and ℓ_SM(t) of models, side by side on logarithmic axes."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, curves in models.items():
        left.plot(curves.t, curves.fisher.value, label=name)
        right.plot(curves.t, curves.score_matching.value, label=name)
    left.set(title="$\\ell_{Fisher}(t)$", xlabel="t", yscale="log")
    right.set(title="$\\ell_{SM}(t)$", xlabel="t", yscale="log")
    left.legend(frameon=False)
    return figure


def pictures(pixels: np.ndarray, columns: int = 10) -> Figure:
    """A sheet of enlarged images, from uint8 pixels (n, h, w, c) with c = 1, 3 or 4."""
    n, height, width, channels = pixels.shape
    n_rows = -(-n // columns)
    sheet = np.full((n_rows * (height + 1), columns * (width + 1), channels), 255, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    figure = Figure(figsize=(0.6 * columns, 0.6 * n_rows), layout="constrained")
    axis = figure.subplots()
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    axis.axis("off")
    return figure


def points(
    rows: np.ndarray, columns: Sequence[str], box: Box | None = None, colour: str = DATA
) -> Figure:
    """A histogram of one column, or a scatter plot of two within `box`."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axis = figure.subplots()
    if rows.shape[1] == 1:
        axis.hist(rows[:, 0], bins=100, density=True, color=colour)
        axis.set(xlabel=columns[0], ylabel="density")
    elif rows.shape[1] == 2:
        axis.scatter(*rows.T, s=1, alpha=0.5, color=colour)
        _name(axis, *columns)
        if box is None:
            axis.set(aspect="equal")
        else:
            axis.set(xlim=box[:2], ylim=box[2:])
    else:
        raise InputError(
            f"a .png shows one or two columns or images, not {rows.shape[1]} columns; use .csv,"
            " .parquet, .npy or .npz"
        )
    return figure


def log_density(nats: np.ndarray, columns: Sequence[str], box: Box) -> Figure:
    """log p of two columns, (n²,) on a `grid`, down to 1/1000 of the largest density."""
    figure, n = Figure(figsize=(4, 4), layout="constrained"), round(len(nats) ** 0.5)
    axis, top = figure.subplots(), np.max(nats)
    shown = {"cmap": "magma", "vmin": top - np.log(1000), "vmax": top, "aspect": "auto"}
    image = axis.imshow(nats.reshape(n, n), origin="lower", extent=box, **shown)
    _name(axis, *columns)
    figure.colorbar(image, ax=axis, location="top", label="log p (nats)", aspect=40)
    return figure


def pairs(
    data: np.ndarray | None, samples: np.ndarray, columns: Sequence[str]
) -> tuple[Figure, int]:
    """Scatter plots of all pairs of columns, with data below and samples above the diagonal.

    Histograms of the columns are on the diagonal.

    **Returns:** the figure, and the number of rows outside of it.
    """
    d = len(columns)
    figure = Figure(figsize=(1.5 * d, 1.5 * d), layout="constrained")
    axes = figure.subplots(d, d, squeeze=False)
    tables = [(samples, SAMPLES)] if data is None else [(data, DATA), (samples, SAMPLES)]
    all_rows = np.concatenate([rows for rows, _ in tables])
    sides = [limits(all_rows[:, i]) for i in range(d)]
    for place, axis in enumerate(axes.flat):
        i, j = divmod(place, d)
        axis.set(xlim=sides[j], xticks=[], yticks=[])
        if i == d - 1:
            axis.set_xticks(
                **_ticks(sides[j]), fontsize=7, rotation=45, ha="right", rotation_mode="anchor"
            )
        if i == j:
            for rows, colour in tables:
                shape = {"histtype": "step", "color": colour, "linewidth": 1.2}
                axis.hist(rows[:, i], bins=30, range=sides[i], density=True, **shape)
        else:
            rows, colour = tables[0 if i > j else -1]
            axis.scatter(rows[:, j], rows[:, i], s=1.5, alpha=0.4, color=colour, linewidths=0)
            axis.set(ylim=sides[i])
            if j == 0:
                axis.set_yticks(**_ticks(sides[i]), fontsize=7)
        _name(axis, columns[j] if i == d - 1 else "", columns[i] if j == 0 else "")
    return figure, outside(all_rows, *sides)


def _name(axis: Axes, x: str, y: str) -> None:
    """Labels the axes with the columns' names, shortened and without TeX: $ is a dollar sign."""
    short_x, short_y = (name if len(name) <= 16 else f"{name[:15]}…" for name in (x, y))
    axis.set_xlabel(short_x, parse_math=False)
    axis.set_ylabel(short_y, parse_math=False)


def _ticks(ends: tuple[float, float]) -> dict[str, Any]:
    """Two or three round values between the ends, with enough digits to differ."""
    at = np.asarray(MaxNLocator(3).tick_values(*ends))
    at = at[(at >= ends[0]) & (at <= ends[1])]
    step = at[1] - at[0] if len(at) > 1 else 1.0
    size = max(np.max(np.abs(at), initial=0.0) / step, 1.0)
    digits = max(int(np.ceil(np.log10(size))) + 1, 10)
    return {"ticks": at, "labels": [f"{x:.{digits}g}".replace("-", "−") for x in at]}


def ends(values: np.ndarray) -> tuple[float, float]:
    """The ends of an axis for these values, without outliers that would squeeze the others.

    It covers all values within five interquartile ranges of the quartiles, and at least 98 %.
    Missing ones, NaN, have no part.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return 0.0, 1.0
    first, third = np.quantile(values, [0.25, 0.75])
    reach = _REACH * (third - first)
    low = min(np.quantile(values, 0.01, method="higher"), first - reach)
    high = max(np.quantile(values, 0.99, method="lower"), third + reach)
    return float(max(low, np.min(values))), float(min(high, np.max(values)))


def limits(values: np.ndarray) -> tuple[float, float]:
    """The `ends` with a margin."""
    low, high = ends(values)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def outside(rows: np.ndarray, *sides: tuple[float, float]) -> int:
    """The number of rows outside of a figure with these sides for their columns."""
    low, high = np.asarray(sides).T
    return int(np.sum(np.any((rows < low) | (rows > high), axis=1)))


def around(rows: np.ndarray) -> Box:
    """The box of two columns' `limits`."""
    return (*limits(rows[:, 0]), *limits(rows[:, 1]))


def grid(box: Box, n: int) -> np.ndarray:
    """The points of an n × n grid over a box, shape (n², 2)."""
    axes = np.linspace(*box[:2], n), np.linspace(*box[2:], n)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def write(figure: Figure, path: Path) -> None:
    """Saves a figure. **Raises:** `FailureError` if the disk refuses."""
    with replace_whole(path) as partial:
        figure.savefig(partial, dpi=150)
