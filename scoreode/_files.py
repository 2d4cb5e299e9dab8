"""Files that are there whole or not at all, and that replace nothing unasked."""

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
except ImportError:  # on Windows processes are not kept apart
    fcntl = None


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


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds a file that no other process holds meanwhile; the system frees it when this one dies.

    **Arguments:** `what` is held, for the message.

    **Raises:** `FailureError` naming the process that holds it.
    """
    file = _held(path, what)
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()
            file.close()


def _held(path: Path, what: str) -> FileIO | None:
    """The file, with the holder's name in it; None on a disk that has no locks."""
    while fcntl is not None:
        try:
            file = open(path, "a+b", buffering=0)  # noqa: SIM115 (open while it is held)
        except OSError:  # what cannot be written is said where it is written
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise FailureError(f"{what} is in use: {_holder(file)}") from None
        except OSError:
            file.close()
            return None
        # The one who held it before may have removed it since it was opened.
        if _is_there(file, path):
            _sign(file)
            return file
        file.close()
    return None


def _is_there(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def _sign(file: FileIO) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"pid": os.getpid(), "host": platform.node(), "since": since}
    with suppress(OSError):  # a full disk: it is held without a name
        file.truncate(0)
        file.write((json.dumps(holder) + "\n").encode())


def _holder(file: FileIO) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        who = f"process {holder['pid']} on {holder['host']} has held it since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process holds it"
    return f"{who}; wait for its end, or stop it"
