"""Observers of training, such as a progress bar or TensorBoard."""

from collections.abc import Callable, Sequence

from scoreode.train.loop import Report

Observer = Callable[[Report, float | None], None]
"""Called after every chunk of steps, with the validation NLL in nats if there is a new one."""


def no_observer(_report: Report, _validation: float | None) -> None:
    """An observer that does nothing."""


def combine_observers(*observers: Observer) -> Observer:
    """One observer that calls several, in this order."""

    def observe(report: Report, validation: float | None) -> None:
        for observer in observers:
            observer(report, validation)

    return observe


def recovery(recoveries: Sequence[int]) -> str:
    """The message after training went back to these steps."""
    return (
        f"the loss was no longer finite: training went back to step {recoveries[-1]}, and continues"
        f" with 1/{2 ** len(recoveries)} of the learning rate"
    )


def note_recoveries(tell: Callable[[str], None]) -> Observer:
    """An observer that calls `tell` with a message when training goes back to an earlier step."""
    count = 0

    def observe(report: Report, _validation: float | None) -> None:
        nonlocal count
        if len(report.recoveries) > count:
            tell(recovery(report.recoveries))
        count = len(report.recoveries)

    return observe
