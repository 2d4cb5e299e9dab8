"""`scoreode fit`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Literal

from scoreode.cli.arguments import Config, DataDir, Debug, Flag, Json, MaybeData, Quiet, default
from scoreode.cli.config import given_options, to_toml
from scoreode.errors import InputError

_ALSO_RESUMED = {
    "resume",
    "data_dir",
    "distributed",
    "tensorboard",
    "config",
    "json",
    "quiet",
    "debug",
}


def fit(
    data: MaybeData = None,
    /,
    order: Literal["auto", 1, 2, 3] = "auto",
    process: str = "ve",
    steps: Annotated[int | None, default("by the rows, without --seconds")] = None,
    seconds: Annotated[float | None, default("by steps")] = None,
    out: Annotated[Path | None, default("runs/DATA-N")] = None,
    resume: Annotated[Path | None, default("a new one")] = None,
    init_from: Annotated[Path | None, default("new ones")] = None,
    batch_size: Annotated[int | None, default("by the data")] = None,
    micro_batches: int = 1,
    learning_rate: Annotated[float | None, default("by the data")] = None,
    width: Annotated[int | None, default("by the data")] = None,
    depth: Annotated[int | None, default("by the data")] = None,
    n_probes: Annotated[int | None, default("1")] = None,
    n_reference: Annotated[int | None, default("1024 if there are more")] = None,
    weight_decay: Annotated[float | None, default("0.03 for tables")] = None,
    smoothing: Annotated[float | None, default("by validation for few rows")] = None,
    no_stack: Flag = False,
    lambda1: Annotated[float | None, default("late in training")] = None,
    lambda1_trace: Annotated[float | None, default("that of --lambda1")] = None,
    lambda2: Annotated[float | None, default("late in training")] = None,
    standardise: Annotated[str | None, default("auto for tables")] = None,
    validation: Literal["bound", "exact"] = "bound",
    validation_fraction: float = 0.1,
    patience: Annotated[int | None, default("never")] = None,
    flip: Flag = False,
    columns: Annotated[str | None, default("all")] = None,
    drop: Annotated[str | None, default("none")] = None,
    given: Annotated[str | None, default("none")] = None,
    categories: Annotated[str | None, default("text and booleans")] = None,
    discrete: Annotated[str | None, default("none")] = None,
    bin_width: Annotated[tuple[float | str, ...], default("none is discrete")] = (),
    bounds: Annotated[tuple[str, ...], default("none")] = (),
    period: Annotated[tuple[str, ...], default("none")] = (),
    dequantise: Literal["uniform", "variational", "truncated-normal"] = "uniform",
    subsets: Flag = False,
    data_dir: DataDir = None,
    distributed: Flag = False,
    seed: int = 0,
    tensorboard: Flag = False,
    config: Config = None,
    print_config: Flag = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a density on data: a named set, or the rows of a file.

    Example: scoreode fit data.csv --seconds 300 --out run

    Example: scoreode fit checkerboard --order 3 --steps 4000

    Example: scoreode fit data.csv --given dose,age

    Example: scoreode fit data.csv --drop id,name --categories postcode --discrete visits

    Example: scoreode fit data.csv --bin-width visits=1 price=0.01

    Example: scoreode fit data.csv --bounds share=0:1 price=0: --period wind=360

    Example: zcat data.csv.gz | scoreode fit - --seconds 300 --out run

    Example: scoreode fit --config options.toml --seed 1

    Example: scoreode fit --resume run

    Args:
        order: of the objective; 2 and 3 match derivatives of the score, auto if they pay.
        process: ve, vp, subvp or straight.
        steps: train for so many steps.
        seconds: train for so many seconds instead.
        out: the run's folder, which must not exist.
        resume: continue the run in this folder where its last checkpoint is.
        init_from: start from the weights of a trained run.
        batch_size: rows a step.
        micro_batches: parts of a batch that are computed one after another, to save memory.
        learning_rate: its peak.
        width: of the network's layers.
        depth: number of residual blocks.
        n_probes: probes an example for orders 2 and 3.
        n_reference: rows beside a batch, over which targets are averaged; 0 for none.
        weight_decay: of the weights of linear maps, decoupled.
        smoothing: standard deviation of noise on standardised rows, new in every batch.
        no_stack: the diffusion alone, without a heavy tail and other simple densities beside it.
        lambda1: weight of order 2, J2 + J2,tr, constant from the first step.
        lambda1_trace: weight of J2,tr apart; with --lambda1 0 order 2 matches only the trace.
        lambda2: weight of order 3, constant from the first step.
        standardise: centre, scale, whiten or power, or auto: what suits rows left out.
        validation: measure the bound (fast) or the exact NLL.
        validation_fraction: part of the rows held out.
        patience: stop after so many validations without improvement.
        flip: turn images left to right at random.
        columns: the columns to model, by name, separated by commas.
        drop: columns to leave out.
        given: columns, by name, separated by commas, on which the others are conditioned.
        categories: columns of numbers, by name, separated by commas, that are categories, too.
        discrete: columns of counts or codes, by name, separated by commas, or auto.
        bin_width: of the grid of discrete columns: NAME=WIDTH for each, or one number for all, or
            one a column, 0 if continuous.
        bounds: of columns that cannot be beyond them: NAME=LOW:HIGH, NAME=LOW: or NAME=:HIGH.
        period: of columns of angles: NAME=PERIOD, after which values are the same point.
        dequantise: noise in the cells of a grid, learnt with the model if variational.
        subsets: learn the density of every set of columns, for rows that lack any values.
        distributed: this is one of several processes that train together, under SLURM or mpirun.
        seed: of everything random.
        tensorboard: write TensorBoard events into the run's folder, too.
        print_config: print what --config reads, with what is chosen by the data, and do not train.
    """
    values = locals()
    asked = given_options() | _non_defaults(fit, values)
    if distributed:
        from scoreode.train import devices

        devices.connect()
    from scoreode.cli.commands import training

    if resume is not None:
        chosen = asked - _ALSO_RESUMED
        if "data" in chosen:
            raise InputError("give DATA or --resume RUN, not both: a run knows its data")
        if chosen:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(chosen))
            raise InputError(f"--resume takes its options from the run: leave out {names}")
        training.resume(resume, data_dir, training.Output(json, tensorboard))
        return
    if steps is not None and seconds is not None:
        also = "" if config is None else f"; those in {config} count"
        raise InputError(f"give --steps or --seconds, not both{also}")
    if data is None:
        raise InputError("give DATA to start a run, or --resume RUN to continue one")
    options = {field.name: values[field.name] for field in fields(training.FitOptions)}
    meant = training.FitOptions(**options)
    if print_config:
        found = asdict(training.resolve(data, meant, asked))
        print(to_toml({"data": data, "out": out} | found), end="")
    else:
        training.fit(data, out, meant, training.Output(json, tensorboard), asked)


def _non_defaults(command: Callable[..., None], values: Mapping[str, object]) -> set[str]:
    """The names of the options that differ from their defaults."""
    parameters = inspect.signature(command).parameters
    return {name for name, option in parameters.items() if values[name] != option.default}
