"""What a trained model says of rows that it was not trained on, and the rows that it draws."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoreode import evaluate
from scoreode.errors import InputError
from scoreode.examine.held_out import HeldOut, Options, Sources
from scoreode.examine.subject import Subject
from scoreode.fitting import Fitted
from scoreode.flow import DPMSolver, ODESampler
from scoreode.network import MLP

_PICTURES, _POINTS, _ROWS = 40, 4000, 1000  # samples, by how they are shown
_FOR_EYES = DPMSolver(50)  # adaptive steps of a large network take minutes


@dataclass(frozen=True)
class Examined:
    """A run with a model, rows that it draws, and held-out ones or why there are none."""

    subject: Subject
    fitted: Fitted
    samples: np.ndarray
    held_out: HeldOut | str


@dataclass(frozen=True)
class Evaluated:
    """What a model says of held-out rows.

    `records` are `evaluate.RECORD`s; `z` is x_T over the prior's scale, of the rows that converged.
    """

    subject: Subject
    fitted: Fitted
    held_out: HeldOut
    records: np.ndarray
    z: np.ndarray
    summary: dict[str, Any]


def examined(subjects: Sequence[Subject], options: Options) -> list[Examined]:
    """Samples and held-out rows of the runs that have a model; of equal data the same rows.

    **Raises:** `InputError` for data that were given and cannot be used.
    """
    sources = Sources(options)
    return [_examined(s, s.fitted, sources, options) for s in subjects if s.fitted is not None]


def _examined(subject: Subject, fitted: Fitted, sources: Sources, options: Options) -> Examined:
    n_samples = options.samples or _samples(fitted)
    try:
        held_out = sources.of(fitted, shown=n_samples)
    except InputError as error:
        if options.data is not None:
            raise
        held_out = str(error)
    print(f"{subject.label}: {n_samples} samples", file=sys.stderr)
    how = ODESampler() if isinstance(fitted.run.network, MLP) else _FOR_EYES
    return Examined(subject, fitted, fitted.sample(n_samples, options.seed, how), held_out)


def evaluated(examined: Examined) -> Evaluated | None:
    """The log-densities of a run's held-out rows, if it has any."""
    held_out, fitted = examined.held_out, examined.fitted
    if isinstance(held_out, str):
        return None
    rows = held_out.rows[held_out.evaluated]
    print(f"{examined.subject.label}: log-densities of {len(rows)} rows", file=sys.stderr)
    started = time.perf_counter()
    found = fitted.log_likelihood(rows, held_out.seed)
    records = evaluate.as_records(found)
    scale = float(fitted.density.score_model.process.prior_scale())
    z = np.asarray(found.latent, np.float64)[records["converged"]] / scale
    summary = evaluate.summarised(fitted, records, time.perf_counter() - started)
    return Evaluated(examined.subject, fitted, held_out, records, z, summary)


def _samples(fitted: Fitted) -> int:
    if fitted.data["image_shape"]:
        return _PICTURES
    return _POINTS if len(fitted.data["columns"]) <= 2 else _ROWS
