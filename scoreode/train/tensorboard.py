"""Writes the numbers of metrics.jsonl also as TensorBoard events."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from scoreode.errors import FailureError, InputError

_FLUSHED_EVERY = 10  # seconds: the events that a kill may lose, and the delay in TensorBoard


@runtime_checkable
class Numbers(Protocol):
    """The part of a training report that is written."""

    @property
    def step(self) -> int: ...
    @property
    def numbers(self) -> dict[str, float]: ...


@contextmanager
def events(folder: Path) -> Iterator[Callable[[Numbers, float | None], None]]:
    """An observer of training that writes every number as a scalar at its step.

    **Arguments:** `folder` of the events. Those of an interrupted training are hidden from the
    first reported step on.

    **Raises:** `InputError` if tensorboardX is not installed, `FailureError` if the disk refuses.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports] # an extra
    except ModuleNotFoundError as missing:
        if missing.name != "tensorboardX":
            raise
        remedy = "pip install 'scoreode[tensorboard]'"
        raise InputError(f"--tensorboard: tensorboardX is not installed: {remedy}") from missing
    writer: Any = None

    def observe(report: Numbers, validation: float | None) -> None:
        nonlocal writer
        if writer is None:  # the folder is there from the first report on
            step, every = report.step, _FLUSHED_EVERY
            # Names are of whole seconds: a run that is resumed at once would lose its first file.
            own = f".{step}"
            try:
                writer = SummaryWriter(
                    str(folder), purge_step=step, flush_secs=every, filename_suffix=own
                )
            except OSError as error:
                raise FailureError(f"cannot write events to {folder}: {error.strerror}") from error
        new = {} if validation is None else {"validation_nats": validation}
        for name, number in (report.numbers | new).items():
            if name != "step":
                writer.add_scalar(name, number, report.step)

    try:
        yield observe
    finally:
        if writer is not None:
            writer.close()
