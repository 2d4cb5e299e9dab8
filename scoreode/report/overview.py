"""What was run, and how training went: what a report says of a run before it has a model."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scoreode.data import Description, sources
from scoreode.data.mixed import described
from scoreode.evaluate import table
from scoreode.evaluate.densities import Examined
from scoreode.evaluate.held_out import Options
from scoreode.evaluate.runs import Subject
from scoreode.evaluate.text import of, value
from scoreode.model.config import Run, to_json
from scoreode.model.explain import explain
from scoreode.model.fitted import Fitted
from scoreode.report import again
from scoreode.report.html import Chart, Charts, Curve, Fold, Section, Table, Text

_TERMS = {
    "loss": ("loss", "weighted mean"),
    "first": ("J1", "‖σs + ε‖², weighted mean"),
    "second": ("J2", "weighted mean"),
    "second_trace": ("J2, trace", "weighted mean"),
    "third": ("J3", "weighted mean"),
    "validation_nats": ("validation NLL", "nats a row"),
}


def runs(subjects: Sequence[Subject], models: Sequence[Examined], options: Options) -> Section:
    """Every run's facts, what is missing, its configuration, and the commands that do it again."""
    facts = [_facts(subject) for subject in subjects]
    rows = [[name, *_once([fact[name] for fact in facts])] for name in facts[0]]
    blocks: list[Any] = [*_missing(subjects, models)]
    blocks += [Table(["", *(subject.label for subject in subjects)], rows, kind="facts")]
    for subject in subjects:
        if subject.fitted is not None:
            title = f"The fit in words{of(subject, subjects)}"
            blocks.append(Fold(title, explain(subject.fitted), open=len(subjects) == 1))
    commands = {subject.label: again.commands(subject, options) for subject in subjects}
    texts = [f"## {label}\n{text}" for label, text in commands.items()]
    together = "\n\n".join(texts if len(texts) > 1 else commands.values())
    blocks.append(Fold("Run it again", together, open=len(texts) == 1))
    for subject in subjects:
        config = json.dumps(subject.folder.read("config.json"), indent=2, ensure_ascii=False)
        title = f"Resolved configuration, and versions at training{of(subject, subjects)}"
        blocks.append(Fold(title, config))
    return Section("Runs", blocks)


def _missing(subjects: Sequence[Subject], models: Sequence[Examined]) -> Iterator[Text]:
    for subject in subjects:
        if subject.fitted is None:
            yield Text(f"the model of {subject.label}: its training is not finished.", "note")
    for model in models:
        if isinstance(model.held_out, str):
            what = f"held-out rows of {model.subject.label}: {model.held_out}"
            yield Text(f"{what}. Give some with --data FILE.", "note")


def _once(values: list[str]) -> list[str]:
    """One cell for all runs where they agree."""
    return values[:1] if len(set(values)) == 1 else values


def _facts(subject: Subject) -> dict[str, str]:
    run, data, fitted = subject.run, subject.data, subject.fitted
    sizes = to_json(run.network)
    kind, last = sizes.pop("type"), subject.metrics[-1] if subject.metrics else None
    steps, seconds = (fitted.steps, fitted.seconds) if fitted else (None, None)
    if fitted is None and last is not None:
        steps, seconds = last["step"], last["seconds"]
    so_far = "" if fitted else " so far"
    kind_of_best = "NLL" if run.validation == "exact" else "bound on the NLL"
    best = "none"
    if fitted is not None and fitted.validation_nats is not None:
        best = f"{value(fitted.validation_nats, '.4f')} nats ({kind_of_best})"
    budget = f"{run.steps} steps" if run.seconds is None else f"{run.seconds:g} s"
    model = subject.folder.path / "model.safetensors"
    return {
        "data": data.name or "unknown",
        "training rows": "new ones at every step"
        if data.name in sources.TOYS
        else f"{data.n_train}",
        "columns": f"{len(data.modelled)}",
        **_kinds(data, fitted),
        "given": ", ".join(data.given) or "nothing",
        "grid": _grid(data),
        "order": _order(run, fitted),
        "process": _describe(run.objective.process),
        "network": f"{kind}, {', '.join(f'{k} {_short(v)}' for k, v in sizes.items())}",
        "standardisation": run.standardise,
        "noise on standardised rows": f"{run.smoothing:.3g}" if run.smoothing else "none",
        "stack": "none" if fitted is None or fitted.stack is None else fitted.stack.text,
        "budget": budget,
        "trained": "not at all" if steps is None else f"{steps} steps in {seconds:.0f} s{so_far}",
        "went back": _recoveries(fitted),
        "best validation": best,
        "seed": f"{run.seed}",
        "training rows, CRC-32": f"{data.fingerprint:08x}",
        "model, SHA-256": f"{table.digest(model)[:16]}…" if fitted else "none",
    }


