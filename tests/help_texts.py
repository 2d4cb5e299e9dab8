"""What `--help` shows, as committed: `python tests/help_texts.py` writes it anew."""

import contextlib
import io
import os
from pathlib import Path

from scoreode.cli import COMMANDS, main

FOLDER = Path(__file__).parent / "cli" / "help"


def shown() -> dict[str, str]:
    """The help of the command and of every subcommand, 100 columns wide, by file name."""
    os.environ["COLUMNS"] = "100"
    found = {}
    for name in ("scoreode", *COMMANDS):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main(["--help"] if name == "scoreode" else [name, "--help"])
        lines = (line.rstrip() for line in out.getvalue().splitlines())
        found[f"{name}.txt"] = "\n".join(lines) + "\n"
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    for name, text in shown().items():
        (FOLDER / name).write_text(text)
