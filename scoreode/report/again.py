"""The commands that do a run again, as far as its folder tells."""

import shlex
from pathlib import Path

from scoreode.cli.options import fit_again
from scoreode.data import sources, tables
from scoreode.errors import InputError
from scoreode.evaluate.held_out import Options, evaluation_seed
from scoreode.evaluate.runs import Subject
from scoreode.reproduce.paper import REPRODUCTIONS, TABLE_1
from scoreode.train import RunFolder


def commands(subject: Subject, options: Options) -> str:
    """A shell's lines: to train again, or why that cannot be told, and to evaluate again."""
    lines, run = _training(subject), str(subject.folder.path)
    if subject.fitted is None:
        resume = shlex.join(["scoreode", "fit", "--resume", run])
        return "\n".join([*lines, "", "# go on with the training", resume])
    name = options.data or subject.data["name"]
    words = ["scoreode", "nll", run, name or "DATA"]
    if seed := evaluation_seed(subject.data, subject.run, options):
        words += ["--seed", str(seed)]
    split = sources.is_named(name) or Path(name).suffix == ".npz"
    which = "all rows of the test part" if split else "all rows, trained on or not"
    which = "all rows" if options.data else which
    return "\n".join([*lines, "", f"# evaluate {which}", shlex.join(words)])


def _training(subject: Subject) -> list[str]:
    reproduced = _reproduction(subject)
    if reproduced is not None:
        return ["# train again, as part of", reproduced]
    name = subject.data["name"]
    if not (sources.is_named(name) or sources.is_folder(name) or tables.is_table(name)):
        return ["# its data came from a program, not from a file: no command trains it again"]
    command, unset = fit_again(subject.run, subject.data)
    lines = ["# train again", command]
    if unset:
        lines += ["# but for what no option sets:", *(f"#   {entry}" for entry in unset)]
    return lines


def _reproduction(subject: Subject) -> str | None:
    """The command that made the folder in which this run lies, if a `reproduce` did."""
    try:
        summary = RunFolder(subject.folder.path.parent).read("summary.json")
    except InputError:  # most folders have none
        return None
    name = summary.get("name")
    words = ["scoreode", "reproduce", str(name)]
    if name in REPRODUCTIONS:
        words += ["--quick"] if summary.get("quick") else []
    elif name in TABLE_1:
        words += ["--preset", str(summary.get("preset"))]
        if (source := str(summary.get("data"))) != name.split("-")[0]:
            words += ["--data", source]
    else:
        return None
    return shlex.join([*words, "--seed", str(subject.run.seed)])
