"""Training as TensorBoard events, beside metrics.jsonl and with the same numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from scoreode.errors import FailureError, InputError

_FLUSHED_EVERY = 10  # seconds: what a kill can cost, and how late TensorBoard shows them


@runtime_checkable
class Numbers(Protocol):
    """What is written of a training report."""

    @property
    def step(self) -> int: ...
    @property
    def numbers(self) -> dict[str, float]: ...


@contextmanager
def events(folder: Path, step: int) -> Iterator[Callable[[Numbers, float | None], None]]:
    """An observer of training that writes every number as a scalar, by step, into a run's folder.

    **Arguments:** `step`, at which training begins; what an interrupted one wrote after it is
    hidden.

    **Raises:** `InputError` where tensorboardX is not installed, `FailureError` where the disk
    refuses.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports] # an extra
    except ModuleNotFoundError as missing:
        if missing.name != "tensorboardX":
            raise
        remedy = "pip install 'scoreode[tensorboard]'"
        raise InputError(f"--tensorboard: TensorBoard events are an extra: {remedy}") from missing
    try:
        writer = SummaryWriter(str(folder), purge_step=step + 1, flush_secs=_FLUSHED_EVERY)
    except OSError as error:
        raise FailureError(f"cannot write events to {folder}: {error.strerror}") from error

    def observe(report: Numbers, validation: float | None) -> None:
        new = {} if validation is None else {"validation_nats": validation}
        for name, number in (report.numbers | new).items():
            if name != "step":
                writer.add_scalar(name, number, report.step)

    try:
        yield observe
    finally:
        writer.close()
