"""Writes files completely or not at all, and overwrites nothing without permission."""

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from scoreode.errors import FailureError, InputError

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path, which replaces `path` at the end; on failure `path` is unchanged.

    **Raises:** `FailureError` if the disk refuses.
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
    """Checks that a file can be written, before any work is done.

    **Raises:** `InputError` for a folder, and for an existing file unless `force`; `FailureError`
    if the disk refuses.
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
    """Raises the system's `OSError` if the disk of a folder has less than `size` bytes left."""
    with tempfile.TemporaryFile(dir=folder) as file:  # has no name, so a kill leaves nothing behind
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial{path.suffix}")


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns an `OSError` into a `FailureError` with the path and a remedy."""
    try:
        yield
    except OSError as error:
        remedy = "make room, or choose another place"
        raise FailureError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Locks a file against other processes; the system unlocks it if this process dies.

    **Arguments:** `what`, the name of the locked thing in messages.

    **Raises:** `FailureError` with the process that holds the lock.
    """
    file = _lock(path, what)
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()
            file.close()


def _lock(path: Path, what: str) -> FileIO | None:
    """The locked file, with the holder's name in it; None on a disk without locks."""
    while fcntl is not None:
        try:
            file = open(path, "a+b", buffering=0)  # noqa: SIM115 (stays open while locked)
        except OSError:  # the error is reported by the code that writes
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise FailureError(f"{what} is in use: {_holder(file)}") from None
        except OSError:
            file.close()
            return None
        # The previous holder may have deleted it between `open` and `flock`.
        if _is_current(file, path):
            _sign(file)
            return file
        file.close()
    return None


def _is_current(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def _sign(file: FileIO) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"pid": os.getpid(), "host": platform.node(), "since": since}
    with suppress(OSError):  # on a full disk the lock has no name
        file.truncate(0)
        file.write((json.dumps(holder) + "\n").encode())


def _holder(file: FileIO) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        who = f"process {holder['pid']} on {holder['host']} has held it since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process holds it"
    return f"{who}; wait until it ends, or stop it"
