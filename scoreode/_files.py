"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scoreode.errors import FailureError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which then takes the place of `path`; on failure that stays.

    **Raises:** `FailureError` where the disk refuses.
    """
    partial = path.with_name(f"{path.name}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        remedy = "make room, or choose another place"
        raise FailureError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
