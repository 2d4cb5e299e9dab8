"""Sections of a report on trained models: samples, log-densities, calibration, the solver's work.

Every number is made elsewhere: by `evaluate`, by `calibration`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scoreode import evaluate
from scoreode.examine import calibration
from scoreode.examine.examined import Examined
from scoreode.report import figures
from scoreode.report.html import Chart, Charts, Curve, Picture, Pictures, Section, Table, Text
from scoreode.theory import Estimate

_BINS = 40
_WORST, _VALUES = 8, 8  # rows, and values of each
_COLUMNS = 12  # of a table of columns


def likelihood(found: Sequence[Examined | None]) -> Section:
    """NLL by run, paired where runs have the same rows, its distribution, the worst rows."""
    evaluated = _with_rows(found)
    if not evaluated:
        return Section("Log-likelihood", [Text("held-out rows.", "note")])
    rows = [_nll_row(examined, evaluated[0][1]) for _, examined in evaluated]
    head = ["", "rows", "NLL, nats", "above the entropy, nats", "bits/dim"]
    first = evaluated[0][1].subject.label
    head += [f"less {first}, nats"] if len(evaluated) > 1 else []
    head += ["not converged"]
    if len(evaluated) == 1:
        rows = [row[:5] + row[6:] for row in rows]
    said = (
        "Minus the log-density of held-out rows, mean ± standard error over rows that converged;"
        " for data on a grid minus a lower bound on the log-mass of their cells. bits/dim exist"
        " for data on a grid only."
    )
    blocks: list[Any] = [Text(said), *map(Text, dict.fromkeys(_rows_of(e) for _, e in evaluated))]
    blocks += [Table(head, rows), Charts([_nll_chart(evaluated)])]
    for _, examined in evaluated:
        blocks += _worst(examined)
    return Section("Log-likelihood", blocks)


def _with_rows(found: Sequence[Examined | None]) -> list[tuple[int, Examined]]:
    """The models that were evaluated, with their runs' numbers."""
    pairs = ((number, examined) for number, examined in enumerate(found) if examined is not None)
    return [(number, examined) for number, examined in pairs if examined.held_out is not None]


def _rows_of(examined: Examined) -> str:
    held_out = examined.held_out
    assert held_out is not None
    chosen, total = len(held_out.evaluated), held_out.total
    if chosen == total:
        return f"All {total} {_kind(held_out.source)}."
    return f"{chosen} of the {total} {_kind(held_out.source)}, drawn at random by the seed."


def _kind(source: str) -> str:
    return source if " rows of " in source else f"rows of {source}"


def _nll_row(examined: Examined, first: Examined) -> list[str]:
    fitted, records = examined.fitted, examined.records
    summary = evaluate.summarised(fitted, records, 0.0)
    if summary["nats_mean"] is None:
        return [examined.subject.label, f"{summary['n']}", *("—",) * 4, f"{summary['unconverged']}"]
    stderr = summary["nats_stderr"] or np.nan
    nll = Estimate(-summary["nats_mean"], stderr)
    entropy, bits = fitted.data["entropy"], summary["bits_per_dim"]
    per_dim = stderr / summary["d"] / np.log(2)
    return [
        examined.subject.label,
        f"{summary['n']}",
        f"{nll}",
        "—" if entropy is None else f"{nll - Estimate(entropy, 0.0)}",
        "—" if bits is None else f"{Estimate(bits, per_dim)}",
        _paired(examined, first),
        f"{summary['unconverged']}",
    ]


def _paired(examined: Examined, first: Examined) -> str:
    """The mean difference in NLL on rows that both runs have."""
    if examined is first or examined.held_out is not first.held_out:
        return "—"
    both = examined.records["converged"] & first.records["converged"]
    if both.sum() < 2:
        return "—"
    return str(Estimate.of((first.records["nats"] - examined.records["nats"])[both]))


def _nll_chart(evaluated: Sequence[tuple[int, Examined]]) -> Chart:
    each = {n: -e.records["nats"][e.records["converged"]] for n, e in evaluated}
    title = "NLL of every row"
    return _histograms(each, title, "nats a row")


def _histograms(each: dict[int, np.ndarray], title: str, label: str, log: bool = False) -> Chart:
    """Rows by value, in bins that the runs share."""
    everything = np.concatenate(list(each.values()))
    if log:
        least = everything[everything > 0].min(initial=1.0)
        each = {number: np.maximum(values, least) for number, values in each.items()}
        ends = np.log10(least), np.log10(max(everything.max(initial=0), 2 * least))
        edges = np.logspace(*ends, _BINS + 1)
        edges[-1] *= 1 + 1e-9  # rounded down, the largest value would be outside
        edges[0] *= 1 - 1e-9
    else:
        edges = np.histogram_bin_edges(everything, _BINS)
    curves = [
        Curve(edges, np.histogram(values, edges)[0].astype(float), "steps", run=number)
        for number, values in each.items()
    ]
    return Chart(title, label, "rows", curves, log="x" if log else "")


