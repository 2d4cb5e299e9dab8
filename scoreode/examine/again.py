"""The commands that do a run again, as far as its folder tells."""

import shlex
from pathlib import Path

from scoreode import recipes
from scoreode.errors import InputError
from scoreode.examine.subject import Subject
from scoreode.options import fit_again
from scoreode.train import RunFolder


def commands(subject: Subject, data: str | None) -> str:
    """A shell's lines: to train again, or why that cannot be told, and to evaluate again.

    **Arguments:** `data`, what was given to be evaluated instead of the run's own.
    """
    lines = [*_training(subject), ""]
    name = data or subject.data["name"]
    run = str(subject.folder.path)
    if subject.fitted is None:
        lines += ["# go on with the training", shlex.join(["scoreode", "fit", "--resume", run])]
    else:
        seed = () if subject.run.seed == 0 else ("--seed", str(subject.run.seed))
        lines += [
            "# evaluate all rows",
            shlex.join(["scoreode", "nll", run, name or "DATA", *seed]),
        ]
    return "\n".join(lines)


def _training(subject: Subject) -> list[str]:
    reproduced = _reproduction(subject)
    if reproduced is not None:
        return ["# train again, as part of", reproduced]
    name = subject.data["name"]
    if name not in recipes.DATA_NAMES and not Path(name).suffix:
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
    if name in recipes.REPRODUCTIONS:
        words += ["--quick"] if summary.get("quick") else []
    elif name in recipes.TABLE_1:
        words += ["--preset", str(summary.get("preset"))]
    else:
        return None
    return shlex.join([*words, "--seed", str(subject.run.seed)])
