"""Sections of a report on models and held-out rows: log-densities, calibration, the solver's work.

Every number is made elsewhere: by `evaluate`, by `calibration`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scoreode.evaluate import calibration
from scoreode.evaluate.densities import Evaluated, difference
from scoreode.evaluate.held_out import HeldOut
from scoreode.evaluate.text import NONE, of, plus_minus, value
from scoreode.report import figures, pixels
from scoreode.report.html import Chart, Charts, Curve, Picture, Pictures, Section, Table, Text

_BINS = 40
_WORST, _VALUES = 8, 10  # rows, and values of each

_LIKELIHOOD = (
    "Minus the log-density of held-out rows, mean ± standard error over rows. For data on a grid,"
    " minus a lower bound on the log-mass of their cells, and bits/dim, which other data have not."
)
_CALIBRATION = (
    "The ODE carries every row to a latent point, which is standard normal if the row is the"
    " model's. Then the normal distribution function of every latent coordinate is uniform: a hump"
    " means that the model is wider than the data, a valley that it is narrower, a slope that it is"
    " off to a side. The squared length of the point follows χ² with as many degrees of freedom as"
    " there are columns. Grey: where 95 % of right models are, bin by bin and rank by rank."
)
_COVERAGE = (
    "How much of the latent coordinates, and of whole rows, the central region of a probability"
    " holds, ± standard error over rows. A right model holds what the head of the column says."
)
_SOLVER = (
    "A log-density takes so many evaluations of the network, half of them with its divergence; rows"
    " whose estimated error is above the tolerance are solved again. The standard error of the"
    " probes is that of the mean over all rows; 0 where the divergence is exact."
)


def likelihood(found: Sequence[Evaluated]) -> Section:
    """NLL by run, paired where runs have the same rows, its distribution, the worst rows."""
    groups: dict[int, list[Evaluated]] = {}
    for evaluated in found:
        groups.setdefault(id(evaluated.held_out), []).append(evaluated)
    paired = len(groups[id(found[0].held_out)]) > 1
    against = [f"minus that of {found[0].subject.label}, paired, nats"] if paired else []
    head = ["", "rows", "NLL, nats", "above the entropy, nats", "bits/dim", *against]
    rows = [_nll_row(evaluated, found[0], paired) for evaluated in found]
    nats = {e.subject.number: -e.records["nats"][e.records["converged"]] for e in found}
    blocks: list[Any] = [
        Text(_LIKELIHOOD),
        *(Text(_rows_of(group[0].held_out)) for group in groups.values()),
        _filled([*head, "not converged"], rows),
        Charts([_histograms(nats, "NLL of every row", "nats")]),
    ]
    for group in groups.values():
        blocks += _worst(group)
    return Section("Log-likelihood", blocks)


def _filled(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without the columns that hold nothing."""
    kept = [i for i in range(len(head)) if any(row[i] != NONE for row in rows)]
    return Table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _rows_of(held_out: HeldOut) -> str:
    chosen, total, source = len(held_out.evaluated), held_out.total, held_out.source
    kind = source if " rows of " in source else f"rows of {source}"
    return f"All {total} {kind}." if chosen == total else f"{chosen} of {total} {kind}, at random."


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
        f"{summary['unconverged']}",
    ]


def _difference(evaluated: Evaluated, first: Evaluated) -> str:
    """The mean difference in NLL over rows that both runs have."""
    found = None if evaluated is first else difference(first, evaluated)
    return NONE if found is None else plus_minus(float(found.value), float(found.stderr))