def _worst(examined: Examined) -> Iterator[Any]:
    """The rows that a model finds least likely."""
    held_out, fitted = examined.held_out, examined.fitted
    assert held_out is not None
    order = np.argsort(np.where(examined.records["converged"], examined.records["nats"], -np.inf))
    worst = order[:_WORST]
    rows = held_out.rows[held_out.evaluated][worst]
    names = held_out.columns[:_VALUES] if not fitted.data["image_shape"] else ()
    more = ["…"] if 0 < len(names) < len(held_out.columns) else []
    yield Text(f"Least likely rows: {examined.subject.label}", "heading")
    yield Table(
        ["row", "NLL, nats", *names, *more],
        [
            [
                f"{held_out.numbers[held_out.evaluated[i]]}",
                _nats(examined.records[i]),
                *(f"{value:.4g}" for value in row[: len(names)]),
                *more,
            ]
            for i, row in zip(worst, rows, strict=True)
        ],
    )
    if shape := fitted.data["image_shape"]:
        figure = figures.pictures(rows, tuple(shape), columns=_WORST)
        yield Pictures([Picture("These rows, in this order", figure)])


def _nats(record: Any) -> str:
    return f"{-record['nats']:.3f}" if record["converged"] else "not converged"


def calibrated(found: Sequence[Examined | None]) -> Section:
    """Probability integral transforms of every run, and the coverage of central regions."""
    evaluated = [(number, e) for number, e in _with_rows(found) if len(e.z) > 1]
    if not evaluated:
        return Section("Calibration", [Text("held-out rows that converged.", "note")])
    said = (
        "The ODE carries every row to a latent point, which is standard normal if the row is the"
        " model's. Then the normal distribution function of every latent coordinate is uniform:"
        " a hump means that the model is wider than the data, a valley that it is narrower, a"
        " slope that it is off to a side. The squared length follows χ² with as many degrees of"
        " freedom as there are columns. Grey: what 95 % of right models show, bin by bin and rank"
        " by rank."
    )
    blocks: list[Any] = [Text(said), Charts([*_pit_charts(evaluated)])]
    for _, examined in evaluated:
        blocks += [
            Text(f"Central regions: {examined.subject.label}", "heading"),
            Table(
                ["probability", "of coordinates inside", "of rows inside"],
                [
                    [f"{100 * c.level:g} %", f"{100 * c.coordinates} %", f"{100 * c.rows} %"]
                    for c in calibration.coverage(examined.z)
                ],
            ),
        ]
    blocks.append(
        Text("Found on held-out rows, ± standard error over rows. Right models match the first.")
    )
    return Section("Calibration", blocks)


def _pit_charts(evaluated: Sequence[tuple[int, Examined]]) -> Iterator[Chart]:
    """Histograms together with one band; ‖z‖² by rank for every run that has its own band."""
    for number, examined in evaluated:
        label = examined.subject.label
        pit = calibration.pit_histogram(examined.z)
        middle = (pit.x[1:] + pit.x[:-1]) / 2
        yield Chart(
            f"Uniformity: {label}",
            "probability integral transform",
            "density, right: 1",
            [
                Curve(middle, pit.high, "band", low=pit.low),
                Curve(pit.x, pit.found, "steps", run=number),
                Curve(middle, pit.expected),
            ],
        )
        norms = calibration.squared_norms(examined.z)
        yield Chart(
            f"Squared length: {label}",
            "quantile of χ²",
            "quantile found",
            [
                Curve(norms.x, norms.high, "band", low=norms.low),
                Curve(norms.x, norms.expected),
                Curve(norms.x, norms.found, "dots", run=number),
            ],
            log="xy",
        )


def solver(found: Sequence[Examined | None]) -> Section:
    """What the log-densities cost, and how far off they are estimated to be."""
    evaluated = _with_rows(found)
    if not evaluated:
        return Section("Solver", [Text("held-out rows.", "note")])
    rows = []
    for _, examined in evaluated:
        summary = evaluate.summarised(examined.fitted, examined.records, 0.0)
        median, most = summary["nfe_quantiles"]
        rows.append(
            [
                examined.subject.label,
                f"{summary['nfe_mean']:.1f}",
                f"{median}",
                f"{most}",
                f"{summary['nfe_max']}",
                _scientific(summary["error_mean"]),
                _scientific(summary["probe_stderr"]),
            ]
        )
    said = (
        "A log-density takes so many evaluations of the network, half of them with its divergence;"
        " rows whose estimated error is above the tolerance are solved again. The standard error of"
        " the probes is that of the mean over all rows; 0 where the divergence is exact."
    )
    head = ["", "evaluations, mean", "median", "95 %", "most"]
    head += ["estimated error a row, nats", "probes, nats"]
    good = {number: e.records[e.records["converged"]] for number, e in evaluated}
    good = {number: records for number, records in good.items() if len(records)}
    charts = []
    if good:
        each = {number: records["nfe"].astype(float) for number, records in good.items()}
        charts.append(_histograms(each, "Evaluations of the network", "a row"))
        each = {number: records["error"] for number, records in good.items()}
        charts.append(_histograms(each, "Estimated error of the solution", "nats", log=True))
        each = {number: records["stderr"] for number, records in good.items()}
        if any(np.any(values > 0) for values in each.values()):
            charts.append(_histograms(each, "Standard error of the probes", "nats", log=True))
    return Section("Solver", [Text(said), Table(head, rows), Charts(charts)])


def _scientific(value: float | None) -> str:
    return "—" if value is None else f"{value:.2g}"
