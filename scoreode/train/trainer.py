"""From a run and a data set to a trained density: `fit` and `resume`, which every door calls.

They build the model, train it, keep the best weights by validation, and write the run's folder. A
run with a folder can be stopped at any moment and resumed from its last checkpoint.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import equinox as eqx
import jax.random as jr
import numpy as np

from scoreode._typing import Loss, Sampler
from scoreode.data import Dataset, Description
from scoreode.model import categories
from scoreode.model.build import prepare
from scoreode.model.config import Parts, Run
from scoreode.model.density import Density
from scoreode.model.explain import examine
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Chain
from scoreode.score import ScoreModel
from scoreode.train import Report, RunFolder, TrainState, Windows, devices, train
from scoreode.train.batches import batches, check_batch
from scoreode.train.cycles import Cycle
from scoreode.train.high_orders import ROWS, begin, order_of, pay
from scoreode.train.kept import keep_rows
from scoreode.train.loop import CHUNK
from scoreode.train.observers import Observer, no_observer
from scoreode.train.saved import (
    _blank,
    _optimiser,
    _recoveries,
    read_config,
    read_law,
    save,
    write_config,
    write_law,
)
from scoreode.train.smoothing import with_smoothing
from scoreode.train.stacking import n_diffusions, stacks, with_stack
from scoreode.train.validation import Best, Validation

SAVE_EVERY = 20.0  # seconds between checkpoints: at most this much is lost to a kill


def fit(
    run: Run,
    data: Dataset,
    *,
    start: Density | None = None,
    state: TrainState | None = None,
    path: Path | None = None,
    command: str | None = None,
    observe: Observer = no_observer,
) -> Fitted:
    """Trains a density: what every door calls.

    **Arguments:** `start`, a density whose weights training starts from (None: untrained ones, in
    coordinates fitted to the rows); `state`, the whole training state that it goes on from, in the
    coordinates of `start`; steps count from its step on, and those of the budget are all of them;
    `path`, a new folder for the run; `command`, what a shell was
    given to do this, which the folder keeps; `observe`, called with every report of training.

    **Raises:** `InputError` for data that have no density, for a run that does not suit them, and
    for a folder that exists; `FailureError` for a loss that stays infinite, and for a full disk;
    `KeyboardInterrupt` as it comes, after saving a checkpoint.
    """
    check_batch(run)
    with _new_folder(path, command) as folder:
        law = categories.of_data(data)
        run, density = prepare(run, data, start)
        if not data.columns:
            return _of_categories(run, density, data, law, folder)

        def train_short(short: Run) -> Density:
            return Trainer(replace(short, parts=None), data, density).fit().density

        if stacks(run, data):
            run = replace(run, parts=Parts(n_diffusions(run, data)))
        run = with_smoothing(run, data, density, train_short)
        if run.parts is not None and run.seconds is not None:
            run = replace(run, seconds=run.seconds / run.parts.diffusions)
        trainer = Trainer(run, data, density, folder, law, state)
        if folder is not None:
            write_config(folder, run, trainer.description)
            write_law(folder, law)
        return trainer.fit(observe)


def _train_part(run: Run, part: Dataset) -> Density:
    """A density of a part of the rows, in coordinates of its own."""
    radius = run.radius
    run, start = prepare(run, part)
    start = eqx.tree_at(lambda density: density.score_model.radius, start, radius)
    return Trainer(replace(run, radius=radius), part, start).fit().density


def resume(path: Path, data: Dataset, observe: Observer = no_observer) -> Fitted:
    """Goes on with a run from its newest checkpoint, on the data that it began with.

    **Raises:** `InputError` if there is no run or no whole checkpoint; `FailureError` if another
    process trains there; else as `fit`.
    """
    folder = RunFolder.existing(path)
    with folder.hold() if devices.is_first() else nullcontext():
        run, _ = read_config(folder)
        return Trainer.resume(run, data, folder).fit(observe)


def _of_categories(
    run: Run,
    density: Density,
    data: Dataset,
    law: categories.Law | None,
    folder: RunFolder | None,
) -> Fitted:
    """What is fitted to a table without numbers: the law of its categories, and no network."""
    nats = categories.of_validation(law, data)
    mean = None
    if nats is not None and len(nats):
        mean = -float(np.average(nats, weights=data.validation_weights))
    fitted = Fitted(run, density, Description.of(data), 0, 0.0, mean, law=law)
    if folder is not None:
        save(folder, fitted)
    return fitted


@contextmanager
def _new_folder(path: Path | None, command: str | None) -> Iterator[RunFolder | None]:
    """The folder of a run that begins; of several processes the first creates and holds it."""
    if path is None or not devices.is_first():
        yield None
        return
    with RunFolder.start(path, command) as folder:
        yield folder


class Trainer:
    """One run on one data set, from a density with untrained or trained weights, or a state."""

    def __init__(
        self,
        run: Run,
        data: Dataset,
        density: Density,
        folder: RunFolder | None = None,
        law: categories.Law | None = None,
        state: TrainState | None = None,
    ):
        self.run: Run = run
        self.data: Dataset = data
        self.folder: RunFolder | None = folder
        self._bijection: Chain = density.bijection
        self._optimiser = _optimiser(run)
        self._order: int | None = self._asked_order()
        self._acting: int = self._order or 1  # the order of the loss in the state
        loss = self._loss(self._acting)
        initial = TrainState.initial(density.score_model, loss, self._optimiser)
        self._state = initial if state is None else initial.after(state)
        self._best = Best(density.score_model)
        self._validated, self._elapsed = 0, 0.0
        self._cycle = Cycle(run.cycle)
        self._lost = False  # whether the last cycle's end was no better than the best so far
        self._recoveries: tuple[int, ...] = ()
        self._checkpoints = None if folder is None else folder.checkpoints()
        self._law = law
        self._validation = Validation(run, data, categories.of_validation(law, data))

    @cached_property
    def description(self) -> Description:
        """What a run keeps of its data."""
        return Description.of(self.data)

    @classmethod
    def resume(cls, run: Run, data: Dataset, folder: RunFolder) -> Self:
        """The trainer at the newest checkpoint. **Raises:** `InputError` if none is whole."""
        blank = _blank(folder, run, len(data.columns), data.n_conditions, bool(data.support))
        law = read_law(folder, data.categories + data.gaps)
        trainer = cls(run, data, blank, folder if devices.is_first() else None, law)
        tree, record = folder.checkpoints().restore(trainer._tree())
        trainer._state, best, trainer._bijection = tree
        order = record.get("best_order", run.objective.order)
        trainer._best = Best(best, order, record["best"], record["waited"])
        trainer._order = record.get("order", run.objective.order)
        trainer._validated, trainer._elapsed = record["validated"], record["elapsed"]
        trainer._recoveries = _recoveries(record)
        trainer._cycle = Cycle(**record.get("cycle", {"steps": run.cycle}))
        if trainer.folder is not None:
            trainer.folder.rewind_metrics(trainer.step)
        return trainer

    def fit(self, observe: Observer = no_observer) -> Fitted:
        """Trains until the budget is spent or validation has stopped improving.

        **Arguments:** `observe`, called with every report and, when new, the validation NLL.

        **Raises:** `KeyboardInterrupt` as it comes; with a folder, after saving a checkpoint.
        """
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
            "order": self._order,
            "best": self._best.value,
            "best_order": self._best.order,
            "waited": self._best.waited,
            "validated": self._validated,
            "elapsed": self._elapsed,
            "recoveries": list(self._recoveries),
            "cycle": asdict(self._cycle),
        }
        self._checkpoints.save(self.step, self._tree(), record)

    def _tree(self) -> tuple:
        return self._state, self._best.model, self._bijection

    def _density(self, model: ScoreModel) -> Density:
        return Density(self._bijection, model)

    def _asked_order(self) -> int | None:
        """The order that a cycle begins with; None until J_Diff decides."""
        run = self.run
        return order_of(run, self.data) if run.auto_order else run.objective.order

    def _loss(self, order: int) -> Loss:
        objective = self.run.objective
        if order != objective.order:
            objective = replace(objective, order=order)
        return self.run.dequantise.loss(objective, self._bijection, self.data.bin_width)

    def _act(self, order: int) -> None:
        """Goes on by this order, with what the loss has learnt."""
        self._acting = order
        learnt, _ = eqx.partition(self._state.loss, eqx.is_array)
        _, settings = eqx.partition(self._loss(order), eqx.is_array)
        self._state = replace(self._state, loss=eqx.combine(learnt, settings))

    def _reports(self) -> Iterator[Report]:
        """Those of one cycle after another, while there is time and they pay."""
        sampler = self._sampler()
        while True:
            yield from self._reports_of_cycle(sampler)
            (elapsed,) = devices.broadcast([self._elapsed])
            following = self._cycle.following(self.run, self.step, float(elapsed))
            if following is None or self._validation.absent or not self._is_better():
                return
            self._cycle, self._validated, self._order = following, 0, self._asked_order()

    def _is_better(self) -> bool:
        """Whether a cycle's end is better than the best so far, which it then is.

        Within the first cycle the best may have come before its end.
        """
        last = self._density(self._state.ema)
        if self._choose().score_model is self._state.ema:
            self._best = Best(self._state.ema, self._order or 1, self._validation.nats(last))
            return True
        self._lost = self._cycle.first_step > 0
        return not self._lost

    def _choose(self) -> Density:
        """The best weights so far or the last ones; between cycles, over more rows."""
        best, last = self._density(self._best.model), self._density(self._state.ema)
        closely = self._cycle.first_step > 0
        return best if self._lost else self._validation.choose(best, last, closely=closely)

    def _reports_of_cycle(self, sampler: Sampler | Windows) -> Iterator[Report]:
        """Those of order 1 until higher ones begin, then those of the order that is decided."""
        if begin(self.run) > 0 and self._order != 1:
            # Compiled apart: a step that could do both takes half as long again.
            self._act(1)
            yield from self._train(sampler, until=begin(self.run))
        if self._order is None:
            began = time.perf_counter()
            found = self._validation.j_diff(self._density(self._state.ema), ROWS)
            (high,) = devices.broadcast([pay(found)])
            self._order = self.run.objective.order if high else 1
            self._elapsed += time.perf_counter() - began
        self._act(self._order)
        yield from self._train(sampler)

    def _sampler(self) -> Sampler | Windows:
        return batches(
            self.data,
            self._bijection,
            dequantise=self.run.dequantise,
            flip=self.run.flip,
            window=CHUNK * self.run.batch_size,
            seed=self.run.seed,
            smoothing=self.run.smoothing or 0.0,
            n_reference=self._n_reference(),
        )

    def _train(self, sampler: Sampler | Windows, until: float = 1.0) -> Iterator[Report]:
        return train(
            self._state,
            sampler,
            self._optimiser,
            self._cycle.budget(self.run),
            jr.key(self.run.seed),
            self._elapsed,
            self._recoveries,
            until,
        )

    def _n_reference(self) -> int:
        """Reference rows of a step, equally many for every micro-batch."""
        if self.run.dequantise.in_loss:
            return 0
        return self.run.objective.n_reference // self.run.micro_batches * self.run.micro_batches

    def _validations_due(self, report: Report) -> int:
        return int(report.annealed * self.run.validations)

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
            self._best = Best(report.state.ema, self._acting)
        elif value is not None and self._cycle.first_step == 0:  # then only ends count
            self._best.update(report.state.ema, self._acting, value)

    def _record(self, report: Report, value: float | None) -> None:
        if self.folder is None:
            return
        new = {} if value is None else {"validation_nats": value}
        self.folder.append_metrics(report.numbers | new)

    def _finish(self) -> Fitted:
        self.save()  # so that what follows can be done again
        chosen = self._choose()
        run, stack = with_stack(self.run, self.data, chosen, self.step, _train_part)
        fitted = Fitted(
            run,
            chosen,
            self.description,
            self.step,
            self._elapsed,
            self._best.value,
            self._recoveries,
            self._best.order if chosen.score_model is self._best.model else self._order or 1,
            None if self.folder is None else self._validation.j_diff(chosen),
            stack,
            self._law,
            kept=keep_rows(self.data),
        )
        if self.folder is not None:
            save(self.folder, fitted)  # first: what follows must not cost a model
            fitted = replace(fitted, findings=examine(fitted, self.data))
            self.folder.write_summary(fitted.summary)
        return fitted
