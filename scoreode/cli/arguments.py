"""Arguments that commands share, and how it is told what leaving an option out means."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def default(what: str) -> object:
    """Of an option without a default value: what holds without it."""
    return arg(help_behavior_hint=f"(default: {what})")


_DATA = (
    "a name from `scoreode list`, a .csv .tsv .parquet .npy .npz file (.csv.gz, too), a folder of"
    " images or of .parquet parts, - for .csv on standard input, or hf:OWNER/NAME on the Hugging"
    " Face Hub"
)

Run = Annotated[Path, Positional, arg(metavar="RUN", help="the folder of a finished run")]
Data = Annotated[str, Positional, arg(metavar="DATA", help=_DATA)]
MaybeData = Annotated[
    str | None, Positional, arg(metavar="DATA", help=_DATA, help_behavior_hint="")
]
DataDir = Annotated[
    Path | None,
    arg(help="where sets of images are", help_behavior_hint="(default: what SCOREODE_DATA names)"),
]
Flag = Annotated[bool, arg(help_behavior_hint="")]
Config = Annotated[
    Path | None,
    arg(
        help="a TOML file with options, by their names; the command line goes first",
        help_behavior_hint="",
    ),
]
Json = Annotated[bool, arg(help="print the result as one JSON object", help_behavior_hint="")]
Quiet = Annotated[bool, arg(help="show no progress", help_behavior_hint="")]
Force = Annotated[bool, arg(help="replace a file that is there", help_behavior_hint="")]
Debug = Annotated[bool, arg(help="show a traceback on failure", help_behavior_hint="")]
