"""What a trained model says of rows that it was not trained on, and the rows that it draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoreode.errors import InputError
from scoreode.evaluate import table
from scoreode.evaluate.held_out import HeldOut, Options, Sources
from scoreode.evaluate.runs import Subject
from scoreode.flow import DPMSolver, ODESampler
from scoreode.model.fitted import Fitted
from scoreode.progress import note
from scoreode.theory import Estimate

_PICTURES, _POINTS, _ROWS = 40, 4000, 1000  # samples, by how they are shown
_FOR_EYES = DPMSolver(50)  # adaptive steps of a large network take minutes


@dataclass(frozen=True)
class Examined:
    """A run with a model, rows that it draws, and held-out ones or why there are none.

    A conditional density draws given the conditions of held-out rows, which are beside the samples.
    """

    subject: Subject
    fitted: Fitted
    samples: np.ndarray
    held_out: HeldOut | str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the samples, categories and conditions last."""
        return self.fitted.data.columns + self.fitted.data.conditions

    @property
    def rows(self) -> np.ndarray | None:
        """Held-out rows of these columns."""
        return (
            None if isinstance(self.held_out, str) else _beside(*self.held_out.apart(self.fitted))
        )


@dataclass(frozen=True)
class Evaluated:
    """What a model says of held-out rows.

    `records` are `table.RECORD`s; `z` is x_T over the prior's scale, of the rows that converged.
    """

    subject: Subject
    fitted: Fitted
    held_out: HeldOut
    records: np.ndarray
    z: np.ndarray
    summary: dict[str, Any]


def examine(subjects: Sequence[Subject], options: Options) -> list[Examined]:
    """Samples and held-out rows of the runs that have a model; of equal data the same rows.

    **Raises:** `InputError` for data that were given and cannot be used.
    """
    sources = Sources(options)
    return [_examine(s, s.fitted, sources, options) for s in subjects if s.fitted is not None]


def _examine(subject: Subject, fitted: Fitted, sources: Sources, options: Options) -> Examined:
    n_samples = options.samples or _samples(fitted)
    try:
        held_out = sources.of(fitted, shown=n_samples)
        c = held_out.apart(fitted)[1]
    except InputError as error:
        if options.data is not None:
            raise
        held_out, c = str(error), None
    given = fitted.data.given
    if given and c is None:
        raise InputError(
            f"{subject.folder.path}: {held_out}, and its density is conditional on"
            f" {', '.join(given)}: give rows with --data"
        )
    note(f"{subject.label}: {n_samples} samples")
    how = _FOR_EYES if table.has_image_network(fitted) else ODESampler()
    c = None if c is None or not given else np.resize(c[:, -len(given) :], (n_samples, len(given)))
    drawn, c = fitted.draw(n_samples, options.seed, how, c)
    return Examined(subject, fitted, _beside(drawn, c), held_out)


def _beside(rows: np.ndarray, c: np.ndarray | None) -> np.ndarray:
    return rows if c is None else np.concatenate([rows, c], axis=1)


def evaluate(examined: Examined) -> Evaluated | None:
    """The log-densities of a run's held-out rows, if it has any."""
    if isinstance(examined.held_out, str):
        return None
    return log_densities(examined.subject, examined.fitted, examined.held_out)


def log_densities(subject: Subject, fitted: Fitted, held_out: HeldOut) -> Evaluated:
    """What a model says of held-out rows.

    **Cost:** a log-density a row.
    """
    rows, c = held_out.apart(fitted)
    rows, c = rows[held_out.evaluated], None if c is None else c[held_out.evaluated]
    note(f"{subject.label}: log-densities of {len(rows)} rows")
    found, records, summary = table.measure(fitted, rows, held_out.seed, c)
    scale = float(fitted.density.score_model.process.prior_scale())
    z = np.asarray(found.latent, np.float64)[records["converged"]] / scale
    # What is missing says nothing of the model: as if it were as likely as all else.
    z = np.where(np.isnan(z), np.random.default_rng(held_out.seed).normal(size=z.shape), z)
    return Evaluated(subject, fitted, held_out, records, z, summary)


def difference(evaluated: Evaluated, reference: Evaluated) -> Estimate | None:
    """The mean difference in log-density from another run in nats, paired by rows.

    Rows that did not converge for both are left out; None where fewer than two remain, and where
    the runs have different rows.
    """
    both = evaluated.records["converged"] & reference.records["converged"]
    if evaluated.held_out is not reference.held_out or both.sum() < 2:
        return None
    return Estimate.from_samples((evaluated.records["nats"] - reference.records["nats"])[both])


def _samples(fitted: Fitted) -> int:
    if fitted.data.image_shape:
        return _PICTURES
    return _POINTS if len(fitted.data.columns) <= 2 else _ROWS