def _kinds(data: Description, fitted: Fitted | None) -> dict[str, str]:
    """The categories with their levels, their law, and the dates; nothing of numbers only."""
    found = described(data.kinds)
    if data.gaps_of_all:
        found["missing values"] = f"in {', '.join(data.gaps_of_all)}"
    if data.subsets:
        found["densities"] = "of every set of columns"
    if fitted is not None and fitted.law is not None:
        what = "categories, and of what is missing" if data.gaps else "categories"
        found[f"law of the {what}"] = fitted.law.says
    return found


def _grid(data: Description) -> str:
    """The widths of cells: one for all columns, or those of the discrete ones by name."""
    if data.bin_width is None:
        return "none: continuous"
    if not isinstance(data.bin_width, tuple):
        return f"cells of width {data.bin_width:g}"
    widths = zip(data.columns, data.bin_width, strict=True)
    return "cells of width " + ", ".join(f"{width:g} ({name})" for name, width in widths if width)


def _order(run: Run, fitted: Fitted | None) -> str:
    """What was asked for, and what acted on the weights."""
    if fitted is None or fitted.order == run.order:
        return f"{run.order}"
    return f"{run.order}; {fitted.order} acted on the weights"


def _recoveries(fitted: Fitted | None) -> str:
    """The steps at which training diverged and went back, each time with half the rate."""
    if fitted is None or not fitted.recoveries:
        return "never"
    return f"to step {', '.join(map(str, fitted.recoveries))}, each time with half the rate"


def _describe(component: Any) -> str:
    fields = to_json(component)
    kind = fields.pop("type")
    return f"{kind}, {', '.join(f'{k} {_short(v)}' for k, v in fields.items())}"


def _short(value: Any) -> str:
    return "×".join(map(_short, value)) if isinstance(value, list | tuple) else f"{value}"


def training(subjects: Sequence[Subject]) -> Section:
    """Terms of the loss, and the validation NLL, over steps and over seconds."""
    charts = []
    for term, (title, unit) in _TERMS.items():
        found = [_points(subject, term) for subject in subjects]
        curves = [_curve(points, number) for number, points in enumerate(found) if points]
        if curves:
            charts.append(Chart(title, "steps", unit, curves))
    if not charts:
        return Section("Training", [Text("metrics.jsonl, with the loss over time.", "note")])
    said = (
        "Means over the steps between two records. The loss is J1/d + λ1 (J2/d² + J2,trace/d²)"
        " + λ2 J3/d³ in d dimensions, with the divisors and λ of the configuration; orders 2 and 3"
        " are drawn from where they set in. The validation NLL is a bound unless the run was asked"
        " for the exact one. Seconds include compilation."
    )
    return Section("Training", [Text(said), Charts(charts, controls=("steps", "seconds"))])


def _points(subject: Subject, term: str) -> list[tuple[int, float, float]]:
    """Steps, seconds and the term there."""
    records = [record for record in subject.metrics if record.get(term) is not None]
    points = [(record["step"], record["seconds"], record[term]) for record in records]
    if term == "validation_nats":
        return points
    if points and not points[0][-1]:
        # It is 0 until it sets in: the mean in which it does is one over steps without it, too.
        points = [point for point in points if point[-1]][1:]
    return _without_rest(points)


def _without_rest(means: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """The last mean and the one before as one, where it is over far fewer steps than that."""
    if len(means) < 3:
        return means
    (first, *_), (middle, _, before), (last, seconds, after) = means[-3:]
    n, m = middle - first, last - middle
    if 2 * m >= n:
        return means
    return [*means[:-2], (last, seconds, (n * before + m * after) / (n + m))]


def _curve(points: Sequence[tuple[int, float, float]], number: int) -> Curve:
    steps, seconds, values = np.array(points, float).T
    return Curve({"steps": steps, "seconds": seconds}, values, run=number)
