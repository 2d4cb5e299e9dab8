"""What `list` and `reproduce` do, for what has a name."""

import json
import shlex
from pathlib import Path
from typing import Any

from scoreode.cli.commands.training import next_folder
from scoreode.data import sources
from scoreode.errors import InputError, check_seed, unknown
from scoreode.model.config import PROCESSES, lookup
from scoreode.reproduce.paper import REPRODUCTIONS, TABLE_1
from scoreode.train import RunFolder


def list_names(*, as_json: bool) -> None:
    """Prints what has a name."""
    found = {
        "data sets": list(sources.DATA_NAMES),
        "recipes": [*REPRODUCTIONS, *TABLE_1],
        "processes": list(PROCESSES),
    }
    lines = (f"{kind + ':':10} {' '.join(names)}" for kind, names in found.items())
    print(json.dumps(found) if as_json else "\n".join(lines))


def reproduce(
    name: str,
    *,
    quick: bool,
    preset: str | None,
    data: str | None,
    data_dir: Path | None,
    constants: str | None,
    as_published: bool,
    trace_only: bool,
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Runs a reproduction into a new folder."""
    from scoreode.reproduce import REPRODUCE, table1

    check_seed(seed)
    if constants is not None and name != "mog":
        raise InputError(f"--constants is for mog, not for {name}; leave it out")
    words = ["scoreode", "reproduce", name, "--seed", str(seed)]
    if name in TABLE_1:
        preset = preset or ("cpu-10min" if quick else "full")
        lookup("preset", preset, table1.PRESETS)
        variant = table1.Variant(as_published, trace_only)
        variant.check(name, preset)
        images = table1.data_of(name, preset, seed, data_dir, data)
        words += ["--preset", preset, *(() if data is None else ("--data", data))]
        words += ["--as-published"] * as_published + ["--trace-only"] * trace_only
        folder = RunFolder.create(out or next_folder(name), shlex.join(words))
        row = {"name": name, "preset": preset, "seed": seed, "variant": variant}
        summary, text = table1.table1(folder, images, **row)
        _print(folder, summary, text, as_json)
        return
    if name not in REPRODUCTIONS:
        known = (*REPRODUCTIONS, *TABLE_1)
        raise InputError(unknown("recipe", name, known))
    if (preset, data, data_dir) != (None, None, None):
        raise InputError(f"--preset, --data and --data-dir are for images; {name} takes --quick")
    if as_published or trace_only:
        option = "--as-published" if as_published else "--trace-only"
        raise InputError(f"{option} is for the rows of Table 1, not for {name}; leave it out")
    chosen = {} if constants is None else {"constants": constants}
    words += ["--quick"] if quick else []
    words += [] if constants is None else ["--constants", constants]
    folder = RunFolder.create(out or next_folder(name), shlex.join(words))
    summary, text = REPRODUCE[name](folder, quick=quick, seed=seed, **chosen)
    _print(folder, summary, text, as_json)


def _print(folder: RunFolder, summary: dict[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps({"run": str(folder.path)} | summary) if as_json else text)
