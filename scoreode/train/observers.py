"""Who looks on while a model trains: a progress bar, TensorBoard, or whatever a caller attaches."""

from collections.abc import Callable, Sequence

from scoreode.train.loop import Report

Observer = Callable[[Report, float | None], None]
"""Called after every chunk of steps, with a validation NLL in nats when there is a new one."""


def unobserved(_report: Report, _validation: float | None) -> None:
    """The observer that looks away."""


def observed_by(*observers: Observer) -> Observer:
    """One observer that passes on to several, in their order."""

    def observe(report: Report, validation: float | None) -> None:
        for each in observers:
            each(report, validation)

    return observe


def recovery(recoveries: Sequence[int]) -> str:
    """What to say of training that went back to these steps."""
    return (
        f"the loss was no longer finite: training went back to step {recoveries[-1]}, and on from"
        f" there with 1/{2 ** len(recoveries)} of the learning rate"
    )


def recoveries_told(tell: Callable[[str], None]) -> Observer:
    """The observer that says when training went back to an earlier step."""
    known = 0

    def observe(report: Report, _validation: float | None) -> None:
        nonlocal known
        if len(report.recoveries) > known:
            tell(recovery(report.recoveries))
        known = len(report.recoveries)

    return observe
