"""The folder of one run: configuration, metrics, checkpoints, summary, figures."""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from scoreode._files import lock
from scoreode.errors import FailureError, InputError
from scoreode.train.checkpoint import Checkpoints, write_json, write_whole

_LOCK = "lock"
_PACKAGES = ("scoreode", "jax", "jaxlib", "equinox", "diffrax", "optax", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python, the machine and the numerical packages, which affect results."""
    versions = {"python": platform.python_version(), "machine": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


class RunFolder:
    """Reads and writes the files of a run; use `path / …` for files without a method.

    `command` is what a shell was given to fill the folder; None in Python.
    """

    def __init__(self, path: Path, command: str | None = None):
        self.path: Path = path
        self.command: str | None = command

    @classmethod
    def create(cls, path: Path, command: str | None = None) -> "RunFolder":
        """A new, empty folder. **Raises:** `InputError` if it exists and is not empty."""
        folder = cls(path, command)
        try:
            folder._check_empty()
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FailureError(f"cannot create {path}: {error.strerror}") from error
        return folder

    @classmethod
    @contextmanager
    def start(cls, path: Path, command: str | None = None) -> Iterator["RunFolder"]:
        """A new, empty folder, held as by `hold`, so that only one of two processes gets it.

        A failure before the first checkpoint removes the folder's files: the run could not be
        resumed.
        """
        folder = cls.create(path, command)
        try:
            with folder.hold():
                folder._check_empty()
                try:
                    yield folder
                except BaseException:
                    folder._discard_without_checkpoint()
                    raise
        finally:
            with suppress(OSError):
                path.rmdir()  # only succeeds if it is empty

    @classmethod
    def existing(cls, path: Path) -> "RunFolder":
        """The folder of an existing run. **Raises:** `InputError` if there is no run."""
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: not a run (it has no config.json)")
        folder = cls(path)
        command = folder.read("config.json").get("command")
        folder.command = command if isinstance(command, str) else None
        return folder

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps other processes from training in this folder.

        **Raises:** `FailureError` with the process that already trains here.
        """
        with lock(self.path / _LOCK, str(self.path)):
            yield

    def _discard_without_checkpoint(self) -> None:
        if not self.resumable:
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
            with suppress(OSError):
                (self.path / "config.json").unlink()

    def _check_empty(self) -> None:
        path = self.path
        if not os.path.lexists(path):
            return
        if not path.is_dir() or any(file.name != _LOCK for file in path.iterdir()):
            run = (path / "config.json").is_file()
            remedy = f", or continue it with --resume {path}" if run else ""
            raise InputError(f"{path} exists: choose another --out{remedy}")

    def read(self, name: str) -> dict[str, Any]:
        """A JSON document of the run. **Raises:** `InputError` if it is missing or damaged."""
        file = self.path / name
        try:
            document = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: damaged ({error}); train again or restore a copy") from error
        if not isinstance(document, dict):
            raise InputError(f"{file}: damaged (not a JSON object); train again or restore a copy")
        return document

    def write_config(self, config: dict[str, Any]) -> None:
        """Writes the resolved configuration, the command, and the versions of all packages."""
        record = config | {"command": self.command, "versions": versions()}
        write_json(self.path / "config.json", record)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes the run's result."""
        write_json(self.path / "summary.json", summary)

    def copy(self, run: Path, name: str) -> int:
        """Copies a file from another run's folder; returns its size in bytes."""
        content = (run / name).read_bytes()
        write_whole(self.path / name, content)
        return len(content)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        try:
            with open(path, "a") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise FailureError(f"cannot write {path}: {error.strerror}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl without an incomplete last line; empty if there is no file.

        **Raises:** `InputError` if it is damaged.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        *lines, _ = file.read_bytes().split(b"\n")
        return [_record(line, f"{file}: line {number}") for number, line in enumerate(lines, 1)]

    def rewind_metrics(self, step: int) -> None:
        """Removes the lines after a step, which a resumed run will write again."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return
        lines = [line for line in file.read_text().splitlines() if _step_of(line) <= step]
        write_whole(file, "".join(line + "\n" for line in lines).encode())

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any(file.name.isdigit() for file in (self.path / "checkpoints").glob("*"))

    def checkpoints(self, read_only: bool = False) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.path / "checkpoints", read_only)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")  # an incomplete line after a kill


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if {"step", "seconds"} <= record.keys() and set(map(type, record.values())) <= {int, float}:
            return record
        reason = "not a record of numbers with step and seconds"
    except (ValueError, AttributeError) as error:
        reason = str(error)
    raise InputError(f"{place}: damaged ({reason}); drop the line or restore a copy")
