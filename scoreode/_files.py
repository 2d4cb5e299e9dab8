"""Files that are there whole or not at all, and that replace nothing unasked."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scoreode.errors import FailureError, InputError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which then takes the place of `path`; on failure that stays.

    **Raises:** `FailureError` where the disk refuses.
    """
    partial = _partial(path)
    try:
        with disk(path):
            yield partial
            os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def check_out(path: Path, force: bool) -> None:
    """Whether a file can be written, asked before any work is done for it.

    **Raises:** `InputError` for one that exists, unless `force`, and for a folder; `FailureError`
    where the disk refuses.
    """
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file")
    if os.path.lexists(path) and not force:
        raise InputError(f"{path} exists: choose another file, or replace it with --force")
    partial = _partial(path)
    with disk(path), suppress(FileExistsError):
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        partial.unlink()


def check_room(folder: Path, size: int) -> None:
    """Raises the system's `OSError` where a folder has no room for so many bytes."""
    with tempfile.TemporaryFile(dir=folder) as file:  # without a name: no kill leaves it behind
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial{path.suffix}")


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Raises `FailureError`, naming the path and the remedy, where the disk refuses."""
    try:
        yield
    except OSError as error:
        remedy = "make room, or choose another place"
        raise FailureError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
