"""What `fit` does: trains into a folder, and goes on with what is there."""

import itertools
import json
import shlex
from collections.abc import Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from scoreode.cli.options import FitOptions
from scoreode.data import Dataset, described, tables, ties
from scoreode.errors import FailureError, InputError
from scoreode.model import build
from scoreode.model.config import PROCESSES, Run
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted, check_columns
from scoreode.progress import note, shown
from scoreode.train import RunFolder, devices, saved, trainer
from scoreode.train.observers import Observer, observed_by, recoveries_told
from scoreode.train.saved import place, trained_on
from scoreode.train.tensorboard import events

RUNS = Path("runs")


@dataclass(frozen=True)
class Told:
    """How training is told of: its result as JSON, its course as TensorBoard events."""

    as_json: bool = False
    tensorboard: bool = False
    notes: tuple[str, ...] = ()
    """What was found in the data, which the JSON repeats."""


def fit(
    source: str, out: Path | None, options: FitOptions, told: Told, asked: Set[str] = frozenset()
) -> None:
    """Trains on a data set into a new folder.

    **Arguments:** `asked`, names of the options that were given, be it with their default values.
    """
    data = options.data(source)
    run, density = _begun(options, data, source, asked)
    told = replace(told, notes=tuple(ties.found_in(data).told(ties.in_command)))
    for line in told.notes:
        note(f"{data.name}: {line}")
    stem = "stdin" if source == tables.STDIN else Path(source).stem
    path = out or (next_folder(stem) if devices.is_first() else RUNS)
    with trainer.new_folder(path, run, described(data)) as folder:
        _train(trainer.Trainer(run, data, density, folder), folder, told)


def resolved(source: str, options: FitOptions, asked: Set[str] = frozenset()) -> FitOptions:
    """The options with what the data, the recipe and a model to start from choose."""
    return options.resolved(_begun(options, options.data(source), source, asked)[0])


def _begun(options: FitOptions, data: Dataset, source: str, asked: Set[str]) -> tuple[Run, Density]:
    """The run that the options mean, and the density that its training starts from."""
    shape = len(data.train), len(data.columns), data.image_shape
    run = options.run(*shape, n_conditions=data.n_conditions)
    trainer.check_batch(run)
    if options.init_from is None:
        return build.begun(run, data)
    trained = saved.load(options.init_from)
    _check_conditions(trained, described(data)["conditions"], options)
    check_columns(trained, data.columns, source)
    return _of_the_same_model(trained.run, run, options, asked), trained.density


def _check_conditions(trained: Fitted, conditions: list[str], options: FitOptions) -> None:
    found = trained.data["conditions"]
    if conditions != found:
        option = f"add --given {','.join(found)}" if found else "leave --given out"
        raise InputError(
            f"--init-from keeps the model of {options.init_from}, which is conditional on"
            f" {', '.join(found) or 'nothing'}: {option}"
        )


def _of_the_same_model(trained: Run, run: Run, options: FitOptions, asked: Set[str]) -> Run:
    """`run` with the model of the trained one, which options must not contradict."""
    kept = {
        "process": (PROCESSES.get(options.process), trained.objective.process),
        "width": (options.width, trained.network.width),
        "depth": (options.depth, trained.network.depth),
        "standardise": (options.standardise, trained.standardise),
        "dequantise": (options.dequantise, trained.dequantise),
    }
    for name in ("process", "dequantise"):
        if name not in asked and getattr(options, name) == getattr(FitOptions, name):
            del kept[name]
    for name, (asked, found) in kept.items():
        if asked not in (None, found):
            raise InputError(
                f"--{name} {getattr(options, name)}: --init-from keeps the model of"
                f" {options.init_from}, which has {found}; leave the option out"
            )
    return replace(
        run,
        network=trained.network,
        parametrisation=trained.parametrisation,
        standardise=trained.standardise,
        dequantise=trained.dequantise,
        noise_network=trained.noise_network,
        objective=replace(run.objective, process=trained.objective.process),
    )


def resume(path: Path, data_dir: Path | None, told: Told) -> None:
    """Continues a run from its newest checkpoint."""
    with trainer.existing_folder(path) as folder:
        run, known = saved.read_config(folder)
        data = trained_on(run, known, data_dir, "; restore it, or fit anew")
        _train(trainer.Trainer.resumed(run, data, folder), folder, told)


def _train(trainer: trainer.Trainer, folder: RunFolder, told: Told) -> None:
    order = trainer.run.objective.order
    if not devices.is_first():
        trainer.fit()
        return
    try:
        with ExitStack() as stack:
            shows = stack.enter_context(shown(f"order {order}"))
            observers: list[Observer] = [shows, recoveries_told(note)]
            if told.tensorboard:
                observers.append(stack.enter_context(events(folder.path, trainer.step)))
            fitted = trainer.fit(observed_by(*observers))
    except KeyboardInterrupt:
        if not trainer.resumable:
            raise
        command = shlex.join(["scoreode", "fit", "--resume", str(folder.path)])
        message = f"interrupted; the state is saved. Continue with: {command}"
        raise KeyboardInterrupt(message) from None
    if told.as_json:
        result = {"run": str(folder.path), "validation": trainer.run.validation}
        result |= {"notes": told.notes} if told.notes else {}
        print(json.dumps(result | fitted.summary))
    else:
        print(_readable(fitted, folder, trainer.data))


def _readable(fitted: Fitted, folder: RunFolder, data: Dataset) -> str:
    line = f"{fitted.steps} steps in {fitted.seconds:.0f} s"
    if fitted.validation_nats is not None:
        kind = "bound on the NLL" if fitted.run.validation == "bound" else "NLL"
        line += f", best validation {kind} {fitted.validation_nats:.4f} nats"
    path = str(folder.path)
    # Rows that it was not trained on: of a table without a test part the user has them.
    unseen = place(fitted.data) if len(data.test) else f"NEW{Path(data.name).suffix}"
    following = ["scoreode", "nll", path, unseen], ["scoreode", "report", path]
    return f"{line}\nsaved to {path}; next: {', or: '.join(map(shlex.join, following))}"


def next_folder(stem: str) -> Path:
    """The first of runs/stem-1, runs/stem-2 … that did not exist; now it does, and is empty."""
    for number in itertools.count(1):
        path = RUNS / f"{stem}-{number}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise FailureError(f"cannot create {path}: {error.strerror}") from error
    raise AssertionError  # there is always another number
