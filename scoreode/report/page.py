"""What a report says of runs: how training went, and what the models make of unseen rows."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from scoreode.evaluate.densities import evaluate, examine
from scoreode.evaluate.held_out import Options
from scoreode.evaluate.runs import subjects
from scoreode.report import findings, overview, samples
from scoreode.report.headline import headline
from scoreode.report.html import render
from scoreode.train.folder import versions

__all__ = ["Options", "page"]


def page(paths: Sequence[Path], options: Options) -> str:
    """One HTML page about the runs in these folders.

    **Raises:** `InputError` for folders without runs, damaged files, and data that do not fit.

    **Cost:** for every trained model a log-density a row, and a solve a sample.
    """
    found = subjects(paths)
    models = examine(found, options)
    sections = [overview.runs(found, models, options), overview.training(found)]
    if models:
        sections.append(samples.samples(models))
    lines = list[str]()
    rows = [e for model in models if (e := evaluate(model)) is not None]
    if rows:
        lines = headline(rows)
        sections += [findings.likelihood(rows), findings.calibration(rows), findings.solver(rows)]
    names = dict.fromkeys(Path(subject.data.name).name or "a model" for subject in found)
    labels = [subject.label for subject in found]
    return render(", ".join(names), labels, lines, sections, _footer(options))


def _footer(options: Options) -> str:
    found = versions()
    machine = found.pop("machine")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    packages = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"Written on {now}, seed {options.seed}, on {machine}: {packages}."
