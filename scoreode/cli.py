"""The front door for a shell: fit, nll, verify, report, sample, convert, list, reproduce.

Nothing heavy is imported before a command runs, so that `--help` is immediate.
"""

import inspect
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from scoreode.errors import FailureError, InputError

Data = Annotated[
    str,
    Positional,
    arg(metavar="DATA", help="a name from `scoreode list`, or a .csv .parquet .npy .npz file"),
]


def fit(
    data: Annotated[str | None, Positional, arg(metavar="DATA")] = None,
    /,
    order: Literal[1, 2, 3] = 3,
    process: str = "ve",
    steps: int | None = None,
    seconds: float | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    batch_size: int | None = None,
    micro_batches: int = 1,
    learning_rate: float | None = None,
    width: int | None = None,
    depth: int | None = None,
    n_probes: int | None = None,
    lambda1: float | None = None,
    lambda2: float | None = None,
    standardise: str | None = None,
    validation: Literal["bound", "exact"] = "bound",
    validation_fraction: float = 0.1,
    patience: int | None = None,
    flip: bool = False,
    bin_width: tuple[float, ...] = (),
    data_dir: Path | None = None,
    distributed: bool = False,
    seed: int = 0,
    debug: bool = False,
) -> None:
    """Train a density on data: a named set, or the rows of a file.

    Example: scoreode fit data.csv --seconds 300 --out run

    Example: scoreode fit checkerboard --order 3 --steps 4000

    Example: scoreode fit --resume run

    Args:
        data: a name from `scoreode list`, or a .csv .parquet .npy .npz file.
        order: of the score matching objective; 2 and 3 also match derivatives of the score.
        process: ve, vp, subvp or straight.
        steps: train for so many steps (default: by the data).
        seconds: train for so many seconds instead.
        out: the run's folder, which must not exist (default: runs/DATA-N).
        resume: continue the run in this folder where its last checkpoint is.
        init_from: start from the weights of a trained run.
        batch_size: rows a step.
        micro_batches: parts of a batch that are computed one after another, to save memory.
        learning_rate: its peak.
        width: of the network's layers.
        depth: number of residual blocks.
        n_probes: probes an example for orders 2 and 3.
        lambda1: weight of order 2, constant from the first step (default: late in training).
        lambda2: weight of order 3, constant from the first step (default: late in training).
        standardise: centre, scale, whiten or power.
        validation: measure the bound (fast) or the exact NLL.
        validation_fraction: part of the rows held out.
        patience: stop after so many validations without improvement (default: never).
        flip: turn images left to right at random.
        bin_width: of the grid of discrete columns, one number or one a column, 0 if continuous.
        data_dir: where sets of images are (default: what SCOREODE_DATA names).
        distributed: this is one of several processes that train together, under SLURM or mpirun.
        seed: of everything random.
        debug: show a traceback on failure.
    """
    values = locals()
    given = _given(fit, values) - {"resume", "data_dir", "distributed", "debug"}
    if distributed:
        from scoreode.train import devices

        devices.connect()
    from scoreode import commands

    if resume is not None:
        if "data" in given:
            raise InputError("give DATA or --resume RUN, not both: a run knows its data")
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given))
            raise InputError(f"--resume takes its options from the run: leave out {names}")
        commands.resume(resume, data_dir)
        return
    if steps is not None and seconds is not None:
        raise InputError("give --steps or --seconds, not both")
    if data is None:
        raise InputError("give DATA to start a run, or --resume RUN to continue one")
    options = {field.name: values[field.name] for field in fields(commands.FitOptions)}
    commands.fit(data, out, commands.FitOptions(**options))


def _given(command: Callable[..., None], values: Mapping[str, object]) -> set[str]:
    """The names of the options that differ from their defaults."""
    parameters = inspect.signature(command).parameters
    return {name for name, option in parameters.items() if values[name] != option.default}


