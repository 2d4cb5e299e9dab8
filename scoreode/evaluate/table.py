"""Log-densities of a large table: block after block, written as it goes, and resumed after a kill.

Results are kept in a journal beside the file that they are for: a line that says what is being
evaluated, then a record for every row done. An evaluation of the same rows by the same model takes
the journal up where it ends; rows have the values they would have had.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from scoreode._files import lock
from scoreode.data import tables
from scoreode.errors import FailureError, InputError, listing
from scoreode.flow import LogLikelihood, Refined
from scoreode.model.fitted import Fitted
from scoreode.model.nlls import JDiff
from scoreode.train import saved

BLOCK, _BLOCK_VALUES = 8192, 2**20  # rows between two writes, and the values in them, at most
RECORD = np.dtype(
    [
        ("nats", "f8"),
        ("stderr", "f8"),
        ("error", "f8"),
        ("nfe", "i8"),
        ("converged", "?"),
    ]
)
_FOR_MEANS = {"n_probes": 4, "tolerance": 0.05}
_J_DIFF_ROWS = 2048  # at most: they cost as much again as a log-density
Evaluate = Callable[[np.ndarray, int], Any]
"""A `LogLikelihood` of rows, of which the first has this number in its table."""


def rows_of_block(fitted: Fitted) -> int:
    """How many rows are evaluated between two writes, and the unit of shards; fewer images.

    The last bits of a value depend on its row's place among those that are evaluated together. So
    every block is evaluated as a whole, whichever process does it.
    """
    return max(min(BLOCK, _BLOCK_VALUES // max(len(fitted.data.columns), 1)), 1)


class Journal:
    """Records of the rows that are done, in memory and, with a path, in a file.

    **Raises:** `InputError` for the file of another evaluation, unless it may be `discarded`.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any], discarded: bool = False):
        self.path = path
        self._discarded = discarded
        self._header = (json.dumps(identity, sort_keys=True) + "\n").encode()
        self._parts: list[np.ndarray] = []
        if path is not None:
            with self._disk():
                self._open(path)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def append(self, records: np.ndarray) -> None:
        """**Raises:** `FailureError` where the disk refuses; what was there stays."""
        self._parts.append(records)
        if self.path is not None:
            with self._disk(), open(self.path, "ab") as file:
                if file.tell() == 0:
                    file.write(self._header)
                file.write(records.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def records(self) -> np.ndarray:
        return np.concatenate([np.empty(0, RECORD), *self._parts])

    def remove(self) -> None:
        """Called when its results are elsewhere."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()

    def _open(self, path: Path) -> None:
        """Takes up whole records of the same evaluation."""
        if not path.exists():
            return
        known = path.read_bytes()
        if not known.startswith(self._header):
            if not self._header.startswith(known) and not self._discarded:
                raise InputError(
                    f"{path}: keeps the rows of another evaluation, of other data, of another"
                    " model or with other options; finish that one, choose another --out, or"
                    " discard it with --force"
                )
            path.unlink()
            return
        body = known[len(self._header) :]
        whole = len(body) - len(body) % RECORD.itemsize
        self._parts.append(np.frombuffer(body[:whole], RECORD))
        os.truncate(path, len(self._header) + whole)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise FailureError(
                f"cannot write {self.path}: {reason}; make room, and run the command again"
            ) from error


@contextmanager
def journal(out: Path | None, identity: dict[str, Any], force: bool) -> Iterator[Journal]:
    """The journal beside a file, which no other process writes meanwhile; without one in memory.

    **Raises:** `InputError` as `Journal`; `FailureError` if another process writes that file.
    """
    if out is None:
        yield Journal(None, identity)
        return
    with lock(out.with_name(f"{out.name}.lock"), str(out)):
        yield Journal(out.with_name(f"{out.name}.journal"), identity, force)


def evaluate_blocks(
    blocks: Iterator[np.ndarray],
    evaluate: Evaluate,
    journal: Journal,
    observe: Callable[[int, float], None],
    first_row: int = 0,
) -> np.ndarray:
    """Records of all rows of all blocks; blocks in the journal are not evaluated again.

    **Arguments:** `observe(rows done, rows a second)` after every block; `first_row`, the number
    of the first row in its table.
    """
    first, done, started = 0, 0, time.perf_counter()
    for rows in blocks:
        skipped = min(max(len(journal) - first, 0), len(rows))
        if skipped < len(rows):
            found = evaluate(rows, first_row + first)
            journal.append(as_records(found)[skipped:])
            done += len(rows)
        first += len(rows)
        observe(first, done / (time.perf_counter() - started))
    return journal.records()


def has_image_network(fitted: Fitted) -> bool:
    """Whether one evaluation of its network takes as long as hundreds of an MLP's."""
    return fitted.run.network.for_images


def for_means(fitted: Fitted) -> dict[str, Any]:
    """Arguments of `log_likelihood` that suffice for means and differences over rows.

    Images differ by tens of nats at least, by far more than what few probes and steps leave.
    """
    return _FOR_MEANS if has_image_network(fitted) else {}


def measure(
    fitted: Fitted, rows: np.ndarray, seed: int = 0, c: np.ndarray | None = None
) -> tuple[LogLikelihood, np.ndarray, dict[str, Any]]:
    """Log-likelihoods of rows, given c if they are conditional; as records; their summary.

    The summary has J_Diff, too.

    **Cost:** a log-density a row, as accurate as means need it, and two of some of the rows.
    """
    started = time.perf_counter()
    found = fitted.log_likelihood(rows, seed, **for_means(fitted), c=c)
    records = as_records(found)
    summary = summarise(fitted, records, time.perf_counter() - started)
    return found, records, summary | j_diff(fitted, rows, seed, c)


def j_diff(
    fitted: Fitted, rows: np.ndarray, seed: int = 0, c: np.ndarray | None = None
) -> dict[str, Any]:
    """J_Diff over the first 2048 rows, with the NLL and the bound whose difference it is, in nats.

    Empty where fewer than two converged; see `model.nlls`.
    """
    c = None if c is None else c[:_J_DIFF_ROWS]
    nlls = fitted.nlls(rows[:_J_DIFF_ROWS], seed, Refined(**for_means(fitted)), c)
    found = JDiff.of(nlls)
    return {} if found is None else found.summary


def as_records(found: Any) -> np.ndarray:
    """The `RECORD`s of a `LogLikelihood`."""
    records = np.empty(len(found.nats), RECORD)
    for name in RECORD.names or ():
        records[name] = getattr(found, name)
    return records


def identity(run: Path, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """What decides the value of every row: the model, the data, the options."""
    return identity_of_model(run) | {"data": identity_of_data(source)} | options


def identity_of_model(run: Path) -> dict[str, Any]:
    """What tells a model from others."""
    law = run / saved.LAW
    categories = {"categories": digest(law)} if law.exists() else {}
    return {"model": digest(run / "model.safetensors")} | categories


def identity_of_data(source: str) -> Any:
    """What tells other rows from these."""
    if source == tables.STDIN:
        return uuid.uuid4().hex  # nobody knows what comes next time
    if tables.is_parts(source):
        return {part.name: digest(part) for part in tables.parts_of(source)}
    return digest(Path(source)) if Path(source).is_file() else source


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summarise(fitted: Fitted, records: np.ndarray, seconds: float) -> dict[str, Any]:
    """Means over rows that converged, with standard errors; nats are log-densities or -masses."""
    good = records[records["converged"]]
    nats, nfe = good["nats"], records["nfe"]
    mean = float(np.mean(nats)) if nats.size else None
    error = float(np.std(nats, ddof=1) / nats.size**0.5) if nats.size > 1 else None
    return {
        "n": len(records),
        "d": len(fitted.data.modelled),
        "nats_mean": mean,
        "nats_stderr": error,
        "probe_stderr": float(np.sqrt(np.sum(good["stderr"] ** 2)) / nats.size)
        if nats.size
        else None,
        "bits_per_dim": None if mean is None else fitted.bits_per_dim(mean),
        "bits_per_dim_stderr": None if error is None else fitted.bits_per_dim(-error),
        "error_mean": float(np.mean(good["error"])) if nats.size else None,
        "nfe_mean": float(np.mean(nfe)),
        "nfe_quantiles": [int(q) for q in np.quantile(nfe, (0.5, 0.95), method="higher")],
        "nfe_max": int(np.max(nfe)),
        "unconverged": len(records) - len(good),
        "unconverged_rows": (1 + np.flatnonzero(~records["converged"])).tolist(),
        "seconds": seconds,
    }


def readable(fitted: Fitted, summary: dict[str, Any]) -> str:
    """The summary for a terminal."""
    mean, error = summary["nats_mean"], summary["nats_stderr"]
    lines = ["no row converged"]
    if mean is not None:
        spread = "" if error is None else f" ± {error:.4f}"
        kind = "log-density" if fitted.dequantisation is None else "log-mass, at least"
        lines = [f"{kind} {mean:.4f}{spread} nats (mean over {summary['n']} rows)"]
        if summary["probe_stderr"]:
            lines.append(f"of which probes  ± {summary['probe_stderr']:.4f} nats")
        lines.append(f"error of the solution in time about {summary['error_mean']:.1g} nats a row")
    if summary["bits_per_dim"] is not None:
        error = summary["bits_per_dim_stderr"]
        spread = "" if error is None else f" ± {error:.4f}"
        lines.append(f"bits/dim    {summary['bits_per_dim']:.4f}{spread}")
    median, most = summary["nfe_quantiles"]
    lines.append(
        f"network evaluations a row: {median} (median), {most} (95 %), {summary['nfe_max']} (most);"
        f" {summary['seconds']:.1f} s"
    )
    left_out = summary["unconverged_rows"]
    some = f"{len(left_out)} rows not converged, left out: {listing(left_out)}"
    lines.append(some if left_out else "all rows converged")
    return "\n".join(lines)
