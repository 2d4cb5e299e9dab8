"""What `nll --shard` and `nll --merge` do: many processes, which know nothing of one another."""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from scoreode._files import disk
from scoreode.cli.commands import evaluation
from scoreode.cli.commands.evaluation import Counts, NllOptions
from scoreode.data.output import check_suffix
from scoreode.errors import FailureError, InputError
from scoreode.evaluate import shards, table
from scoreode.evaluate.rows import count
from scoreode.evaluate.shards import Done, Fingerprint, Shard
from scoreode.progress import note
from scoreode.train import saved


def nll(
    run: Path,
    source: str,
    options: NllOptions,
    shard: str | None,
    *,
    merge: bool,
    as_json: bool,
    out: Path | None,
    force: bool,
) -> None:
    """One shard, or, to `merge`, all of them."""
    options.check()
    if shard is not None and merge:
        raise InputError("give --shard or --merge, not both: shards are merged when all are there")
    if out is None:
        what = "--merge" if merge else f"--shard {shard}"
        raise InputError(f"{what}: give --out FILE; shards are kept in the folder FILE.shards")
    if shard is None:
        _merge(run, source, options, as_json=as_json, out=out, force=force)
    else:
        number = Shard.parse(shard)
        _evaluate(run, source, options, number, as_json=as_json, out=out, force=force)


def _evaluate(
    run: Path,
    source: str,
    options: NllOptions,
    shard: Shard,
    *,
    as_json: bool,
    out: Path,
    force: bool,
) -> None:
    """Evaluates the rows of one shard, unless its file is there, and writes the file."""
    check_suffix(out)
    fitted, total, path = saved.load(run), count(source, *options.place), shard.path(out)
    block = table.rows_of_block(fitted)
    rows = shard.rows(total, block)
    identity = Fingerprint(run, source, options.decisive)(rows)
    done = None if force else _known(path, identity, rows, total)
    if done is not None:
        note(f"{path} is there; --force makes it again")
    else:
        with disk(path):
            path.parent.mkdir(exist_ok=True)
        counts = Counts(fitted, source, options.data_dir)
        parts, evaluate = evaluation.prepare(fitted, source, options, counts, rows)
        started = time.perf_counter()
        with table.journal(path, identity | {"shard": str(shard)}, force) as journal:
            records = evaluation.evaluate_rows(parts, evaluate, journal, rows.start)
            if len(records) != len(rows):
                raise FailureError(
                    f"{source}: has {len(records)} rows where {len(rows)} were counted; is it"
                    " being written? Run the command again"
                )
            seconds = time.perf_counter() - started
            done = Done(rows.start, total, identity, seconds, counts.tally, records)
            done.write(path)
            journal.remove()
    found = {"shard": str(shard), "out": str(path), "first_row": rows.start, "n": len(rows)}
    found |= {"total": total, "unconverged": int(np.sum(~done.records["converged"]))}
    found |= {"seconds": done.seconds}
    which = f"rows {rows.start + 1} to {rows.stop}" if rows else f"no block of {block} rows"
    print(json.dumps(found) if as_json else f"{which} of {total}, in {path}")


def _known(path: Path, identity: dict, rows: range, total: int) -> Done | None:
    """What the file of a shard holds; None if there is none, or a damaged one.

    **Raises:** `InputError` for that of another evaluation.
    """
    if not path.exists():
        return None
    done = Done.read(path)
    if done is None:
        note(f"{path} is damaged, and is made again")
    elif difference := done.difference(identity, rows, total):
        raise InputError(
            f"{path} is of {difference}; choose another --out, or replace it with --force"
        )
    return done


def _merge(
    run: Path, source: str, options: NllOptions, *, as_json: bool, out: Path, force: bool
) -> None:
    """Writes the rows of all shards and prints their summary, as one process would have."""
    evaluation.check_out(out, source, force)
    fitted, total = saved.load(run), count(source, *options.place)
    counts, seconds, records = Counts(fitted, source, options.data_dir), 0.0, []
    fingerprint = Fingerprint(run, source, options.decisive)
    block, command = table.rows_of_block(fitted), _command(run, source, options, out)
    for done in shards.merge(out, total, block, fingerprint, command):
        counts.add(done.counts)
        seconds += done.seconds
        records.append(done.records)
    merged = np.concatenate(records)
    evaluation.write_records(out, merged)
    evaluation.print_summary(fitted, source, merged, counts, seconds, as_json=as_json)


def _command(run: Path, source: str, options: NllOptions, out: Path) -> Callable[[str], str]:
    """The command that makes a shard, with the options that differ from their defaults."""
    words = ["scoreode", "nll", str(run), source, "--out", str(out)]
    for field in fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return lambda shard: shlex.join([*words, "--shard", *shard.split()])
