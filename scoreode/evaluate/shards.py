"""Shards of an evaluation: fixed parts of the rows that processes evaluate on their own.

Of B blocks of rows, shard i of n has those from ⌊B i / n⌋ on, up to the first of shard i + 1. Its
file holds their records and what decides their values: the model, the data and the options. So a
merge knows whether all shards are there, and whether they are of one evaluation.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scoreode._files import replace_whole
from scoreode.data import tables
from scoreode.errors import InputError, listing
from scoreode.evaluate import table

_TEXT = re.compile(r"(\d+)/(\d+)")
_FILE = re.compile(r"(\d+)-of-(\d+)\.npz")


@dataclass(frozen=True)
class Shard:
    """Shard `number`, counted from 0, of `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard in a text such as "3/100". **Raises:** `InputError` for another text."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise InputError(f"--shard {text}: write it as 3/100, shard 3 of 100")
        number, of = map(int, match.groups())
        if number >= of:
            last = f"; the last of {of} is {of - 1}/{of}" if of else ""
            raise InputError(f"--shard {text}: shards are counted from 0{last}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, total: int, block: int) -> range:
        """The numbers of its rows, of so many in blocks of `block` rows."""
        n = -(-total // block)
        first, stop = n * self.number // self.of, n * (self.number + 1) // self.of
        return range(min(first * block, total), min(stop * block, total))

    def path(self, out: Path) -> Path:
        """Where its file is, beside the file that the rows of all shards are for."""
        width = len(str(self.of - 1))
        return folder_of(out) / f"{self.number:0{width}d}-of-{self.of}.npz"


def folder_of(out: Path) -> Path:
    """The folder of the shards of a file."""
    return out.with_name(f"{out.name}.shards")


class Fingerprint:
    """What decides the values of a shard's rows: the model, the data and the options.

    Of a folder of .parquet parts those that hold some of the rows are read, each once; any other
    file is read as a whole.
    """

    def __init__(self, run: Path, source: str, options: dict[str, Any]):
        self._common = table.identity_of_model(run) | options
        self._parts = tables.parts_by_row(source)
        self._data = None if self._parts else table.identity_of_data(source)
        self._digest = cache(table.digest)

    def __call__(self, rows: range) -> dict[str, Any]:
        """That of these rows, as JSON has it."""
        touched = tables.parts_within(self._parts, rows)
        parts = {part.name: self._digest(part) for part, _ in touched}
        return self._common | {"data": parts if self._parts else self._data}


@dataclass(frozen=True)
class Done:
    """What a shard's file holds; `counts` are what was counted of its rows, as JSON has it."""

    first_row: int
    total: int
    identity: dict[str, Any]
    seconds: float
    counts: dict[str, Any]
    records: np.ndarray

    def write(self, path: Path) -> None:
        """Writes the file as a whole or not at all. **Raises:** `FailureError` as the disk does."""
        about = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "records"}
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with replace_whole(path) as partial:
            np.savez(partial, allow_pickle=False, about=text, records=self.records)

    @classmethod
    def read(cls, path: Path) -> "Done | None":
        """What `write` wrote; None if the file is damaged, which its checksums tell."""
        try:
            with open(path, "rb") as file:
                content = np.load(file, allow_pickle=False)
                about, records = json.loads(content["about"].tobytes()), content["records"]
            return cls(records=records, **about) if records.dtype == table.RECORD else None
        except Exception:  # damage causes many kinds of errors in zip, zlib, JSON and NumPy
            return None

    def difference(self, identity: dict[str, Any], rows: range, total: int) -> str:
        """In what it differs from the shard with these rows, in words; empty if in nothing."""
        names = {"model": "another model", "categories": "another model", "data": "other data"}
        keys = sorted({*identity, *self.identity})
        found = [
            names.get(key, f"another --{key.replace('_', '-')}")
            for key in keys
            if self.identity.get(key) != identity.get(key)
        ]
        here = range(self.first_row, self.first_row + len(self.records))
        if not found and (here, self.total) != (rows, total):
            found = [f"rows {here.start + 1} to {here.stop} of {self.total}"]
        return found[0] if found else ""


def merge(
    out: Path,
    total: int,
    block: int,
    fingerprint: Callable[[range], dict[str, Any]],
    command: Callable[[str], str],
) -> Iterator[Done]:
    """Yields all shards in order, whose records are those of all rows, each once.

    **Arguments:** the `total` of rows; the rows of a `block`; `command` that makes a shard.

    **Raises:** `InputError` for a shard that is missing, damaged, or of another evaluation; it
    names the file and the command that makes it.
    """
    n = _number(out, command)
    shards = [Shard(i, n) for i in range(n)]
    missing = [str(s) for s in shards if not s.path(out).exists()]
    if missing:
        are = "are" if len(missing) > 1 else "is"
        raise InputError(
            f"{folder_of(out)}: {listing(missing)} {are} missing; to make"
            f" {'the first' if len(missing) > 1 else 'it'}: {command(missing[0])}"
        )
    for shard in shards:
        rows, path = shard.rows(total, block), shard.path(out)
        again = f"to make it again: {command(f'{shard} --force')}"
        done = Done.read(path)
        if done is None:
            raise InputError(f"{path} is damaged; {again}")
        if difference := done.difference(fingerprint(rows), rows, total):
            raise InputError(f"{path} is of {difference}; {again}")
        yield done


def _number(out: Path, command: Callable[[str], str]) -> int:
    """The number of shards that there are to be, by the files in their folder."""
    folder = folder_of(out)
    matches = [_FILE.fullmatch(path.name) for path in folder.glob("*-of-*.npz")]
    numbers = sorted({int(match.group(2)) for match in matches if match})
    if not numbers:
        raise InputError(f"{folder}: has no shards; to make one: {command('0/N')}")
    if len(numbers) > 1:
        raise InputError(
            f"{folder}: has shards of {listing(numbers)}, and rows are merged from one number of"
            " shards; delete the others"
        )
    return numbers[0]
