"""What a trained model says of rows that it was not trained on, and the rows that it draws."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoreode import evaluate
from scoreode.errors import InputError
from scoreode.examine.held_out import HeldOut, Sources
from scoreode.examine.subject import Subject
from scoreode.fitting import Fitted
from scoreode.flow import DPMSolver, ODESampler
from scoreode.network import MLP

_PICTURES, _POINTS, _ROWS = 40, 4000, 1000  # samples, by how they are shown
_FOR_EYES = DPMSolver(50)  # adaptive steps of a large network take minutes


@dataclass(frozen=True)
class Options:
    """How a report examines a model; None leaves the choice to what the data are."""

    data: str | None = None
    rows: int = 512
    samples: int | None = None
    seed: int = 0
    data_dir: Path | None = None


@dataclass(frozen=True)
class Examined:
    """A run with a model: rows that it draws, and what it says of held-out ones if there are any.

    `records` are `evaluate.RECORD`s; `z` is x_T over the prior's scale, of the rows that converged.
    """

    subject: Subject
    fitted: Fitted
    samples: np.ndarray
    held_out: HeldOut | None
    records: np.ndarray
    z: np.ndarray
    missing: str | None


class Examiner:
    """Examines one model after another; those of equal data on the same rows."""

    def __init__(self, options: Options):
        self._options = options
        self._sources = Sources(options.data, options.seed, options.data_dir)

    def __call__(self, subject: Subject, fitted: Fitted) -> Examined:
        """**Raises:** `InputError` for data that were given and cannot be used.

        **Cost:** a log-density a row, and a solve a sample.
        """
        options, d = self._options, len(fitted.data["columns"])
        n_samples = options.samples or _samples(fitted)
        held_out, missing = None, None
        records, z = np.empty(0, evaluate.RECORD), np.empty((0, d))
        try:
            held_out = self._sources.of(fitted, options.rows, n_samples)
        except InputError as error:
            if options.data is not None:
                raise
            missing = f"no held-out rows: {error}. Give some with --data FILE."
        if held_out is not None:
            rows = held_out.rows[held_out.evaluated]
            print(f"{subject.label}: log-densities of {len(rows)} rows", file=sys.stderr)
            found = fitted.log_likelihood(rows, options.seed)
            scale = float(fitted.density.score_model.process.prior_scale())
            records = evaluate.as_records(found)
            z = np.asarray(found.latent, np.float64)[records["converged"]] / scale
        print(f"{subject.label}: {n_samples} samples", file=sys.stderr)
        how = ODESampler() if isinstance(fitted.run.network, MLP) else _FOR_EYES
        samples = fitted.sample(n_samples, options.seed, how)
        return Examined(subject, fitted, samples, held_out, records, z, missing)


def _samples(fitted: Fitted) -> int:
    if fitted.data["image_shape"]:
        return _PICTURES
    return _POINTS if len(fitted.data["columns"]) <= 2 else _ROWS
