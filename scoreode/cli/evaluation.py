"""`scoreode nll`, `compare`, `verify`, `report`, `quality`: what runs make of rows."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scoreode.cli.arguments import (
    Config,
    Data,
    DataDir,
    Debug,
    Flag,
    Force,
    Json,
    Quiet,
    Run,
    default,
)


def nll(
    run: Run,
    data: Data,
    /,
    out: Annotated[Path | None, default("they are not kept")] = None,
    shard: Annotated[str | None, arg(metavar="I/N"), default("all rows")] = None,
    merge: Flag = False,
    split: Literal["test", "validation", "train"] = "test",
    stderr: Annotated[float | None, default("what --n-probes give")] = None,
    samples: int = 1,
    n_probes: int = 16,
    tolerance: float = 5e-3,
    data_dir: DataDir = None,
    seed: int = 0,
    force: Force = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Exact log-density of every row under a trained run, and the summary.

    With --out, what is done is kept: after a kill the same command goes on where it was. Rows that
    the run was trained on are counted, where its data are found.

    Example: scoreode nll run test.csv

    Example: scoreode nll run test.csv --out rows.csv

    Example: scoreode nll run checkerboard --json

    Example: scoreode nll run parts/ --out rows.parquet --shard 3/100

    Example: scoreode nll run parts/ --out rows.parquet --merge

    Args:
        shard: evaluate only the rows of shard I of N, counted from 0, into the folder OUT.shards.
        merge: write the rows of all shards to --out, as one process would have written them.
        out: write every row's nats, stderr, error, nfe and converged, as .csv .parquet .npz .npy.
        split: which part of a named set, or of an .npz with x_train, x_val, x_test.
        stderr: largest standard error in nats that a row may have from probes; 0: none, exact.
        samples: dequantised copies of every row, for data on a grid: the more the closer.
        n_probes: of every row above 32 columns; the fewer the faster, for means over many rows.
        tolerance: largest estimated error of a row's solution, in nats, or in % of more than 100.
        seed: of the rows of a named set, and of probes and dequantisation noise.
    """
    from scoreode.cli.commands import evaluation

    how = {"samples": samples, "stderr": stderr, "n_probes": n_probes, "tolerance": tolerance}
    options = evaluation.NllOptions(split, seed, **how, data_dir=data_dir)
    if shard is None and not merge:
        evaluation.nll(run, data, options, as_json=json, out=out, force=force)
        return
    from scoreode.cli.commands import shards

    shards.nll(run, data, options, shard, merge=merge, as_json=json, out=out, force=force)


def compare(
    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN", help_behavior_hint="")],
    /,
    data: Annotated[str | None, default("the runs' own")] = None,
    to: Literal["best", "first"] = "best",
    rows: Annotated[int | None, default("10000, or 1000 images")] = None,
    data_dir: DataDir = None,
    seed: int = 0,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Evaluate the same held-out rows under several runs, and test their differences.

    Differences are paired by rows and have standard errors; those that are significant at 5 %, all
    taken together, are marked.

    Example: scoreode compare runs/order-1 runs/order-3

    Example: scoreode compare runs --data test.csv --json

    Args:
        runs: folders of runs of the same columns, or of several runs.
        data: held-out rows, by name or file.
        to: the run from which the others differ.
        rows: how many, at most, drawn at random.
        seed: of the choice of rows, and of probes and dequantisation noise.
    """
    from scoreode.cli.commands import evaluation

    options = {"rows": rows, "seed": seed, "data_dir": data_dir}
    evaluation.compare(runs, data=data, to=to, as_json=json, **options)


def verify(
    run: Run,
    data: Annotated[
        str | None, Positional, arg(metavar="DATA", help_behavior_hint="(default: the run's own)")
    ] = None,
    /,
    n: Annotated[int | None, arg(aliases=("-n",)), default("512, or 16 images")] = None,
    data_dir: DataDir = None,
    seed: int = 0,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure what the theory says of a trained run.

    Where the data are a known mixture: every term of Theorem 1, the bounds, and the errors of the
    score's derivatives. On any data: the objectives, the asymmetry of the score's Jacobian, its
    distance from the score of the model's own density, and what solves there and back differ by.

    Example: scoreode verify run

    Example: scoreode verify run test.csv --json

    Args:
        data: held-out rows, by name or file.
        n: how many rows.
        seed: of everything random.
    """
    from scoreode.cli.commands import evaluation

    evaluation.verify(run, data, as_json=json, n=n, seed=seed, data_dir=data_dir)


def report(
    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="RUN", help_behavior_hint="")],
    /,
    out: Annotated[Path | None, default("report.html in the one folder given, else here")] = None,
    data: Annotated[str | None, default("the run's own")] = None,
    rows: Annotated[int | None, default("512, or 128 images")] = None,
    samples: Annotated[int | None, default("by what they are shown as")] = None,
    data_dir: DataDir = None,
    seed: int = 0,
    force: Force = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page about one or several runs, which needs nothing but a browser.

    What was run, how training went, samples beside data, log-densities of held-out rows, whether
    they are calibrated, and what they cost. An unfinished run has its training curves.

    Example: scoreode report run

    Example: scoreode report runs/order-1 runs/order-3 --out orders.html

    Example: scoreode report run --data test.csv --rows 2000

    Args:
        runs: folders of runs, or of several runs, as `reproduce` writes them.
        out: the page; the default one is written anew, any other file only with --force.
        data: held-out rows, by name or file.
        rows: how many of them, at most, drawn at random, to evaluate.
        samples: how many to draw.
        seed: of the choice of rows, of samples, and of probes and dequantisation noise.
    """
    from scoreode.cli.commands import evaluation

    options = {"rows": rows, "samples": samples, "seed": seed, "data_dir": data_dir}
    evaluation.report(runs, out, data=data, as_json=json, force=force, **options)


def quality(
    samples: Annotated[Path, Positional, arg(metavar="SAMPLES")],
    data: Annotated[str, Positional, arg(metavar="DATA")],
    /,
    features: Literal["inception", "efficientnet-lite0"] = "efficientnet-lite0",
    weights: Annotated[Path | None, default("its own; needed for inception")] = None,
    statistics: Annotated[Path | None, default("computed, and not kept")] = None,
    split: Literal["train", "test"] = "train",
    data_dir: DataDir = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare samples with a set of images: FID and Inception Score, or another Fréchet distance.

    The distance is that of two Gaussians with the moments of a network's features. In those of the
    Inception network it is called FID; its weights have to be given. All of it needs
    `pip install 'scoreode[quality]'`.

    Example: scoreode quality samples.npy cifar10 --data-dir sets

    Example: scoreode quality samples.npy cifar10 --features inception --weights inception.pth

    Args:
        samples: what `scoreode sample` wrote, .npy .npz .csv or .parquet.
        data: a set of images, see `scoreode list`, or a folder or .npy of them.
        features: the network.
        weights: a file with the Inception network's, as torch-fidelity publishes them.
        statistics: an .npz with the set's moments, read if it is there and written if it is not.
        split: which part of the set.
    """
    from scoreode.cli.commands import quality as command

    command.quality(samples, data, features, weights, statistics, split, data_dir, as_json=json)
