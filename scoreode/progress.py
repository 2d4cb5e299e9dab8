"""Shows progress: a live bar on a terminal, plain lines otherwise, nothing within `quiet`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from scoreode.errors import printable

_LINE_EVERY = 10.0  # seconds between plain lines
_quiet = ContextVar("quiet", default=False)


@contextmanager
def quiet(asked: bool = True) -> Iterator[None]:
    """Hides progress, if `asked`; errors are still shown."""
    token = _quiet.set(asked)
    try:
        yield
    finally:
        _quiet.reset(token)


def note(line: str) -> None:
    """Prints a line on standard error, unless quiet."""
    if not _quiet.get():
        with suppress(OSError):  # the reader of the pipe has gone; the work continues
            print(printable(line), file=sys.stderr, flush=True)


@runtime_checkable
class Step(Protocol):
    """The part of a training report that is shown."""

    @property
    def step(self) -> int: ...
    @property
    def progress(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def steps_per_second(self) -> float: ...
    @property
    def terms(self) -> dict[str, float]: ...


def seconds_left(report: Step) -> float:
    """The remaining seconds of the budget at the speed so far."""
    return report.seconds * (1 - report.progress) / max(report.progress, 1e-9)


def describe(report: Step, validation: float | None) -> str:
    """The speed, the loss and the latest validation NLL, short enough for a line with a bar."""
    parts = [f"{report.steps_per_second:.0f} steps/s", f"loss {report.terms['loss']:.4g}"]
    if validation is not None:
        parts.append(f"validation {validation:.4f} nats")
    return "  ".join(parts)


class PlainLines:
    """Prints a line on standard error every ten seconds and at the end."""

    def __init__(self, label: str):
        self._label = label
        self._printed, self._validation = time.monotonic(), None

    def __call__(self, report: Step, validation: float | None) -> None:
        self._validation = self._validation if validation is None else validation
        if report.progress >= 1 or time.monotonic() - self._printed >= _LINE_EVERY:
            self._printed = time.monotonic()
            note(
                f"{self._label} {report.progress:4.0%}  step {report.step}  "
                f"{describe(report, self._validation)}  {seconds_left(report):.0f} s left"
            )


class Bar:
    """A rich progress bar with the speed and the time left."""

    def __init__(self, label: str, progress: Any):
        self._progress, self._validation = progress, None
        self._task = progress.add_task(label, total=1.0, state="preparing")

    def __call__(self, report: Step, validation: float | None) -> None:
        self._validation = self._validation if validation is None else validation
        self._progress.update(
            self._task, completed=report.progress, state=describe(report, self._validation)
        )


class Counted:
    """Prints the number of rows done on standard error every ten seconds."""

    def __init__(self, label: str):
        self._label, self._printed = label, time.monotonic()

    def __call__(self, done: int, per_second: float) -> None:
        if time.monotonic() - self._printed >= _LINE_EVERY:
            self._printed = time.monotonic()
            note(f"{self._label} {done} rows  {per_second:.0f} rows/s")


@contextmanager
def show(label: str) -> Iterator[Bar | PlainLines]:
    """An observer that shows the progress of training on standard error."""
    if _quiet.get() or not sys.stderr.isatty() or find_spec("rich") is None:
        yield PlainLines(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(None),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
        yield Bar(label, progress)
