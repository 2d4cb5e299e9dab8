"""From a run and a data set to a density: what every front door does, once.

Builds the model, trains it, keeps the best weights by validation, and writes and reads the run's
folder. A run with a folder can be stopped at any moment and taken up where its last checkpoint is.
"""

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.random as jr
import numpy as np

from scoreode.batches import batches
from scoreode.data import Dataset, check_grid
from scoreode.density import Density
from scoreode.errors import InputError
from scoreode.flow import (
    DEFAULT_PROBES,
    AbstractSampler,
    LogLikelihood,
    ODESampler,
    Refined,
    Uniform,
    declared,
)
from scoreode.recipes import STANDARDISATIONS, Run, from_json, to_json
from scoreode.score import ScoreModel
from scoreode.standardise import Chain
from scoreode.train import (
    Budget,
    Optimiser,
    Report,
    RunFolder,
    Schedule,
    TrainState,
    adam,
    devices,
    load_arrays,
    save_arrays,
    train,
)
from scoreode.validation import Validation

SAVE_EVERY = 20.0  # seconds between checkpoints: at most this much is lost to a kill
_STANDARDISED_VALUES = 2**25  # of as many rows as hold them, which decide the standardisation

Observer = Callable[[Report, float | None], None]
"""Called after every chunk of steps, with a validation NLL in nats when there is a new one."""


def unobserved(_report: Report, _validation: float | None) -> None:
    """The observer that looks away."""


@dataclass(frozen=True)
class Fitted:
    """A trained density, and what is known of its data and its training."""

    run: Run
    density: Density
    data: dict[str, Any]
    steps: int
    seconds: float
    validation_nats: float | None
    """The best validation NLL met in training, in nats per row."""

    @property
    def dequantisation(self) -> Uniform | None:
        """For data on a declared grid."""
        return declared(self.data["bin_width"], self.data["bin_edge"])

    def log_likelihood(
        self,
        x: np.ndarray,
        seed: int = 0,
        *,
        samples: int = 1,
        stderr: float | None = None,
        n_probes: int = DEFAULT_PROBES,
        first_row: int = 0,
    ) -> LogLikelihood:
        """log p of every row in nats; of rows on a grid a bound on the log-mass of their cells.

        **Arguments:** `seed` of probes and dequantisation; `samples`, of the bound; `stderr`, the
        largest that a row may have from its probes, of which there are `n_probes` to begin with;
        `first_row`, the number of the first of these rows in their table.

        **Raises:** `InputError` for rows off the grid.
        """

        def log_density(x: np.ndarray) -> LogLikelihood:
            return self.density.log_likelihood(x, seed, Refined(stderr=stderr, n_probes=n_probes))

        if self.dequantisation is None:
            return log_density(x)
        width, edge, columns = (self.data[name] for name in ("bin_width", "bin_edge", "columns"))
        check_grid(x, width, edge, columns, "data", first_row)
        return self.dequantisation.log_mass(log_density, x, samples, seed, first_row)

    def bits_per_dim(self, nats: float) -> float | None:
        """Bits/dim from a mean log-mass in nats; None for data without a declared grid."""
        d = len(self.data["columns"])
        return self.dequantisation and self.dequantisation.bits_per_dim(nats, d)

    def sample(self, n: int, seed: int = 0, how: AbstractSampler = ODESampler()) -> np.ndarray:
        """n rows, shape (n, d), on the grid if the data were; by default of the ODE's density."""
        x = self.density.sample(n, len(self.data["columns"]), seed, how)
        return x if self.dequantisation is None else self.dequantisation.quantised(x)


class _Best:
    """The best validated model so far; without validation, whatever comes last."""

    def __init__(self, model: ScoreModel, value: float | None = None, waited: int = 0):
        self.model, self.value, self.waited = model, value, waited

    def update(self, model: ScoreModel, value: float) -> None:
        if self.value is None or value < self.value:
            self.model, self.value, self.waited = model, value, 0
        else:
            self.waited += 1


