"""Runs on disk: their configuration and their trained densities."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from scoreode.data import Description
from scoreode.errors import InputError
from scoreode.model.anomaly import NoisyDensity
from scoreode.model.build import blank_density
from scoreode.model.categories import Law
from scoreode.model.comparison import Findings
from scoreode.model.config import Run, from_json, to_json
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.model.nlls import JDiff
from scoreode.model.stack import Stack, blank_stack, diffusion_of
from scoreode.train import (
    Optimiser,
    RunFolder,
    Schedule,
    TrainState,
    adam,
    devices,
    load_arrays,
    read_arrays,
    save_arrays,
    write_arrays,
)
from scoreode.train.folder import versions


def write_config(folder: RunFolder, run: Run, data: Description) -> None:
    """The resolved run and the description of its data."""
    folder.write_config({"run": to_json(run), "data": data.to_json()})


def read_config(folder: RunFolder) -> tuple[Run, Description]:
    """What `write_config` wrote. **Raises:** `InputError` if it is damaged."""
    config = folder.read("config.json")
    file = folder.path / "config.json"
    try:
        run = from_json(config.get("run"))
        if isinstance(run, Run):
            return run, Description.from_json(config.get("data"))
    except InputError as error:
        raise InputError(f"{file}: {error}{_by_another(config)}") from error
    except (TypeError, AttributeError, ValueError):  # no description
        pass
    raise InputError(f"{file}: not the configuration of a run{_by_another(config)}")


def _by_another(config: dict[str, Any]) -> str:
    """Which version wrote a configuration, if it was not this one."""
    recorded = config.get("versions")
    version = recorded.get("scoreode") if isinstance(recorded, dict) else None
    own = versions()["scoreode"]
    return "" if version in (None, own) else f" (written by scoreode {version}, and this is {own})"


LAW = "categories.safetensors"
KEPT = "rows.safetensors"
MODEL_FILES = ("config.json", "model.safetensors", "summary.json")


def write_law(folder: RunFolder, law: Law | None) -> None:
    """categories.safetensors, if there are categories."""
    if law is not None:
        write_arrays(folder.path / LAW, law.arrays())


def read_law(folder: RunFolder, names: Sequence[str]) -> Law | None:
    """What `write_law` wrote; None of a table in which nothing has masses, by `names`.

    **Raises:** `InputError` if the file is missing or damaged, or is that of other categories.
    """
    if not names:
        return None
    file = folder.path / LAW
    arrays = read_arrays(file)
    try:
        law = Law.from_arrays(arrays)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{file}: holds no law of categories; restore a copy") from error
    if len(law.stages) != len(names):
        raise InputError(f"{file}: does not fit its configuration; restore a copy")
    return law


def write_kept(folder: RunFolder, kept: NoisyDensity | None) -> None:
    """rows.safetensors, if the model keeps rows."""
    if kept is not None:
        write_arrays(folder.path / KEPT, vars(kept))


def read_kept(folder: RunFolder, d: int) -> NoisyDensity | None:
    """What `write_kept` wrote; None where there is no such file.

    **Raises:** `InputError` if it is damaged, or holds rows of other columns.
    """
    file = folder.path / KEPT
    if not file.exists():
        return None
    arrays = read_arrays(file)
    shapes = {name: array.shape[-1:] for name, array in arrays.items()}
    if shapes != {"rows": (d,), "std": (d,)}:
        raise InputError(f"{file}: does not fit its configuration; restore a copy, or delete it")
    return NoisyDensity(**arrays)


def model_files(fitted: Fitted) -> tuple[str, ...]:
    """The files of a run that its model consists of."""
    more = {LAW: fitted.data.with_mass, KEPT: fitted.kept is not None}
    return *MODEL_FILES, *(name for name, there in more.items() if there)


def save(folder: RunFolder, fitted: Fitted) -> None:
    """config.json, model.safetensors and summary.json of a trained density, and what else it has:
    the law of its categories, and rows."""
    write_config(folder, fitted.run, fitted.data)
    save_arrays(folder.path / "model.safetensors", fitted.whole)
    write_law(folder, fitted.law)
    write_kept(folder, fitted.kept)
    folder.write_summary(fitted.summary)


def load(path: Path) -> Fitted:
    """What `save` wrote. **Raises:** `InputError` if a file is missing or damaged."""
    folder = RunFolder.existing(path)
    run, data = read_config(folder)
    d = len(data.columns)
    whole = _blank(folder, run, d, data.n_conditions, bool(data.support))
    if run.parts is not None:
        whole = blank_stack(whole, run.parts, d, data.n_indicators)
    whole = load_arrays(path / "model.safetensors", whole)
    density, stack = diffusion_of(whole), whole if isinstance(whole, Stack) else None
    summary = folder.read("summary.json")
    steps, seconds, nats = (summary.get(name) for name in ("steps", "seconds", "validation_nats"))
    if steps is None or seconds is None:
        raise InputError(f"{path}/summary.json: not the summary of a run; restore a copy")
    order = summary.get("order", run.objective.order)
    found = _recoveries(summary), order, JDiff.from_summary(summary), stack
    law = read_law(folder, data.with_mass)
    findings = Findings.from_json(summary.get("findings"))
    known = law, findings, read_kept(folder, d)
    return Fitted(run, density, data, steps, seconds, nats, *found, *known)


def at_checkpoint(path: Path) -> Fitted:
    """The best model so far of a run that is under way or was stopped, and has no other.

    **Raises:** `InputError` if no checkpoint is whole.
    """
    run, data, state, density, record = _at_checkpoint(path)
    run = replace(run, parts=None)  # there is no stack before the end
    order = record.get("best_order", run.objective.order)
    known = record["elapsed"], record["best"], _recoveries(record), order
    law = read_law(RunFolder.existing(path), data.with_mass)
    return Fitted(run, density, data, int(state.step), *known, law=law)


def state(path: Path) -> TrainState:
    """The whole training state at a run's newest checkpoint; of one that has ended, at its end.

    **Raises:** `InputError` if no checkpoint is whole.
    """
    return _at_checkpoint(path)[2]


def _at_checkpoint(path: Path) -> tuple[Run, Description, TrainState, Density, dict[str, Any]]:
    """A run at its newest checkpoint: with the training state, the best density, and the record."""
    folder = RunFolder.existing(path)
    run, data = read_config(folder)
    blank = _blank(folder, run, len(data.columns), data.n_conditions, bool(data.support))
    state = TrainState.initial(blank.score_model, run.objective, _optimiser(run))
    tree = state, blank.score_model, blank.bijection
    (state, best, bijection), record = folder.checkpoints(read_only=True).restore(tree)
    return run, data, state, Density(bijection, best), record


def _recoveries(record: dict[str, Any]) -> tuple[int, ...]:
    """Of a summary or a checkpoint, which from before there were any do not hold them."""
    return tuple(record.get("recoveries", ()))


def _optimiser(run: Run) -> Optimiser:
    return Optimiser(
        adam(run.clip, run.b2, run.weight_decay),
        Schedule(run.learning_rate, run.warmup, run.learning_rate_decay),
        run.ema_decay,
        run.batch_size,
        run.micro_batches,
    )


def _blank(folder: RunFolder, run: Run, d: int, n_conditions: int, bounded: bool) -> Density:
    """`blank_density` of a configuration that anything may have happened to."""
    devices.check()
    try:
        with jax.enable_x64(False):  # models are float32, whatever the caller computes in
            return blank_density(run, d, n_conditions, bounded=bounded)
    except Exception as error:  # a value of the wrong kind surfaces as any error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{folder.path}/config.json: cannot rebuild the model ({reason}); restore a copy"
        ) from error
