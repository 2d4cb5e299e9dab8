"""From a run and a data set to a trained density: `fit` and `resume`, which every door calls.

They build the model, train it, keep the best weights by validation, and write the run's folder. A
run with a folder can be stopped at any moment and resumed from its last checkpoint.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Self

import jax
import jax.random as jr

from scoreode.data import Dataset, Description
from scoreode.errors import InputError
from scoreode.model.build import prepare
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Chain
from scoreode.score import ScoreModel
from scoreode.train import Budget, Report, RunFolder, TrainState, devices, train
from scoreode.train.batches import batches
from scoreode.train.loop import CHUNK
from scoreode.train.observers import Observer, no_observer
from scoreode.train.saved import (
    _blank,
    _optimiser,
    _recoveries,
    read_config,
    save,
    write_config,
)
from scoreode.train.smoothing import with_smoothing
from scoreode.train.validation import Validation

SAVE_EVERY = 20.0  # seconds between checkpoints: at most this much is lost to a kill


def fit(
    run: Run,
    data: Dataset,
    *,
    start: Density | None = None,
    path: Path | None = None,
    command: str | None = None,
    observe: Observer = no_observer,
) -> Fitted:
    """Trains a density: what every door calls.

    **Arguments:** `start`, a density whose weights training starts from (None: untrained ones, in
    coordinates fitted to the rows); `path`, a new folder for the run; `command`, what a shell was
    given to do this, which the folder keeps; `observe`, called with every report of training.

    **Raises:** `InputError` for data that have no density, for a run that does not suit them, and
    for a folder that exists; `FailureError` for a loss that stays infinite, and for a full disk;
    `KeyboardInterrupt` as it comes, after saving a checkpoint.
    """
    check_batch(run)
    with _new_folder(path, command) as folder:
        run, density = prepare(run, data, start)

        def train_short(short: Run) -> Density:
            return Trainer(short, data, density).fit().density

        run = with_smoothing(run, data, density, train_short)
        trainer = Trainer(run, data, density, folder)
        if folder is not None:
            write_config(folder, run, trainer.description)
        return trainer.fit(observe)


def resume(path: Path, data: Dataset, observe: Observer = no_observer) -> Fitted:
    """Goes on with a run from its newest checkpoint, on the data that it began with.

    **Raises:** `InputError` if there is no run or no whole checkpoint; `FailureError` if another
    process trains there; else as `fit`.
    """
    folder = RunFolder.existing(path)
    with folder.hold() if devices.is_first() else nullcontext():
        run, _ = read_config(folder)
        return Trainer.resume(run, data, folder).fit(observe)


def check_batch(run: Run) -> None:
    """Raises `InputError` unless every device has an equal part of every micro-batch."""
    parts = run.micro_batches * jax.device_count()
    if run.batch_size % parts:
        raise InputError(
            f"batch_size {run.batch_size}: not a multiple of {parts}, into which"
            f" {run.micro_batches} micro-batches on {jax.device_count()} devices divide it"
        )


@contextmanager
def _new_folder(path: Path | None, command: str | None) -> Iterator[RunFolder | None]:
    """The folder of a run that begins; of several processes the first creates and holds it."""
    if path is None or not devices.is_first():
        yield None
        return
    with RunFolder.start(path, command) as folder:
        yield folder


class _Best:
    """The best validated model so far; without validation, whatever comes last."""

    def __init__(self, model: ScoreModel, value: float | None = None, waited: int = 0):
        self.model, self.value, self.waited = model, value, waited

    def update(self, model: ScoreModel, value: float) -> None:
        if math.isfinite(value) and (self.value is None or value < self.value):
            self.model, self.value, self.waited = model, value, 0
        else:
            self.waited += 1


class Trainer:
    """One run on one data set, from a density with untrained or trained weights."""

    def __init__(self, run: Run, data: Dataset, density: Density, folder: RunFolder | None = None):
        self.run: Run = run
        self.data: Dataset = data
        self.folder: RunFolder | None = folder
        self._bijection: Chain = density.bijection
        self._optimiser = _optimiser(run)
        loss = run.dequantise.loss(run.objective, density.bijection, data.bin_width)
        self._state = TrainState.initial(density.score_model, loss, self._optimiser)
        self._best = _Best(density.score_model)
        self._validated, self._elapsed = 0, 0.0
        self._recoveries: tuple[int, ...] = ()
        self._checkpoints = None if folder is None else folder.checkpoints()
        self._validation = Validation(run, data)

    @cached_property
    def description(self) -> Description:
        """What a run keeps of its data."""
        return Description.of(self.data)

    @classmethod
    def resume(cls, run: Run, data: Dataset, folder: RunFolder) -> Self:
        """The trainer at the newest checkpoint. **Raises:** `InputError` if none is whole."""
        blank = _blank(folder, run, len(data.columns), data.n_conditions)
        trainer = cls(run, data, blank, folder if devices.is_first() else None)
        tree, record = folder.checkpoints().restore(trainer._tree())
        trainer._state, best, trainer._bijection = tree
        trainer._best = _Best(best, record["best"], record["waited"])
        trainer._validated, trainer._elapsed = record["validated"], record["elapsed"]
        trainer._recoveries = _recoveries(record)
        if trainer.folder is not None:
            trainer.folder.rewind_metrics(trainer.step)
        return trainer

    def fit(self, observe: Observer = no_observer) -> Fitted:
        """Trains until the budget is spent or validation has stopped improving.

        **Arguments:** `observe`, called with every report and, when new, the validation NLL.

        **Raises:** `KeyboardInterrupt` as it comes; with a folder, after saving a checkpoint.
        """
        if self._state.step == 0:
            self.save()  # from here on there is something to resume
        saved = time.perf_counter()
        try:
            for report in self._reports():
                value = self._validated_nats(report)
                self._record(report, value)
                # Last, so that what interrupts the lines above leaves the chunk before whole.
                self._accept(report, value)
                observe(report, value)
                if self.run.patience is not None and self._best.waited >= self.run.patience:
                    break
                if time.perf_counter() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.perf_counter()
        except KeyboardInterrupt:
            self.save()
            raise
        return self._finish()

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self._state.step)

    def save(self) -> None:
        """Writes a checkpoint of the last whole chunk, if there is a folder."""
        if self._checkpoints is None:
            return
        record = {
            "best": self._best.value,
            "waited": self._best.waited,
            "validated": self._validated,
            "elapsed": self._elapsed,
            "recoveries": list(self._recoveries),
        }
        self._checkpoints.save(self.step, self._tree(), record)

    def _tree(self) -> tuple:
        return self._state, self._best.model, self._bijection

    def _density(self, model: ScoreModel) -> Density:
        return Density(self._bijection, model)

    def _reports(self) -> Iterator[Report]:
        return train(
            self._state,
            batches(
                self.data,
                self._bijection,
                dequantise=self.run.dequantise,
                flip=self.run.flip,
                window=CHUNK * self.run.batch_size,
                seed=self.run.seed,
                smoothing=self.run.smoothing or 0.0,
                n_reference=self._n_reference(),
            ),
            self._optimiser,
            Budget(self.run.steps, self.run.seconds),
            jr.key(self.run.seed),
            self._elapsed,
            self._recoveries,
        )

    def _n_reference(self) -> int:
        """Reference rows of a step, equally many for every micro-batch."""
        if self.run.dequantise.in_loss:
            return 0
        return self.run.objective.n_reference // self.run.micro_batches * self.run.micro_batches

    def _validations_due(self, report: Report) -> int:
        return int(report.progress * self.run.validations)

    def _validated_nats(self, report: Report) -> float | None:
        """A validation NLL in nats when one is due; None otherwise, and for endless data."""
        if self._validation.absent or self._validations_due(report) <= self._validated:
            return None
        return self._validation.nats(self._density(report.state.ema))

    def _accept(self, report: Report, value: float | None) -> None:
        """Makes a chunk's outcome what a checkpoint holds."""
        self._state, self._elapsed = report.state, report.seconds
        self._recoveries = report.recoveries
        self._validated = self._validations_due(report)
        if self._validation.absent:
            self._best = _Best(report.state.ema)
        elif value is not None:
            self._best.update(report.state.ema, value)

    def _record(self, report: Report, value: float | None) -> None:
        if self.folder is None:
            return
        new = {} if value is None else {"validation_nats": value}
        self.folder.append_metrics(report.numbers | new)

    def _finish(self) -> Fitted:
        best, last = self._density(self._best.model), self._density(self._state.ema)
        fitted = Fitted(
            self.run,
            self._validation.choose(best, last),
            self.description,
            self.step,
            self._elapsed,
            self._best.value,
            self._recoveries,
        )
        self.save()
        if self.folder is not None:
            save(self.folder, fitted)
        return fitted