class Trainer:
    """One run on one data set, from a density with untrained or trained weights.

    Of several processes only the first uses the folder.

    **Raises:** `InputError` for a batch that does not divide evenly.
    """

    def __init__(self, run: Run, data: Dataset, density: Density, folder: RunFolder | None = None):
        folder = folder if devices.is_first() else None
        self.run, self.data, self.folder = run, data, folder
        self._bijection = density.bijection
        _check_batch(run)
        self._optimiser = Optimiser(
            adam(run.clip),
            Schedule(run.learning_rate, run.warmup),
            run.ema_decay,
            run.batch_size,
            run.micro_batches,
        )
        self._state = TrainState.initial(density.score_model, run.objective, self._optimiser)
        self._best = _Best(density.score_model)
        self._validated, self._elapsed = 0, 0.0
        self._checkpoints = None if folder is None else folder.checkpoints()
        self._validation = Validation(run, data)

    @classmethod
    def resumed(cls, run: Run, data: Dataset, folder: RunFolder) -> Self:
        """The trainer at the newest checkpoint. **Raises:** `InputError` if none is whole."""
        trainer = cls(run, data, _blank(folder, run, described(data)), folder)
        tree = trainer._state, trainer._best.model, trainer._bijection
        (trainer._state, best, trainer._bijection), record = folder.checkpoints().restore(tree)
        trainer._best = _Best(best, record["best"], record["waited"])
        trainer._validated, trainer._elapsed = record["validated"], record["elapsed"]
        if trainer.folder is not None:
            trainer.folder.rewind_metrics(int(trainer._state.step))
        return trainer

    def fit(self, observe: Observer = unobserved) -> Fitted:
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
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._checkpoints is not None and self._checkpoints.any

    def save(self) -> None:
        """Writes a checkpoint of the last whole chunk, if there is a folder."""
        if self._checkpoints is None:
            return
        record = {
            "best": self._best.value,
            "waited": self._best.waited,
            "validated": self._validated,
            "elapsed": self._elapsed,
        }
        tree = self._state, self._best.model, self._bijection
        self._checkpoints.save(int(self._state.step), tree, record)

    def _reports(self) -> Iterator[Report]:
        return train(
            self._state,
            batches(self.data, self._bijection, flip=self.run.flip),
            self._optimiser,
            Budget(self.run.steps, self.run.seconds),
            jr.key(self.run.seed),
            self._elapsed,
        )

    def _validations_due(self, report: Report) -> int:
        return int(report.progress * self.run.validations)

    def _validated_nats(self, report: Report) -> float | None:
        """A validation NLL in nats when one is due; None otherwise, and for endless data."""
        if self._validation.absent or self._validations_due(report) <= self._validated:
            return None
        return self._validation.nats(Density(self._bijection, report.state.ema))

    def _accept(self, report: Report, value: float | None) -> None:
        """Makes a chunk's outcome what a checkpoint holds."""
        self._state, self._elapsed = report.state, report.seconds
        self._validated = self._validations_due(report)
        if self._validation.absent:
            self._best = _Best(report.state.ema)
        elif value is not None:
            self._best.update(report.state.ema, value)

    def _record(self, report: Report, value: float | None) -> None:
        if self.folder is None:
            return
        line = {
            "step": report.step,
            "progress": report.progress,
            "seconds": report.seconds,
            "steps_per_second": report.steps_per_second,
            **report.terms,
        }
        self.folder.append_metrics(line | ({} if value is None else {"validation_nats": value}))

    def _finish(self) -> Fitted:
        best, last = (Density(self._bijection, m) for m in (self._best.model, self._state.ema))
        fitted = Fitted(
            self.run,
            self._validation.chosen(best, last),
            described(self.data),
            int(self._state.step),
            self._elapsed,
            self._best.value,
        )
        self.save()
        if self.folder is not None:
            save(self.folder, fitted)
        return fitted


