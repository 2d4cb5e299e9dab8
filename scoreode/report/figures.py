"""Figures: densities beside the truth, samples as points or pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scoreode._files import replaced
from scoreode.errors import InputError

DATA, SAMPLES = "#0072b2", "#d55e00"  # told apart by the colour-blind too
Box = tuple[float, float, float, float]
"""Left, right, bottom, top."""
_LIMIT = 4.5  # half the side of the window in which the 2-D toys are shown


def window(n: int) -> np.ndarray:
    """The centres of an n × n grid over the 2-D toys' window, shape (n², 2)."""
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
    """Densities of one variable, side by side: the first of a panel filled, the others as lines."""
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
    """ℓ_Fisher(t) and ℓ_SM(t) of models, on logarithmic axes side by side."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, found in models.items():
        left.plot(found.t, found.fisher.value, label=name)
        right.plot(found.t, found.score_matching.value, label=name)
    left.set(title="$\\ell_{Fisher}(t)$", xlabel="t", yscale="log")
    right.set(title="$\\ell_{SM}(t)$", xlabel="t", yscale="log")
    left.legend(frameon=False)
    return figure


def pictures(rows: np.ndarray, shape: tuple[int, ...], columns: int = 10) -> Figure:
    """Rows as pictures (h, w), (h, w, 1) or (h, w, 3), in a grid."""
    n_rows = -(-len(rows) // columns)
    height, width, channels = (*shape, 1)[:3]
    # A few outlying pixels would turn the paper grey.
    low, high = np.quantile(rows, [0.02, 0.98])
    shades = np.clip((rows - low) / ((high - low) or 1.0), 0, 1)
    sheet = np.ones((n_rows * (height + 1), columns * (width + 1), channels))
    for i, picture in enumerate(shades.reshape(-1, height, width, channels)):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        # One channel is ink on paper, three are light.
        drawn = 1 - picture if channels == 1 else picture
        sheet[top : top + height, left : left + width] = drawn
    figure = Figure(figsize=(0.6 * columns, 0.6 * n_rows), layout="constrained")
    axis = figure.subplots()
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=1)
    axis.axis("off")
    return figure


def points(
    rows: np.ndarray, columns: Sequence[str], box: Box | None = None, colour: str = DATA
) -> Figure:
    """A histogram of one column, or a scatter of two, which `box` bounds."""
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
    """log p of two columns, (n²,) on a `grid`, down to a thousandth of its largest density."""
    figure, n = Figure(figsize=(4, 4), layout="constrained"), round(len(nats) ** 0.5)
    axis, top = figure.subplots(), np.max(nats)
    shown = {"cmap": "magma", "vmin": top - np.log(1000), "vmax": top, "aspect": "auto"}
    image = axis.imshow(nats.reshape(n, n), origin="lower", extent=box, **shown)
    _name(axis, *columns)
    figure.colorbar(image, ax=axis, location="top", label="log p (nats)", aspect=40)
    return figure


def pairs(data: np.ndarray | None, samples: np.ndarray, columns: Sequence[str]) -> Figure:
    """Every pair of columns, data below the diagonal and samples above; each column on it."""
    d = len(columns)
    figure = Figure(figsize=(1.5 * d, 1.5 * d), layout="constrained")
    axes = figure.subplots(d, d, squeeze=False)
    drawn = [(samples, SAMPLES)] if data is None else [(data, DATA), (samples, SAMPLES)]
    together = np.concatenate([rows for rows, _ in drawn])
    # A few values far out would leave no room for the others.
    ends = [limits(together[:, i], 0.002) for i in range(d)]
    for place, axis in enumerate(axes.flat):
        i, j = divmod(place, d)
        axis.set(xlim=ends[j], xticks=[], yticks=[])
        if i == j:
            for rows, colour in drawn:
                shape = {"histtype": "step", "color": colour, "linewidth": 1.2}
                axis.hist(rows[:, i], bins=30, range=ends[i], density=True, **shape)
        else:
            rows, colour = drawn[0 if i > j else -1]
            axis.scatter(rows[:, j], rows[:, i], s=1.5, alpha=0.4, color=colour, linewidths=0)
            axis.set(ylim=ends[i])
        _name(axis, columns[j] if i == d - 1 else "", columns[i] if j == 0 else "")
    return figure


def _name(axis: Axes, x: str, y: str) -> None:
    """Labels the axes with columns' names, which may be long, and in which $ is a dollar."""
    short_x, short_y = (name if len(name) <= 16 else f"{name[:15]}…" for name in (x, y))
    axis.set_xlabel(short_x, parse_math=False)
    axis.set_ylabel(short_y, parse_math=False)


def limits(values: np.ndarray, outside: float = 0.0) -> tuple[float, float]:
    """What holds the values with a margin, but for the part `outside` at either end."""
    low, high = np.quantile(values, [outside, 1 - outside])
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def around(rows: np.ndarray) -> Box:
    """What holds two columns with a margin."""
    return (*limits(rows[:, 0]), *limits(rows[:, 1]))


def grid(box: Box, n: int) -> np.ndarray:
    """The points of an n × n grid over a box, shape (n², 2)."""
    axes = np.linspace(*box[:2], n), np.linspace(*box[2:], n)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def write(figure: Figure, path: Path) -> None:
    """Saves a figure. **Raises:** `FailureError` where the disk refuses."""
    with replaced(path) as partial:
        figure.savefig(partial, dpi=150)
