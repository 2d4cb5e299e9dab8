"""Detects line endings, separators and encoding of a text table; names unsupported ones."""

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scoreode.data.frames import check_repeated
from scoreode.errors import InputError, listing

_HEAD = 2**16  # bytes from which the kind of text is detected
_LINES = 5  # lines that must have the same number of fields
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
_DECIMAL_COMMAS = re.compile(r"[+-]?\d+,\d+")


def options(content: Path | bytes, name: str, separator: str) -> dict[str, Any]:
    """The options with which polars reads a text with this separator.

    **Raises:** `InputError` for another separator, decimal commas, another encoding, or damage.
    """
    try:
        with open_bytes(content) as file:
            head = file.read(_HEAD)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: cannot be read: {error}") from error
    if head.startswith(_UTF16):
        raise InputError(f"{name}: cannot be read: its text is UTF-16; save it as UTF-8")
    end = "\r" if b"\r" in head and b"\n" not in head else "\n"
    lines = head.decode("utf-8", "replace").split(end)
    whole = lines[:-1] if len(lines) > 1 else lines
    _check_separator([line.strip("\r") for line in whole[:_LINES] if line.strip()], name, separator)
    return {"separator": separator, "eol_char": end}


def not_utf8(content: Path | bytes) -> str:
    """The message for a text that is not UTF-8: the line, the byte and the remedy."""
    with open_bytes(content) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"line {number} is not UTF-8 text (byte 0x{line[error.start]:02x}); save it as"
                    " UTF-8, as iconv -f latin1 -t utf-8 does"
                )
    return "it is not UTF-8 text; save it as UTF-8"


@contextmanager
def open_bytes(content: Path | bytes) -> Iterator[io.BufferedIOBase]:
    """The bytes of a text, decompressed if they are gzip."""
    with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not compressed:
            yield file
            return
        with gzip.open(file) as decompressed:
            yield decompressed


def _check_separator(lines: list[str], name: str, separator: str) -> None:
    if not lines or _separates(separator, lines):
        return
    header, *rows = lines
    for other, plural in _NAMES.items():
        if other == separator or not _separates(other, lines):
            continue
        if other in ", " and not all(map(_is_number, rows[0].split(other) if rows else [])):
            continue  # commas or spaces within sentences
        commas = any(map(_DECIMAL_COMMAS.search, rows)) and other != ","
        also = ", with decimal commas" if commas else ""
        raise InputError(
            f"{name}: cannot be read: its fields are separated by {plural}{also}, and not by"
            f" {_NAMES[separator]}; {_remedy(name, other, commas)}"
        )
    if "," not in header and rows and all(map(_DECIMAL_COMMAS.fullmatch, map(str.strip, rows))):
        raise InputError(f"{name}: cannot be read: its numbers have decimal commas; write points")


def _separates(separator: str, lines: list[str]) -> bool:
    """Whether there are two lines or more, all with the same number of fields, at least two."""
    counts = {line.count(separator) for line in lines}
    return len(counts) == 1 and 0 not in counts and len(lines) > 1


def _remedy(name: str, separator: str, commas: bool) -> str:
    if separator == "\t":
        return "call it .tsv"
    if separator == ",":
        return "call it .csv"
    decimal = ", decimal=','" if commas else ""
    return f"convert it with pandas.read_csv({name!r}, sep={separator!r}{decimal}).to_csv"


def check_header(names: tuple[str | None, ...], source: str) -> None:
    """Raises `InputError` if the header is a row of data, or if columns have no or equal names."""
    missing = [i for i, name in enumerate(names, 1) if not (name or "").strip()]
    if missing:
        raise InputError(
            f"{source}: the header has no name for column{'s' * (len(missing) > 1)}"
            f" {listing(missing)}; name it, or drop it if it only counts the rows"
        )
    numbers = [str(i) for i in range(len(names))]  # pandas' header for columns without names
    if list(names) != numbers and all(map(_is_number, names)):
        raise InputError(
            f"{source}: the first line holds numbers; put a header with names above it"
        )
    check_repeated(names, source)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True