def fresh_density(run: Run, data: Dataset) -> Density:
    """A bijection fitted to the training rows, and an untrained score model."""
    most = max(2, _STANDARDISED_VALUES // data.train.shape[1])
    rows, noise = data.train[:most], declared(data.bin_width, data.bin_edge)
    rows = (rows if noise is None else noise.fixed(rows)).astype(np.float64)
    bijection = Chain.fitted(STANDARDISATIONS[run.standardise], rows)
    return Density(bijection, _new_score_model(run, rows.shape[1]))


def blank_density(run: Run, d: int) -> Density:
    """A density of the same structure, whose arrays are to be filled."""
    return Density(Chain.identity(STANDARDISATIONS[run.standardise], d), _new_score_model(run, d))


def _new_score_model(run: Run, d: int) -> ScoreModel:
    network = run.network.build((d,), jr.key(run.seed))
    return ScoreModel(run.objective.process, run.parametrisation, network)


def described(data: Dataset) -> dict[str, Any]:
    """What a run remembers of its data; the fingerprint tells other rows of the same shape."""
    return {
        "name": data.name,
        "columns": list(data.columns),
        "n_train": len(data.train),
        "entropy": data.entropy,
        "bin_width": data.bin_width,
        "bin_edge": data.bin_edge,
        "image_shape": data.image_shape,
        "fingerprint": _fingerprint(data.train),
    }


def _fingerprint(rows: np.ndarray) -> int:
    """A checksum of the rows in float32, a part at a time: large sets are stored in bytes."""
    found = 0
    for start in range(0, len(rows), 4096):
        part = np.ascontiguousarray(rows[start : start + 4096], np.float32)
        found = zlib.crc32(part.data, found)
    return found


_DESCRIBED = {"name", "columns", "n_train", "entropy", "bin_width", "image_shape", "fingerprint"}


def _check_batch(run: Run) -> None:
    """Raises `InputError` unless every device has an equal part of every micro-batch."""
    parts = run.micro_batches * jax.device_count()
    if run.batch_size % parts:
        raise InputError(
            f"batch_size {run.batch_size}: not a multiple of {parts}, into which"
            f" {run.micro_batches} micro-batches on {jax.device_count()} devices divide it"
        )


def new_folder(path: Path, run: Run, data: dict[str, Any]) -> RunFolder:
    """The folder of a run that begins; of several processes the first creates it.

    **Raises:** `InputError` if it exists, or if the run's batch does not divide evenly.
    """
    _check_batch(run)
    if not devices.is_first():
        return RunFolder(path)
    folder = RunFolder.create(path)
    write_config(folder, run, data)
    return folder


def write_config(folder: RunFolder, run: Run, data: dict[str, Any]) -> None:
    """The resolved run and the description of its data."""
    folder.write_config({"run": to_json(run), "data": data})


def read_config(folder: RunFolder) -> tuple[Run, dict[str, Any]]:
    """What `write_config` wrote. **Raises:** `InputError` if it is damaged."""
    config = folder.read("config.json")
    file = folder.path / "config.json"
    try:
        run, data = from_json(config.get("run")), config.get("data")
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if not isinstance(run, Run) or not isinstance(data, dict) or not data.keys() >= _DESCRIBED:
        raise InputError(f"{file}: not the configuration of a run")
    return run, {"bin_edge": 0.0} | data  # runs from before grids could lie elsewhere


def save(folder: RunFolder, fitted: Fitted) -> None:
    """config.json, model.safetensors and summary.json of a trained density."""
    write_config(folder, fitted.run, fitted.data)
    save_arrays(folder.path / "model.safetensors", fitted.density)
    folder.write_summary(
        {
            "order": fitted.run.objective.order,
            "steps": fitted.steps,
            "seconds": fitted.seconds,
            "validation_nats": fitted.validation_nats,
        }
    )


def load(path: Path) -> Fitted:
    """What `save` wrote. **Raises:** `InputError` if a file is missing or damaged."""
    folder = RunFolder.existing(path)
    run, data = read_config(folder)
    density = load_arrays(path / "model.safetensors", _blank(folder, run, data))
    summary = folder.read("summary.json")
    steps, seconds, nats = (summary.get(name) for name in ("steps", "seconds", "validation_nats"))
    if steps is None or seconds is None:
        raise InputError(f"{path}/summary.json: not the summary of a run; restore a copy")
    return Fitted(run, density, data, steps, seconds, nats)


def _blank(folder: RunFolder, run: Run, data: dict[str, Any]) -> Density:
    """`blank_density` of a configuration that anything may have happened to."""
    try:
        with jax.enable_x64(False):  # models are float32, whatever the caller computes in
            return blank_density(run, len(data["columns"]))
    except Exception as error:  # a value of the wrong kind surfaces as any error
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder.path}/config.json: cannot rebuild the model ({reason}); restore a copy"
        ) from error
