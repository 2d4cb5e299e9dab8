"""How much noise training adds to few rows: a share of a kernel's bandwidth, by validation.

A network that is trained for long learns few rows by heart. Noise from N(0, h² I) on every row, new
in every batch, keeps it from that: the model then learns the law of the rows as a kernel density
estimate of bandwidth h has it. The best h lies between 0 and the bandwidth h_K of the best such
estimate, and depends on the law: near h_K for curves and clusters, near 0 where columns are smooth
functions of others. Short trainings decide.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scoreode.data import Dataset
from scoreode.model.build import decisive_rows
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.simple import kernel_bandwidth
from scoreode.train.validation import Validation, is_absent

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the kernel's bandwidth
_LOSSES = 2  # in a row, after which larger shares are not tried
LEAST_STEPS, LEAST_SECONDS = 500, 60.0  # of a run: before, rows are hardly learnt by heart
_PART = 4  # a short training has one part in so many of the steps, but LEAST_STEPS
_SECONDS = 12  # a short training has one part in so many of the seconds


def needs_choice(run: Run, data: Dataset) -> bool:
    """Whether a run leaves its smoothing open, and short trainings can decide it.

    They cannot without validation rows, nor for a run that is too short to tell. Rows on a grid
    need none: there is noise in their cells already.
    """
    decided = run.smoothing is not None or data.bin_width is not None or not data.columns
    return not (decided or is_absent(data)) and _short(run) is not None


def with_smoothing(
    run: Run, data: Dataset, density: Density, train: Callable[[Run], Density]
) -> Run:
    """The run with the smoothing whose short training has the lowest exact validation NLL.

    Shares of the kernel's bandwidth are tried from 0 on, until two in a row are no better than what
    was best before. What this takes of a budget in seconds, the run no longer has. Where nothing
    `needs_choice` it is what the run says, or 0.

    **Arguments:** `density`, that training starts from; `train`, of a short run.
    """
    begin, short = time.perf_counter(), _short(run)
    if short is None or not needs_choice(run, data):
        return replace(run, smoothing=run.smoothing or 0.0)
    validation = Validation(run, data)
    h = kernel_bandwidth(density.standardise(*decisive_rows(data))[0])
    best, least, losses = 0.0, np.inf, 0
    for share in SHARES:
        nats = validation.exact_nats(train(replace(short, smoothing=share * h)))
        if nats < least:
            best, least, losses = share * h, nats, 0
        else:
            losses += 1
        if losses == _LOSSES:
            break
    if run.seconds is not None:
        run = replace(run, seconds=max(run.seconds - (time.perf_counter() - begin), 1.0))
    return replace(run, smoothing=best)


def is_short(run: Run) -> bool:
    """Whether a run is too short for rows to be learnt by heart."""
    return _short(run) is None


def _short(run: Run) -> Run | None:
    """A run with a small part of the budget; None where that is too little."""
    if run.steps is not None:
        if run.steps < LEAST_STEPS:
            return None
        return replace(run, steps=max(run.steps // _PART, LEAST_STEPS))
    if run.seconds is None or run.seconds < LEAST_SECONDS:
        return None
    return replace(run, seconds=run.seconds / _SECONDS)