def _histograms(each: dict[int, np.ndarray], title: str, unit: str, log: bool = False) -> Chart:
    """Rows by value, in bins that the runs share; on a logarithmic axis 0 is in the lowest.

    A few rows far from the others are not drawn, but counted.
    """
    everything = np.concatenate(list(each.values()))
    if log:
        least = np.min(everything[everything > 0], initial=1.0)
        everything = np.log(np.maximum(everything, least))
        each = {number: np.log(np.maximum(values, least)) for number, values in each.items()}
    sides = figures.ends(everything) if len(everything) else None
    edges = np.histogram_bin_edges(everything, _BINS, sides)
    curves = [
        Curve(
            np.exp(edges) if log else edges,
            np.histogram(values, edges)[0].astype(np.float64),
            "steps",
            run=number,
        )
        for number, values in each.items()
    ]
    below, above = everything[everything < edges[0]], everything[everything > edges[-1]]
    note = _left_out(*((np.exp(below), np.exp(above)) if log else (below, above)))
    return Chart(title, unit, "rows", curves, log="x" if log else "", note=note)


def _left_out(below: np.ndarray, above: np.ndarray) -> str:
    """What a chart does not show."""
    said = [f"{len(below)} below, down to {value(np.min(below), '.4g')}"] if len(below) else []
    said += [f"{len(above)} above, up to {value(np.max(above), '.4g')}"] if len(above) else []
    return f"Not drawn: {'; '.join(said)}." if said else ""


def _worst(group: Sequence[Evaluated]) -> Iterator[Any]:
    """The rows that models of the same rows find least likely on average."""
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


def calibrated(found: Sequence[Evaluated]) -> Section:
    """Probability integral transforms of every run, and the coverage of central regions."""
    found = [evaluated for evaluated in found if len(evaluated.z) > 1]
    if not found:
        return Section("Calibration", [Text("two held-out rows that converged.", "note")])
    charts = [chart for evaluated in found for chart in _pit_charts(evaluated, found)]
    rows = [row for evaluated in found for row in _coverage(evaluated, found)]
    head = ["", *(f"{100 * level:g} %" for level in calibration.LEVELS)]
    return Section(
        "Calibration", [Text(_CALIBRATION), Charts(charts), Text(_COVERAGE), Table(head, rows)]
    )


def _coverage(evaluated: Evaluated, found: Sequence[Evaluated]) -> Iterator[list[str]]:
    covered, whose = calibration.coverage(evaluated.z), of(evaluated.subject, found)
    yield [f"coordinates{whose}, %", *(f"{100 * level.coordinates}" for level in covered)]
    yield [f"rows{whose}, %", *(f"{100 * level.rows}" for level in covered)]


def _pit_charts(evaluated: Evaluated, found: Sequence[Evaluated]) -> Iterator[Chart]:
    """Two charts for every run: its number of rows decides the bands."""
    number, whose = evaluated.subject.number, of(evaluated.subject, found)
    pit = calibration.pit_histogram(evaluated.z)
    norms = calibration.squared_norms(evaluated.z)
    lengths = np.sum(evaluated.z.astype(np.float64) ** 2, 1)
    # A few rows far out would leave no room for the others; but most stay where they are.
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
    note = _left_out(lengths[:0], lengths[lengths > top])
    title = f"Squared length{whose}"
    yield Chart(title, "quantiles of χ²", "quantiles found", ranked, note=note)


def solver(found: Sequence[Evaluated]) -> Section:
    """What the log-densities cost, and how far off they are estimated to be."""
    costs = sorted({int(nfe) for evaluated in found for nfe in evaluated.records["nfe"]})
    head = ["", "evaluations a row, mean", "median", "95 %", "most"]
    head += ["estimated error a row, mean, nats", "probes, nats"]
    counts = [
        [e.subject.label, *(f"{np.sum(e.records['nfe'] == cost)}" for cost in costs)] for e in found
    ]
    blocks: list[Any] = [Text(_SOLVER), Table(head, [_work(evaluated) for evaluated in found])]
    blocks += [Table(["rows that took evaluations:", *map(str, costs)], counts)]
    good = {e.subject.number: e.records[e.records["converged"]] for e in found}
    good = {number: records for number, records in good.items() if len(records)}
    titles = {"error": "Estimated error of a row", "stderr": "Standard error by probes of a row"}
    each = {name: {n: records[name] for n, records in good.items()} for name in titles}
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
