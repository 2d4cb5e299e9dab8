"""What a report says of runs: how training went, and what the models make of unseen rows."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from scoreode.examine import drawn, findings, overview
from scoreode.examine.examined import Examiner, Options
from scoreode.examine.subject import subjects
from scoreode.report.html import Section, Text, rendered
from scoreode.train.folder import versions

__all__ = ["Options", "page"]


def page(paths: Sequence[Path], options: Options) -> str:
    """One HTML page about the runs in these folders.

    **Raises:** `InputError` for folders without runs, damaged files, and data that do not fit.

    **Cost:** for every trained model a log-density a row, and a solve a sample.
    """
    found, examiner = subjects(paths), Examiner(options)
    examined = [s.fitted and examiner(s, s.fitted) for s in found]
    missing = [Text(f"{e.subject.label}: {e.missing}", "note") for e in examined if e and e.missing]
    sections = [overview.runs(found, options), overview.training(found)]
    if any(examined):
        sections += [
            Section("Samples", [*missing, *drawn.samples(examined).blocks]),
            findings.likelihood(examined),
            findings.calibrated(examined),
            findings.solver(examined),
        ]
    names = list(dict.fromkeys(subject.data["name"] or "a model" for subject in found))
    title = ", ".join(names)
    labels = [subject.label for subject in found]
    return rendered(title, labels, sections, _written(options))


def _written(options: Options) -> str:
    found = versions()
    machine = found.pop("machine")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    packages = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"Written on {now}, seed {options.seed}, on {machine}: {packages}."
