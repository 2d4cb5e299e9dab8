"""Who looks on while a model trains: a progress bar, TensorBoard, or whatever a caller attaches."""

from collections.abc import Callable

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