def nll(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    data: Annotated[str, Positional, arg(metavar="DATA")],
    /,
    json: bool = False,
    out: Path | None = None,
    split: Literal["test", "validation", "train"] = "test",
    stderr: float | None = None,
    samples: int = 1,
    n_probes: int = 16,
    data_dir: Path | None = None,
    seed: int = 0,
    debug: bool = False,
) -> None:
    """Exact log-density of every row under a trained run, and the summary.

    With --out, what is done is kept: after a kill the same command goes on where it was.

    Example: scoreode nll run test.csv

    Example: scoreode nll run test.csv --out rows.csv

    Example: scoreode nll run checkerboard --json

    Args:
        run: the folder of a finished run.
        data: a name from `scoreode list`, or a .csv .parquet .npy .npz file.
        json: print one JSON object and nothing else.
        out: write every row's nats, stderr, error, nfe and converged, as .csv .parquet .npz .npy.
        split: which part of a named set, or of an .npz with x_train, x_val, x_test.
        stderr: largest standard error in nats that a row may have from probes; 0: none, exact.
        samples: dequantised copies of every row, for data on a grid: the more the closer.
        n_probes: of every row above 32 columns; the fewer the faster, for means over many rows.
        data_dir: where sets of images are (default: what SCOREODE_DATA names).
        seed: of the rows of a named set, and of probes and dequantisation noise.
        debug: show a traceback on failure.
    """
    from scoreode import commands

    options = commands.NllOptions(split, seed, samples, stderr, n_probes, data_dir)
    commands.nll(run, data, options, as_json=json, out=out)


def verify(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    data: Annotated[str | None, Positional, arg(metavar="DATA")] = None,
    /,
    json: bool = False,
    n: Annotated[int, arg(aliases=("-n",))] = 512,
    data_dir: Path | None = None,
    seed: int = 0,
    debug: bool = False,
) -> None:
    """Measure what the theory says of a trained run.

    Where the data are a known mixture: every term of Theorem 1, the bounds, and the errors of the
    score's derivatives. On any data: the objectives, the asymmetry of the score's Jacobian, its
    distance from the score of the model's own density, and what solves there and back differ by.

    Example: scoreode verify run

    Example: scoreode verify run test.csv --json

    Args:
        run: the folder of a finished run.
        data: held-out rows, by name or file (default: the run's own).
        json: print one JSON object and nothing else.
        n: how many rows.
        data_dir: where sets of images are (default: what SCOREODE_DATA names).
        seed: of everything random.
        debug: show a traceback on failure.
    """
    from scoreode import commands

    commands.verify(run, data, as_json=json, n=n, seed=seed, data_dir=data_dir)


def report(
    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN")],
    /,
    out: Path | None = None,
    data: str | None = None,
    rows: int = 512,
    samples: int | None = None,
    data_dir: Path | None = None,
    seed: int = 0,
    debug: bool = False,
) -> None:
    """Write one HTML page about one or several runs, which needs nothing but a browser.

    What was run, how training went, samples beside data, log-densities of held-out rows, whether
    they are calibrated, and what they cost. An unfinished run has its training curves.

    Example: scoreode report run

    Example: scoreode report runs/order-1 runs/order-3 --out orders.html

    Example: scoreode report run --data test.csv --rows 2000

    Args:
        runs: folders of runs, or of several runs, as `reproduce` writes them.
        out: the page (default: report.html in the one folder given, else here).
        data: held-out rows, by name or file (default: the run's own).
        rows: how many of them, at most, drawn at random, to evaluate.
        samples: how many to draw (default: by what they are shown as).
        data_dir: where sets of images are (default: what SCOREODE_DATA names).
        seed: of the choice of rows, of samples, and of probes and dequantisation noise.
        debug: show a traceback on failure.
    """
    from scoreode import commands

    options = {"rows": rows, "samples": samples, "seed": seed, "data_dir": data_dir}
    commands.report(runs, out, data=data, **options)


