"""The commands that do a run again, as far as its folder tells."""

import shlex
from pathlib import Path

from scoreode.data import sources
from scoreode.evaluate.held_out import Options, evaluation_seed
from scoreode.evaluate.runs import Subject


def commands(subject: Subject, options: Options) -> str:
    """A shell's lines: to train again, or why that cannot be told, and to evaluate again."""
    lines, run = _training(subject), str(subject.folder.path)
    if subject.fitted is None:
        resume = shlex.join(["scoreode", "fit", "--resume", run])
        return "\n".join([*lines, "", "# go on with the training", resume])
    name = options.data or subject.data.name
    words = ["scoreode", "nll", run, name or "DATA"]
    if seed := evaluation_seed(subject.data, subject.run, options):
        words += ["--seed", str(seed)]
    split = sources.is_named(name) or Path(name).suffix == ".npz"
    which = "all rows of the test part" if split else "all rows, trained on or not"
    which = "all rows" if options.data else which
    return "\n".join([*lines, "", f"# evaluate {which}", shlex.join(words)])


def _training(subject: Subject) -> list[str]:
    command = subject.folder.command
    if command is None:
        return ["# trained from Python, or before commands were kept"]
    return ["# train again", command]
