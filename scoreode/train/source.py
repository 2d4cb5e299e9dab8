"""The data that a run was begun on, found again."""

import os
from dataclasses import replace
from pathlib import Path

from scoreode.data import Dataset, Description, condition_on, sources
from scoreode.data.columns import if_there
from scoreode.data.mixed import set_apart
from scoreode.errors import InputError
from scoreode.model.config import Run


def training_data(run: Run, known: Description, data_dir: Path | None, remedy: str = "") -> Dataset:
    """The data set that a run was begun on. **Raises:** `InputError` if it is another by now."""
    source = place(known, remedy)
    pick = if_there([*known.columns, *known.conditions])
    how = run.seed, run.validation_fraction, data_dir, pick, known.reading
    data = sources.load_data(source, *how)
    if known.given:
        data = condition_on(data, known.given)
    data = set_apart(data, known.gaps, subsets=known.subsets)
    if Description.of(data).fingerprint != known.fingerprint:
        raise InputError(f"{source} has changed since the run began{remedy}")
    names = "name", "bin_width", "bin_edge", "layout", "support"
    return replace(data, **{name: getattr(known, name) for name in names})


def place(known: Description, remedy: str = "") -> str:
    """The name of the set that a run was begun on, or where, from here, its file or folder is.

    **Raises:** `InputError` naming the places where it is not.
    """
    name, path = known.name, known.path
    if sources.is_named(name) or (path is None and not Path(name).suffix):
        return name
    here = os.path.abspath(name)
    places = dict.fromkeys([path or here, here])
    for found in places:
        if os.path.exists(found):
            return name if found == here else found
    looked_at = "" if list(places) == [name] else f" at {' nor at '.join(places)}"
    raise InputError(f"{name}: no such file{looked_at}{remedy}")
