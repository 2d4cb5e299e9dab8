"""Standard output and error that take every character and may be closed by who reads them."""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

_PLAIN = {"±": "+-", "×": "x", "…": "...", "é": "e"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks; bytes of file names as Python has them."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    shown = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(shown), error.end


codecs.register_error("scoreode.plain", _plain)


def prepare() -> None:
    """From now on no print fails for want of a character, or of a standard error."""
    if sys.stderr is None:  # `2>&-`; to print there would mean standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="scoreode.plain")


def say(line: str) -> None:
    """A line on standard error, if there is someone who reads it."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def abandon(*streams: TextIO) -> None:
    """What is still to be printed, there or on both, goes nowhere."""
    for stream in streams or (sys.stdout, sys.stderr):
        if _has_descriptor(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _has_descriptor(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):  # captured
        return False