def sample(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    /,
    out: Path,
    n: Annotated[int, arg(aliases=("-n",))] = 1000,
    method: Literal["ode", "dpm", "sde", "ancestral", "pc"] = "ode",
    steps: int | None = None,
    seed: int = 0,
    debug: bool = False,
) -> None:
    """Draw samples from a trained run.

    By default exact samples of the ODE's density, by adaptive steps. dpm: the same in few steps
    (DPM-Solver++); sde, ancestral, pc: of the reverse SDE, by Euler–Maruyama, by ancestral steps,
    or by a predictor and a Langevin corrector, for many dimensions.

    Example: scoreode sample run -n 1000 --out samples.csv

    Example: scoreode sample run -n 100 --out samples.png --method dpm --steps 20

    Args:
        run: the folder of a finished run.
        out: .npy .npz .csv .parquet, or .png for one or two columns and for images.
        n: how many.
        method: how they are drawn.
        steps: of the method (default: 20 for dpm, else 1000; ode chooses its own).
        seed: of the samples.
        debug: show a traceback on failure.
    """
    from scoreode import commands

    commands.sample(run, n, out, seed, method, steps)


def convert(
    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")],
    /,
    out: Path,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    multipliers: tuple[int, ...] = (1, 2, 2, 2),
    attention: tuple[int, ...] = (16,),
    debug: bool = False,
) -> None:
    """Turn a published checkpoint (score_sde: NCSN++ with VE, DDPM++ with VP) into a run.

    Example: scoreode convert checkpoint_26 --out runs/ncsnpp

    Args:
        checkpoint: the file that Flax wrote.
        out: the run's folder, which must not exist.
        image_shape: height, width and colours.
        multipliers: of the channels, for every resolution.
        attention: heights of the resolutions that have attention.
        debug: show a traceback on failure.
    """
    from scoreode import commands

    sizes = {"multipliers": multipliers, "attention": attention}
    commands.convert(checkpoint, out, image_shape, **sizes)


def list_(debug: bool = False) -> None:
    """Print the data sets, recipes and processes that have names.

    Example: scoreode list

    Args:
        debug: show a traceback on failure.
    """
    from scoreode import commands

    commands.list_names()


def reproduce(
    name: Annotated[str, Positional, arg(metavar="NAME")],
    /,
    quick: bool = False,
    preset: Literal["full", "one-gpu-20min", "cpu-10min"] | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    debug: bool = False,
) -> None:
    """Reproduce a figure or a number of the paper.

    Example: scoreode reproduce checkerboard --quick

    Example: scoreode reproduce cifar10-ve-third --preset cpu-10min --data-dir sets

    Example: scoreode reproduce checkerboard --out figure-4

    Args:
        name: a recipe from `scoreode list`.
        quick: fewer steps and test points; minutes, not an hour.
        preset: how much of Table 1's setting there is time for (default: full).
        data_dir: where sets of images are (default: what SCOREODE_DATA names).
        out: the folder of the result, which must not exist (default: runs/NAME-N).
        seed: of everything random.
        debug: show a traceback on failure.
    """
    from scoreode import commands

    sizes = {"quick": quick, "preset": preset}
    commands.reproduce(name, **sizes, data_dir=data_dir, out=out, seed=seed)


COMMANDS: dict[str, Callable[..., None]] = {
    "fit": fit,
    "nll": nll,
    "verify": verify,
    "report": report,
    "sample": sample,
    "convert": convert,
    "list": list_,
    "reproduce": reproduce,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0 on success, 1 on failure, 2 on wrong use, 130 when interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="scoreode",
            description="Likelihood-trained diffusion ODEs: fit a density, evaluate it exactly,"
            " sample from it.",
            args=argv,
            config=(FlagCreatePairsOff,),
        )
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except (InputError, FailureError) as error:
        if "--debug" in argv:
            raise
        print(f"scoreode: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except Exception as error:
        if "--debug" in argv:
            raise
        print(f"scoreode: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1
    return 0
