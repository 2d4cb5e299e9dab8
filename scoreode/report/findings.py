"""Sections of a report on models and held-out rows: log-densities, calibration, the solver's work.

The numbers come from `evaluate`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scoreode.evaluate.calibration import LEVELS, coverage, pit_histogram, squared_norms
from scoreode.evaluate.densities import Evaluated, difference
from scoreode.evaluate.held_out import HeldOut
from scoreode.evaluate.text import NONE, of, plus_minus, value
from scoreode.report import figures, pixels
from scoreode.report.html import Chart, Charts, Curve, Picture, Pictures, Section, Table, Text

_BINS = 40
_WORST, _VALUES = 8, 10  # least likely rows in the table, and values of each

_LIKELIHOOD = (
    "The NLL is minus the log-density of held-out rows, mean ± standard error over rows. For data"
    " on a grid it is minus a lower bound on the log-mass of their cells. Only data on a grid have"
    " bits/dim. J_Diff is what the NLL of the ODE exceeds the bound of the SDE by. Where it is"
    " above 0, orders 2 and 3 can lower the NLL; where it is below 0, the error of the score is"
    " what is left, and order 1 lowers that."
)
_CALIBRATION = (
    "The ODE maps every row to a latent point, which is standard normal if the row follows the"
    " model. Then the normal distribution function of every latent coordinate, its probability"
    " integral transform, is uniform. A hump means that the model is wider than the data, a valley"
    " that it is narrower, a slope that it is shifted. The squared length of the latent point"
    " follows χ² with one degree of freedom per column. The grey band contains 95 % of the values"
    " of a correct model, separately for every bin and every rank."
)
_COVERAGE = (
    "The share of latent coordinates, and of whole rows, in the central region of each probability,"
    " ± standard error over rows. For a correct model it equals the probability at the head of the"
    " column."
)
_SOLVER = (
    "The number of network evaluations for the log-density of a row; half of them include the"
    " divergence. Rows with an estimated error above the tolerance are solved again. The standard"
    " error of the probes is that of the mean over all rows; it is 0 if the divergence is exact."
)


def likelihood(found: Sequence[Evaluated]) -> Section:
    """The NLL of every run, paired differences on the same rows, histograms, least likely rows."""
    groups: dict[int, list[Evaluated]] = {}
    for evaluated in found:
        groups.setdefault(id(evaluated.held_out), []).append(evaluated)
    paired = len(groups[id(found[0].held_out)]) > 1
    against = [f"minus that of {found[0].subject.label}, paired, nats"] if paired else []
    head = ["", "rows", "NLL, nats", "above the entropy, nats", "bits/dim", *against]
    head += ["J_Diff, nats"]
    rows = [_nll_row(evaluated, found[0], paired) for evaluated in found]
    nats = {e.subject.number: -e.records["nats"][e.records["converged"]] for e in found}
    blocks: list[Any] = [
        Text(_LIKELIHOOD),
        *(Text(_rows_of(group[0].held_out)) for group in groups.values()),
        _without_empty_columns([*head, "not converged"], rows),
        Charts([_histograms(nats, "NLL of every row", "nats")]),
    ]
    for group in groups.values():
        blocks += _worst(group)
    return Section("Log-likelihood", blocks)


def _without_empty_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without its empty columns."""
    filled = [i for i in range(len(head)) if any(row[i] != NONE for row in rows)]
    return Table([head[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _rows_of(held_out: HeldOut) -> str:
    n, total, source = len(held_out.evaluated), held_out.total, held_out.source
    kind = source if " rows of " in source else f"rows of {source}"
    return f"All {total} {kind}." if n == total else f"{n} of {total} {kind}, at random."


def _nll_row(evaluated: Evaluated, first: Evaluated, paired: bool) -> list[str]:
    fitted, summary = evaluated.fitted, evaluated.summary
    mean, stderr = summary["nats_mean"], summary["nats_stderr"]
    entropy = fitted.data.entropy
    above = None if mean is None or entropy is None else -mean - entropy
    return [
        evaluated.subject.label,
        f"{summary['n']}",
        plus_minus(None if mean is None else -mean, stderr),
        plus_minus(above, stderr),
        plus_minus(summary["bits_per_dim"], summary["bits_per_dim_stderr"]),
        *([_difference(evaluated, first)] if paired else []),
        plus_minus(summary.get("j_diff"), summary.get("j_diff_stderr")),
        f"{summary['unconverged']}",
    ]


def _difference(evaluated: Evaluated, first: Evaluated) -> str:
    """The mean difference in NLL over the rows that both runs have."""
    estimate = None if evaluated is first else difference(first, evaluated)
    return NONE if estimate is None else plus_minus(float(estimate.value), float(estimate.stderr))


def _histograms(each: dict[int, np.ndarray], title: str, unit: str, log: bool = False) -> Chart:
    """Histograms of the runs' values in common bins; on a logarithmic axis 0 is in the lowest bin.

    Outliers are not drawn; the note says how many there are.
    """
    all_values = np.concatenate(list(each.values()))
    if log:
        least = np.min(all_values[all_values > 0], initial=1.0)
        all_values = np.log(np.maximum(all_values, least))
        each = {number: np.log(np.maximum(values, least)) for number, values in each.items()}
    sides = figures.ends(all_values) if len(all_values) else None
    edges = np.histogram_bin_edges(all_values, _BINS, sides)
    curves = [
        Curve(
            np.exp(edges) if log else edges,
            np.histogram(values, edges)[0].astype(np.float64),
            "steps",
            run=number,
        )
        for number, values in each.items()
    ]
    below, above = all_values[all_values < edges[0]], all_values[all_values > edges[-1]]
    note = _omission_note(*((np.exp(below), np.exp(above)) if log else (below, above)))
    return Chart(title, unit, "rows", curves, log="x" if log else "", note=note)


def _omission_note(below: np.ndarray, above: np.ndarray) -> str:
    """The note about values outside of a chart."""
    parts = [f"{len(below)} below, down to {value(np.min(below), '.4g')}"] if len(below) else []
    parts += [f"{len(above)} above, up to {value(np.max(above), '.4g')}"] if len(above) else []
    return f"Not drawn: {'; '.join(parts)}." if parts else ""


def _worst(group: Sequence[Evaluated]) -> Iterator[Any]:
    """The rows with the largest mean NLL over runs with the same held-out rows."""
    held_out, fitted = group[0].held_out, group[0].fitted
    nll = np.stack([np.where(e.records["converged"], -e.records["nats"], np.inf) for e in group])
    order = np.argsort(-np.mean(nll, 0), kind="stable")[:_WORST]
    shape = fitted.data.image_shape
    rows = held_out.rows[held_out.evaluated][order]
    numbers = held_out.numbers[held_out.evaluated][order]
    names = held_out.columns[: 0 if shape else _VALUES]
    files = ["file"] if held_out.files else []
    more = ["…"] if 0 < len(names) < len(held_out.columns) else []
    several = f" on average over {len(group)} runs" if len(group) > 1 else ""
    yield Text(f"Least likely rows{several}", "heading")
    yield Text(f"Numbers are those of {held_out.numbered}, from 1.")
    yield Table(
        ["row", *files, *(f"NLL{of(e.subject, group)}, nats" for e in group), *names, *more],
        [
            [
                f"{number}",
                *(held_out.files[number - 1 : number]),
                *(value(x, ".4f") if np.isfinite(x) else "not converged" for x in nll[:, i]),
                *(value(x, ".4g") for x in row[: len(names)]),
                *more,
            ]
            for i, number, row in zip(order, numbers, rows, strict=True)
        ],
    )
    if shape:
        worst = pixels.of_rows(rows, tuple(shape), fitted.pixel_range)
        picture = figures.pictures(worst, columns=_WORST)
        yield Pictures([Picture("These rows, in this order", picture)])


def calibration(found: Sequence[Evaluated]) -> Section:
    """The probability integral transforms of every run, and the coverage of central regions."""
    found = [evaluated for evaluated in found if evaluated.z.size and len(evaluated.z) > 1]
    if not found:
        return Section("Calibration", [Text("two held-out rows that converged.", "note")])
    charts = [chart for evaluated in found for chart in _pit_charts(evaluated, found)]
    rows = [row for evaluated in found for row in _coverage(evaluated, found)]
    head = ["", *(f"{100 * level:g} %" for level in LEVELS)]
    return Section(
        "Calibration", [Text(_CALIBRATION), Charts(charts), Text(_COVERAGE), Table(head, rows)]
    )


def _coverage(evaluated: Evaluated, found: Sequence[Evaluated]) -> Iterator[list[str]]:
    covered, whose = coverage(evaluated.z), of(evaluated.subject, found)
    yield [f"coordinates{whose}, %", *(f"{100 * level.coordinates}" for level in covered)]
    yield [f"rows{whose}, %", *(f"{100 * level.rows}" for level in covered)]


def _pit_charts(evaluated: Evaluated, found: Sequence[Evaluated]) -> Iterator[Chart]:
    """Two charts for every run, because the bands depend on its number of rows."""
    number, whose = evaluated.subject.number, of(evaluated.subject, found)
    pit = pit_histogram(evaluated.z)
    norms = squared_norms(evaluated.z)
    lengths = np.sum(evaluated.z.astype(np.float64) ** 2, 1)
    # Outliers would squeeze the other points.
    top = max(figures.ends(lengths)[1], norms.high[-1])
    found_below = np.where(norms.found <= top, norms.found, np.nan)
    uniform = [
        Curve(pit.x, pit.high, "band", low=pit.low),
        Curve(pit.x, pit.found, "steps", run=number),
        Curve(pit.x, pit.expected),
    ]
    yield Chart(f"Uniformity{whose}", "probability integral transform", "density", uniform)
    ranked = [
        Curve(norms.x, norms.high, "band", low=norms.low),
        Curve(norms.x, norms.expected),
        Curve(norms.x, found_below, "dots", run=number),
    ]
    note = _omission_note(lengths[:0], lengths[lengths > top])
    title = f"Squared length{whose}"
    yield Chart(title, "quantiles of χ²", "empirical quantiles", ranked, note=note)


def solver(found: Sequence[Evaluated]) -> Section:
    """The cost of the log-densities, and their estimated errors."""
    costs = sorted({int(nfe) for evaluated in found for nfe in evaluated.records["nfe"]})
    head = ["", "evaluations a row, mean", "median", "95 %", "most"]
    head += ["estimated error a row, mean, nats", "probes, nats"]
    counts = [
        [e.subject.label, *(f"{np.sum(e.records['nfe'] == cost)}" for cost in costs)] for e in found
    ]
    blocks: list[Any] = [Text(_SOLVER), Table(head, [_work(evaluated) for evaluated in found])]
    blocks += [Table(["rows that took evaluations:", *map(str, costs)], counts)]
    converged = {e.subject.number: e.records[e.records["converged"]] for e in found}
    converged = {number: records for number, records in converged.items() if len(records)}
    titles = {"error": "Estimated error of a row", "stderr": "Standard error of a row's probes"}
    each = {name: {n: records[name] for n, records in converged.items()} for name in titles}
    charts = [
        _histograms(each[name], title, "nats", log=True)
        for name, title in titles.items()
        if any(np.any(values > 0) for values in each[name].values())
    ]
    return Section("Solver", [*blocks, Charts(charts)])


def _work(evaluated: Evaluated) -> list[str]:
    summary = evaluated.summary
    return [
        evaluated.subject.label,
        f"{summary['nfe_mean']:.1f}",
        *map(str, summary["nfe_quantiles"]),
        f"{summary['nfe_max']}",
        value(summary["error_mean"], ".2g"),
        value(summary["probe_stderr"], ".2g"),
    ]
