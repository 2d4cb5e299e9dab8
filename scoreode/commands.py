"""What the shell's commands do, given parsed options."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scoreode import convert as published
from scoreode import evaluate, fitting, recipes
from scoreode.data import tables
from scoreode.data.output import check_suffix, write_columns, write_rows
from scoreode.errors import InputError
from scoreode.flow import DEFAULT_PROBES, LogLikelihood
from scoreode.options import FitOptions
from scoreode.report import figures
from scoreode.report.progress import Counted, shown
from scoreode.rows import blocks, check_columns, trained_on
from scoreode.train import RunFolder, devices

RUNS = Path("runs")


def fit(source: str, out: Path | None, options: FitOptions) -> None:
    """Trains on a data set into a new folder."""
    data = options.data(source)
    run = options.run(len(data.train), len(data.columns), data.image_shape)
    if options.init_from is None:
        density = fitting.fresh_density(run, data)
    else:
        trained = fitting.load(options.init_from)
        check_columns(trained, data.columns, source)
        density, run = trained.density, _of_the_same_model(trained.run, run, options)
    path = out or _next_folder(Path(source).stem)
    folder = fitting.new_folder(path, run, fitting.described(data))
    _train(fitting.Trainer(run, data, density, folder), folder)


def _of_the_same_model(trained: recipes.Run, run: recipes.Run, options: FitOptions) -> recipes.Run:
    """`run` with the model of the trained one, which options must not contradict."""
    kept = {
        "process": (recipes.PROCESSES.get(options.process), trained.objective.process),
        "width": (options.width, trained.network.width),
        "depth": (options.depth, trained.network.depth),
        "standardise": (options.standardise, trained.standardise),
    }
    if options.process == FitOptions.process:
        del kept["process"]
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
        objective=replace(run.objective, process=trained.objective.process),
    )


def resume(path: Path, data_dir: Path | None = None) -> None:
    """Continues a run from its newest checkpoint."""
    folder = RunFolder.existing(path)
    run, described = fitting.read_config(folder)
    data = trained_on(run, described, data_dir, "; restore it, or fit anew")
    _train(fitting.Trainer.resumed(run, data, folder), folder)


def _train(trainer: fitting.Trainer, folder: RunFolder) -> None:
    order = trainer.run.objective.order
    if not devices.is_first():
        trainer.fit()
        return
    try:
        with shown(f"order {order}") as observe:
            fitted = trainer.fit(observe)
    except KeyboardInterrupt:
        if not trainer.resumable:
            raise
        command = shlex.join(["scoreode", "fit", "--resume", str(folder.path)])
        message = f"interrupted; the state is saved. Continue with: {command}"
        raise KeyboardInterrupt(message) from None
    print(f"{fitted.steps} steps in {fitted.seconds:.0f} s", end="")
    if fitted.validation_nats is not None:
        kind = "bound on the NLL" if trainer.run.validation == "bound" else "NLL"
        print(f", best validation {kind} {fitted.validation_nats:.4f} nats", end="")
    print(f"\nsaved to {folder.path}; next: scoreode nll {folder.path} {trainer.data.name}")


@dataclass(frozen=True)
class NllOptions:
    """What `scoreode nll` evaluates, and how."""

    part: str = "test"
    seed: int = 0
    samples: int = 1
    stderr: float | None = None
    n_probes: int = DEFAULT_PROBES
    data_dir: Path | None = None


def nll(run: Path, source: str, options: NllOptions, *, as_json: bool, out: Path | None) -> None:
    """Evaluates every row and prints the summary."""
    recipes.check_not_negative(seed=options.seed, stderr=options.stderr)
    recipes.check_positive(samples=options.samples)
    if options.n_probes < 2:
        raise InputError(f"--n-probes {options.n_probes}: at least 2, to know their error")
    if out is not None:
        check_suffix(out)
        if out.resolve() == Path(source).resolve():
            raise InputError(f"--out {out}: these are the data; choose another file")
    fitted = fitting.load(run)
    columns, parts = blocks(source, options.part, options.seed, options.data_dir)
    check_columns(fitted, columns, source)
    decisive = asdict(replace(options, data_dir=None))
    identity = evaluate.identity(run, source, decisive)
    journal = evaluate.Journal(out and out.with_name(f"{out.name}.journal"), identity)

    def evaluated(rows: np.ndarray, first_row: int) -> LogLikelihood:
        return fitted.log_likelihood(
            rows,
            options.seed,
            samples=options.samples,
            stderr=options.stderr,
            n_probes=options.n_probes,
            first_row=first_row,
        )

    started, known = time.perf_counter(), len(journal)
    if known:
        print(f"going on after row {known}, from {journal.path}", file=sys.stderr)
    try:
        records = evaluate.evaluated(parts, evaluated, journal, Counted("nll"))
    except KeyboardInterrupt:
        if journal.path is None or not len(journal):
            raise
        message = f"interrupted; {len(journal)} rows are kept. To go on, run the command again"
        raise KeyboardInterrupt(message) from None
    if out is not None:
        write_columns(out, {name: records[name] for name in evaluate.RECORD.names or ()})
    journal.remove()
    summary = evaluate.summarised(fitted, records, time.perf_counter() - started)
    print(json.dumps(summary) if as_json else evaluate.readable(fitted, summary))


def verify(
    run: Path, source: str | None, *, as_json: bool, n: int, seed: int, data_dir: Path | None = None
) -> None:
    """Measures what the theory says of a run, on held-out rows of its data or of another file."""
    from scoreode.verify import plain, readable, verified

    recipes.check_positive(n=n)
    recipes.check_not_negative(seed=seed)
    fitted = fitting.load(run)
    source = str(source or fitted.data["name"])
    part = "test" if source in recipes.DATA_NAMES else "validation"
    columns, parts = blocks(source, part, seed, data_dir)
    rows = np.concatenate(list(parts))
    check_columns(fitted, columns, source)
    found = verified(fitted, rows[:n], seed)
    print(json.dumps(found, default=plain) if as_json else readable(found))


def sample(run: Path, n: int, out: Path, seed: int, method: str, steps: int | None) -> None:
    """Draws samples into a file."""
    check_suffix(out, (*tables.SUFFIXES, ".png"))
    recipes.check_not_negative(seed=seed)
    if n < 1:
        raise InputError(f"-n {n}: draw at least one sample")
    fitted = fitting.load(run)
    how = recipes.sampler(method, steps, len(fitted.data["columns"]))
    began = time.perf_counter()
    rows, columns = fitted.sample(n, seed, how), fitted.data["columns"]
    seconds = time.perf_counter() - began
    if out.suffix == ".png":
        shape = fitted.data["image_shape"]
        figure = figures.pictures(rows, tuple(shape)) if shape else figures.points(rows, columns)
        figures.write(figure, out)
    else:
        write_rows(out, rows, columns)
    print(f"{n} samples in {out}; {seconds:.1f} s, compilation included")


def convert(
    checkpoint: Path, out: Path, image_shape: tuple[int, int, int], **sizes: tuple[int, ...]
) -> None:
    """Saves a published checkpoint as a finished run."""
    fitted = published.convert(checkpoint, image_shape, **sizes)
    fitting.save(RunFolder.create(out), fitted)
    print(f"{fitted.run.network} after {fitted.steps} steps, in {out}")


def report(
    runs: Sequence[Path],
    out: Path | None,
    *,
    data: str | None,
    rows: int,
    samples: int | None,
    seed: int,
    data_dir: Path | None,
) -> None:
    """Writes a page about one or several runs."""
    from scoreode import examine
    from scoreode.report import html

    if not runs:
        raise InputError("give the folder of a run, or several: scoreode report RUN")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it")
    out = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    check_suffix(out, (".html",))
    recipes.check_not_negative(seed=seed)
    for name, count in {"rows": rows, "samples": samples}.items():
        if count is not None and count < 2:
            raise InputError(f"--{name} {count}: a spread takes at least 2")
    html.write(out, examine.page(runs, examine.Options(data, rows, samples, seed, data_dir)))
    print(f"written to {out}")


def list_names() -> None:
    """Prints what has a name."""
    print("data sets:", *recipes.DATA_NAMES)
    print("recipes:  ", *recipes.REPRODUCTIONS, *recipes.TABLE_1)
    print("processes:", *recipes.PROCESSES)


def reproduce(
    name: str,
    *,
    quick: bool,
    preset: str | None,
    data_dir: Path | None,
    out: Path | None,
    seed: int,
) -> None:
    """Runs a reproduction into a new folder."""
    from scoreode.reproduce import REPRODUCE, table1

    recipes.check_not_negative(seed=seed)
    if name in recipes.TABLE_1:
        preset = preset or ("cpu-10min" if quick else "full")
        recipes.named("preset", preset, table1.PRESETS)
        data = table1.data_of(name, seed, data_dir)
        folder = RunFolder.create(out or _next_folder(name))
        table1.table1(folder, data, name=name, preset=preset, seed=seed)
        return
    if name not in recipes.REPRODUCTIONS:
        known = (*recipes.REPRODUCTIONS, *recipes.TABLE_1)
        raise InputError(recipes.unknown("recipe", name, known))
    if preset is not None or data_dir is not None:
        raise InputError(f"--preset and --data-dir are for images; {name} takes --quick")
    folder = RunFolder.create(out or _next_folder(name))
    REPRODUCE[name](folder, quick=quick, seed=seed)


def _next_folder(stem: str) -> Path:
    """The first of runs/stem-1, runs/stem-2 … that does not exist."""
    number = 1
    while (RUNS / f"{stem}-{number}").exists():
        number += 1
    return RUNS / f"{stem}-{number}"
