"""What `nll`, `compare`, `verify` and `report` do: what trained runs make of rows."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scoreode.data import Beyond
from scoreode.data.output import check_new, check_suffix, write_columns
from scoreode.errors import InputError, check_not_negative, check_positive, check_seed
from scoreode.evaluate import table
from scoreode.evaluate.rows import blocks, columns_of, with_conditions
from scoreode.evaluate.seen import Seen
from scoreode.flow import DEFAULT_PROBES, LogLikelihood, Refined
from scoreode.progress import Counted, note
from scoreode.train import saved


@dataclass(frozen=True)
class NllOptions:
    """What `scoreode nll` evaluates, and how."""

    part: str = "test"
    seed: int = 0
    samples: int = 1
    stderr: float | None = None
    n_probes: int = DEFAULT_PROBES
    tolerance: float = Refined.tolerance
    data_dir: Path | None = None


def nll(
    run: Path, source: str, options: NllOptions, *, as_json: bool, out: Path | None, force: bool
) -> None:
    """Evaluates every row and prints the summary."""
    check_seed(options.seed)
    check_not_negative(stderr=options.stderr)
    check_positive(samples=options.samples, tolerance=options.tolerance)
    if options.n_probes < 2:
        raise InputError(f"--n-probes {options.n_probes}: at least 2, to know their error")
    if out is not None:
        if out.resolve() == Path(source).resolve():
            raise InputError(f"--out {out}: these are the data; choose another file")
        check_new(out, force)
    fitted = saved.load(run)
    place = options.part, options.seed, options.data_dir
    columns, parts = blocks(source, *place, columns_of(fitted), fitted.data.reading)
    apart, outside = with_conditions(fitted, columns, source), Beyond(fitted.data)
    decisive = asdict(replace(options, data_dir=None))
    identity = table.identity(run, source, decisive)
    seen = Seen.by(fitted, source, options.data_dir)

    def evaluate(rows: np.ndarray, first_row: int) -> LogLikelihood:
        x, c = apart(rows)
        return fitted.log_likelihood(
            x,
            options.seed,
            samples=options.samples,
            stderr=options.stderr,
            n_probes=options.n_probes,
            tolerance=options.tolerance,
            first_row=first_row,
            c=c,
        )

    started = time.perf_counter()
    with table.journal(out, identity, force) as journal:
        counted = outside.watch(seen.watch(parts, apart), apart)
        records = _records(counted, evaluate, journal)
        if out is not None:
            write_columns(out, {name: records[name] for name in table.RECORD.names or ()})
        journal.remove()
    summary = table.summarise(fitted, records, time.perf_counter() - started)
    summary["trained_on"] = seen.count
    summary |= {"beyond_training": outside.rows, "beyond_training_columns": outside.columns}
    for line in filter(None, (str(seen), outside.note)):
        note(f"{source}: {line}")
    print(json.dumps(summary) if as_json else table.readable(fitted, summary))


def _records(
    parts: Iterator[np.ndarray], evaluate: table.Evaluate, journal: table.Journal
) -> np.ndarray:
    """Records of all rows; interrupted, it is said whether some are kept."""
    known = len(journal)
    if known:
        note(f"going on after row {known}, from {journal.path}")
    try:
        return table.evaluate_blocks(parts, evaluate, journal, Counted("nll"))
    except KeyboardInterrupt:
        if journal.path is None or not len(journal):
            raise
        message = f"interrupted; {len(journal)} rows are kept. To go on, run the command again"
        raise KeyboardInterrupt(message) from None


def compare(
    runs: Sequence[Path],
    *,
    data: str | None,
    to: str,
    rows: int | None,
    seed: int,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Evaluates the same rows under several runs; interrupted, prints what is done."""
    from scoreode.evaluate import compare
    from scoreode.evaluate.densities import log_densities
    from scoreode.report import page

    check_seed(seed)
    _check_counts(rows=rows)
    options = page.Options(data, rows, seed=seed, data_dir=data_dir, unasked=(10_000, 1000))
    models, found = compare.alike(runs, options), []
    try:
        for model in models:
            found.append(log_densities(*model))
    except KeyboardInterrupt:
        if not found:
            raise
    summary = compare.summarise(found, to)
    print(json.dumps(summary) if as_json else compare.readable(summary))
    if len(found) < len(models):
        raise KeyboardInterrupt(f"interrupted; {len(found)} of {len(models)} runs compared")


def verify(
    run: Path, source: str | None, *, as_json: bool, n: int, seed: int, data_dir: Path | None = None
) -> None:
    """Measures what the theory says of a run, on held-out rows of its data or of another file."""
    from scoreode.evaluate.held_out import Options, Sources
    from scoreode.evaluate.verify import checks, plain, readable

    check_positive(n=n)
    check_seed(seed)
    fitted = saved.load(run)
    options = Options(source, n, seed=seed, data_dir=data_dir)
    x, c = Sources(options).of(fitted, shown=0).apart(fitted)
    found = checks(fitted, x, seed, c)
    print(json.dumps(found, default=plain) if as_json else readable(found))


def report(
    runs: Sequence[Path],
    out: Path | None,
    *,
    data: str | None,
    rows: int | None,
    samples: int | None,
    seed: int,
    data_dir: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Writes a page about one or several runs."""
    from scoreode.report import html, page

    if not runs:
        raise InputError("give the folder of a run, or several: scoreode report RUN")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it")
    folder = runs[0] if len(runs) == 1 else None
    # The page in the folder that it is about is this command's own.
    own, out = folder is not None and out is None, out or (folder or Path()) / "report.html"
    check_seed(seed)
    _check_counts(rows=rows, samples=samples)
    check_suffix(out, (".html",))
    if out.parent.is_dir():  # if not, it is no run, and that is said of it
        check_new(out, force or own, (".html",))
    html.write(out, page.page(runs, page.Options(data, rows, samples, seed, data_dir)))
    print(json.dumps({"out": str(out)}) if as_json else f"written to {out}")


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 2:
            raise InputError(f"--{name} {count}: a spread takes at least 2")
