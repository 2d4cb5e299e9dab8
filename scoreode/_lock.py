"""Files that one process holds at a time, and that the system frees when it ends."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from scoreode.errors import FailureError

try:
    import fcntl
except ImportError:  # on Windows processes are not kept apart
    fcntl = None


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
