"""What `fit` does: trains into a folder, and goes on with what is there."""

import itertools
import json
import shlex
from collections.abc import Callable, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from scoreode.cli.options import FitOptions
from scoreode.data import Dataset, outliers, tables, ties
from scoreode.data.mixed import note_of
from scoreode.errors import FailureError, InputError
from scoreode.model.build import check_continuous, prepare
from scoreode.model.config import PROCESSES, Run
from scoreode.model.density import Density
from scoreode.model.explain import explain
from scoreode.model.fitted import Fitted
from scoreode.progress import note, show
from scoreode.train import RunFolder, devices, saved, trainer
from scoreode.train.batches import check_batch
from scoreode.train.observers import Observer, combine_observers, no_observer, note_recoveries
from scoreode.train.smoothing import needs_choice
from scoreode.train.source import place, training_data
from scoreode.train.stacking import PARTS, n_diffusions, stacks
from scoreode.train.tensorboard import events

RUNS = Path("runs")
_MOST_OF = 0.95  # of a budget in seconds; it is said if less was used


@dataclass(frozen=True)
class Output:
    """Where training reports: its result as JSON, its course as TensorBoard events."""

    as_json: bool = False
    tensorboard: bool = False
    notes: tuple[str, ...] = ()
    """What was found in the data, which the JSON repeats."""


def fit(
    source: str,
    out: Path | None,
    options: FitOptions,
    output: Output,
    asked: Set[str] = frozenset(),
) -> None:
    """Trains on a data set into a new folder.

    **Arguments:** `asked`, names of the options that were given, be it with their default values.
    """
    data = options.data(source)
    run, start = _run_and_start(options, data, source, asked)
    check_continuous(data)
    kinds = note_of(data)
    found = [*([] if kinds is None else [kinds]), *ties.find(data).messages(ties.in_command)]
    output = replace(output, notes=(*found, *outliers.of_data(data)))
    for line in output.notes:
        note(f"{data.name}: {line}")
    stem = "stdin" if source == tables.STDIN else Path(source).stem
    path = out or (next_folder(stem) if devices.is_first() else RUNS)
    command = options.command(source)

    def train(observe: Observer) -> Fitted:
        return trainer.fit(run, data, start=start, path=path, command=command, observe=observe)

    _train(train, run, data, path, output)


def resolve(source: str, options: FitOptions, asked: Set[str] = frozenset()) -> FitOptions:
    """The options with what the data, the recipe and a model to start from choose."""
    data = options.data(source)
    run, start = _run_and_start(options, data, source, asked)
    return options.resolve(prepare(run, data, start)[0])


def _run_and_start(
    options: FitOptions, data: Dataset, source: str, asked: Set[str]
) -> tuple[Run, Density | None]:
    """The run that the options mean, and the density to start from, if a run was named."""
    shape = len(data.train), len(data.columns), data.image_shape
    run = options.run(*shape, n_conditions=data.n_conditions)
    check_batch(run)
    if options.init_from is None:
        return run, None
    trained = saved.load(options.init_from)
    _check_conditions(trained, data, options)
    trained.data.check_columns(data.columns, source)
    return _of_the_same_model(trained.run, run, options, asked), trained.density


def _check_conditions(trained: Fitted, data: Dataset, options: FitOptions) -> None:
    conditions, found = data.given, trained.data.given
    if data.categories != trained.data.categories:
        raise InputError(
            f"--init-from keeps the model of {options.init_from}, which has the categories"
            f" {', '.join(trained.data.categories)}: give the same columns"
        )
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
        "dequantise": (options.dequantise, trained.dequantise.name),
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
        objective=replace(run.objective, process=trained.objective.process),
    )


def resume(path: Path, data_dir: Path | None, output: Output) -> None:
    """Continues a run from its newest checkpoint."""
    run, known = saved.read_config(RunFolder.existing(path))
    data = training_data(run, known, data_dir, "; restore it, or fit anew")
    _train(lambda observe: trainer.resume(path, data, observe), run, data, path, output)


def _train(
    train: Callable[[Observer], Fitted], run: Run, data: Dataset, path: Path, output: Output
) -> None:
    """Trains, shows the progress, and prints the result."""
    if not devices.is_first():
        train(no_observer)
        return
    if needs_choice(run, data):
        note("few rows: short trainings choose the noise that they get first (see --smoothing)")
    if stacks(run, data) and n_diffusions(run, data) > 1:
        note(f"few rows: after this diffusion {PARTS - 1} more are trained (see --no-stack)")
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(show(f"order {run.order}"))
            observers: list[Observer] = [progress, note_recoveries(note)]
            if output.tensorboard:
                observers.append(stack.enter_context(events(path)))
            fitted = train(combine_observers(*observers))
    except KeyboardInterrupt:
        if not RunFolder(path).resumable:
            raise
        command = shlex.join(["scoreode", "fit", "--resume", str(path)])
        message = f"interrupted; the state is saved. Continue with: {command}"
        raise KeyboardInterrupt(message) from None
    if output.as_json:
        result = {"run": str(path), "validation": run.validation}
        result |= {"notes": output.notes} if output.notes else {}
        print(json.dumps(result | fitted.summary))
    else:
        print(_readable(fitted, path, data), explain(fitted), sep="\n\n")


def _readable(fitted: Fitted, path: Path, data: Dataset) -> str:
    numbers = bool(fitted.data.columns)
    line = f"{fitted.steps} steps in {fitted.seconds:.0f} s" if numbers else "categories only"
    if fitted.validation_nats is not None:
        kind = "bound on the NLL" if fitted.run.validation == "bound" and numbers else "NLL"
        line += f", best validation {kind} {fitted.validation_nats:.4f} nats"
    line += _order(fitted)
    if fitted.run.seconds is not None and fitted.seconds < _MOST_OF * fitted.run.seconds:
        left = fitted.run.seconds - fitted.seconds
        left *= 1 if fitted.run.parts is None else fitted.run.parts.diffusions
        line += f", {left:.0f} s of the budget not needed"
    if fitted.run.smoothing:
        line += f", with noise of {fitted.run.smoothing:.2g} on standardised rows"
    if fitted.stack is not None:
        line += f", stacked: {fitted.stack.text}"
    # Rows that it was not trained on: of a table without a test part the user has them.
    unseen = place(fitted.data) if len(data.test) else f"NEW{Path(data.name).suffix}"
    following = ["scoreode", "nll", str(path), unseen], ["scoreode", "report", str(path)]
    return f"{line}\nsaved to {path}; next: {', or: '.join(map(shlex.join, following))}"


def _order(fitted: Fitted) -> str:
    """Which orders acted, where that is not what was asked for."""
    asked = fitted.run.objective.order
    if fitted.run.auto_order:
        how = "did" if fitted.order > 1 else "did not"
        return f", orders 2 and 3 {how} act"
    return f", before order {asked} acted" if fitted.order < asked else ""


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
