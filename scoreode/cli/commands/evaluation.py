"""What `nll`, `compare`, `verify` and `report` do: what trained runs make of rows."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import Beyond
from scoreode.data.beyond import Apart
from scoreode.data.output import check_new, check_suffix, write_columns
from scoreode.errors import InputError, check_not_negative, check_positive, check_seed
from scoreode.evaluate import table
from scoreode.evaluate.rows import blocks, columns_of, with_conditions
from scoreode.evaluate.seen import Seen
from scoreode.flow import DEFAULT_PROBES, LogLikelihood, Refined
from scoreode.model.fitted import Fitted
from scoreode.progress import Counted, note
from scoreode.train import saved


@dataclass(frozen=True)
class NllOptions:
    """What `scoreode nll` evaluates, and how."""

    split: str = "test"
    seed: int = 0
    samples: int = 1
    stderr: float | None = None
    n_probes: int = DEFAULT_PROBES
    tolerance: float = Refined.tolerance
    data_dir: Path | None = None

    def check(self) -> None:
        """Raises `InputError` for an option that is out of its range."""
        check_seed(self.seed)
        check_not_negative(stderr=self.stderr)
        check_positive(samples=self.samples, tolerance=self.tolerance)
        if self.n_probes < 2:
            raise InputError(f"--n-probes {self.n_probes}: at least 2, to know their error")

    @property
    def decisive(self) -> dict[str, Any]:
        """Those on which the value of a row depends."""
        return {k: v for k, v in asdict(self).items() if k != "data_dir"}

    @property
    def place(self) -> tuple[str, int, Path | None]:
        """Where the rows are: the part, the seed, and the directory of sets."""
        return self.split, self.seed, self.data_dir


class Counts:
    """How many rows the run was trained on, and how many lie beyond the range of training."""

    def __init__(self, fitted: Fitted, source: str, data_dir: Path | None):
        self._seen, self._outside = Seen.by(fitted, source, data_dir), Beyond(fitted.data)

    def watch(self, parts: Iterator[np.ndarray], apart: Apart) -> Iterator[np.ndarray]:
        """Yields the same parts and counts their rows."""
        return self._outside.watch(self._seen.watch(parts, apart), apart)

    @property
    def tally(self) -> dict[str, Any]:
        """What was counted, for `add`."""
        beyond = {"rows": self._outside.rows, "columns": self._outside.columns}
        return {"seen": self._seen.tally, "beyond": beyond}

    def add(self, tally: dict[str, Any]) -> None:
        """Adds what was counted of other rows."""
        self._seen.add(tally["seen"])
        self._outside.add_counts(**tally["beyond"])

    @property
    def summary(self) -> dict[str, Any]:
        """The counts by name."""
        outside = self._outside
        found = {"trained_on": self._seen.count, "beyond_training": outside.rows}
        return found | {"beyond_training_columns": outside.columns}

    @property
    def notes(self) -> list[str]:
        """What to tell the user."""
        return [line for line in (str(self._seen), self._outside.note) if line]


def nll(
    run: Path, source: str, options: NllOptions, *, as_json: bool, out: Path | None, force: bool
) -> None:
    """Evaluates every row and prints the summary."""
    options.check()
    if out is not None:
        check_out(out, source, force)
    fitted = saved.load(run)
    counts = Counts(fitted, source, options.data_dir)
    parts, evaluate = prepare(fitted, source, options, counts)
    identity = table.identity(run, source, options.decisive)
    started = time.perf_counter()
    with table.journal(out, identity, force) as journal:
        records = evaluate_rows(parts, evaluate, journal)
        if out is not None:
            write_records(out, records)
        journal.remove()
    seconds = time.perf_counter() - started
    print_summary(fitted, source, records, counts, seconds, as_json=as_json)


def check_out(out: Path, source: str, force: bool) -> None:
    """Raises `InputError` for a file that rows cannot be written to; see `check_new`."""
    if out.resolve() == Path(source).resolve():
        raise InputError(f"--out {out}: these are the data; choose another file")
    check_new(out, force)


def prepare(
    fitted: Fitted,
    source: str,
    options: NllOptions,
    counts: Counts,
    within: range | None = None,
) -> tuple[Iterator[np.ndarray], table.Evaluate]:
    """The rows of a source in blocks, which are counted, and what evaluates them.

    **Arguments:** `within`, the numbers of the rows (None: all).
    """
    names, reading = columns_of(fitted), fitted.data.reading
    size = table.rows_of_block(fitted)
    columns, parts = blocks(source, *options.place, names, reading, within, size)
    apart = with_conditions(fitted, columns, source)

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

    return counts.watch(parts, apart), evaluate


def evaluate_rows(
    parts: Iterator[np.ndarray],
    evaluate: table.Evaluate,
    journal: table.Journal,
    first_row: int = 0,
) -> np.ndarray:
    """Records of all rows; interrupted, it is said whether some are kept."""
    known = len(journal)
    if known:
        note(f"going on after row {first_row + known}, from {journal.path}")
    try:
        return table.evaluate_blocks(parts, evaluate, journal, Counted("nll"), first_row)
    except KeyboardInterrupt:
        if journal.path is None or not len(journal):
            raise
        message = f"interrupted; {len(journal)} rows are kept. To go on, run the command again"
        raise KeyboardInterrupt(message) from None


def write_records(out: Path, records: np.ndarray) -> None:
    """Writes a column for every field of the records."""
    write_columns(out, {name: records[name] for name in table.RECORD.names or ()})


def print_summary(
    fitted: Fitted,
    source: str,
    records: np.ndarray,
    counts: Counts,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    """Prints the summary of all rows, and what is to be said of them."""
    summary = table.summarise(fitted, records, seconds) | counts.summary
    for line in counts.notes:
        note(f"{source}: {line}")
    print(json.dumps(summary) if as_json else table.readable(fitted, summary))


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
    run: Path,
    source: str | None,
    *,
    as_json: bool,
    n: int | None,
    seed: int,
    data_dir: Path | None = None,
) -> None:
    """Measures what the theory says of a run, on held-out rows of its data or of another file."""
    from scoreode.evaluate.held_out import Options, Sources
    from scoreode.evaluate.verify import checks, plain, readable

    _check_counts(n=n)
    check_seed(seed)
    fitted = saved.load(run)
    options = Options(source, n, seed=seed, data_dir=data_dir, unasked=(512, 16))
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
