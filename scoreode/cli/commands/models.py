"""What `sample`, `export` and `convert` do: from a model, and to one."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.adapters import stablehlo as compiled
from scoreode.data import named_columns, tables
from scoreode.data.columns import if_there
from scoreode.data.output import check_new, check_typed, write_rows
from scoreode.data.reading import Reading
from scoreode.errors import InputError, check_seed
from scoreode.evaluate import table
from scoreode.model import convert as published
from scoreode.model.config import sampler
from scoreode.model.fitted import Fitted
from scoreode.report import figures, pixels
from scoreode.train import RunFolder, saved

_DRAWS = 1000
_PICTURES = ("", ".png")  # suffixes: a folder, a file
_SUFFIXES = ", ".join(tables.SUFFIXES)


def sample(
    run: Path,
    n: int | None,
    out: Path,
    seed: int,
    method: str,
    steps: int | None,
    given: Path | None,
    *,
    sheet: bool,
    as_json: bool,
    force: bool,
) -> None:
    """Draws samples into a file, images also one a file into a folder; of a conditional density n
    for every row of `given`, beside it."""
    if out.suffix:
        check_new(out, force, (*tables.SUFFIXES, ".png"))
    check_seed(seed)
    if n is not None and n < 1:
        raise InputError(f"-n {n}: draw at least one sample")
    fitted = saved.load(run)
    check_typed(out, fitted.data.kinds)
    _check_pictures(out, fitted.data.image_shape, n or _DRAWS, sheet)
    how = sampler(method, steps, len(fitted.data.columns))
    c = _conditions(fitted, run, given)
    c = None if c is None else np.repeat(c, n or 1, axis=0)
    n = (n or _DRAWS) if c is None else len(c)
    began = time.perf_counter()
    rows, c = fitted.draw(n, seed, how, c)
    seconds = time.perf_counter() - began
    if out.suffix in _PICTURES:
        _draw(fitted, rows, out, sheet)
    else:
        write_rows(out, *fitted.data.together(rows, c), fitted.data.kinds)
    found = {"n": n, "d": len(fitted.data.modelled), "method": method}
    found |= {"seconds": seconds, "out": str(out)}
    text = f"{n} samples in {out}; {seconds:.1f} s, compilation included"
    print(json.dumps(found) if as_json else text)


def _check_pictures(out: Path, shape: Sequence[int] | None, n: int, sheet: bool) -> None:
    """Raises `InputError` for pictures that cannot be written there, before any work is done."""
    if sheet and (out.suffix != ".png" or not shape):
        raise InputError("--sheet: is of images, in a .png")
    if not out.suffix and not shape:
        raise InputError(f"{out}: no suffix: a folder takes images, a table one of {_SUFFIXES}")
    if out.suffix not in _PICTURES or not shape:
        return
    if out.suffix and n > 1 and not sheet:
        raise InputError(
            f"{out}: one .png, but {n} images: give --out {out.with_suffix('')}/ for a file each,"
            " or --sheet for all in one, enlarged"
        )
    pixels.check(out, tuple(shape))


def _draw(fitted: Fitted, rows: np.ndarray, out: Path, sheet: bool) -> None:
    """Images as they are, or as a sheet; one or two columns as points."""
    shape = fitted.data.image_shape
    if not shape:
        figures.write(figures.points(rows, fitted.data.columns), out)
        return
    images = pixels.of_rows(rows, tuple(shape), fitted.pixel_range)
    if sheet:
        figures.write(figures.pictures(images), out)
    elif out.suffix:
        pixels.write(images[0], out)
    else:
        pixels.write_folder(images, out)


def _conditions(fitted: Fitted, run: Path, given: Path | None) -> np.ndarray | None:
    """The rows of a table on which a density is conditional; None for one without conditions."""
    names = fitted.data.given
    if not names and given is None:
        return None
    if not names:
        raise InputError(f"{run}: its density has no conditions; leave --given out")
    if given is None:
        raise InputError(
            f"{run}: its density is conditional on {', '.join(names)}; give --given FILE with these"
            " columns"
        )
    kinds = Reading({name: kind for name, kind in fitted.data.kinds.items() if name in names})
    columns, parts = tables.blocks(given, "test", table.BLOCK, if_there(names), kinds)
    picked = named_columns(columns, names, str(given))
    return np.concatenate([rows[:, picked] for rows in parts])


def export(run: Path, out: Path, *, stablehlo: bool, as_json: bool) -> None:
    """Copies the files of a run that its model consists of, which are read before; or writes
    compiled functions."""
    fitted = saved.load(run)
    if stablehlo:
        _compile(fitted, out, as_json=as_json)
        return
    folder = RunFolder.create(out)
    sizes = {name: folder.copy(run, name) for name in saved.model_files(fitted)}
    found = {"run": str(out), "bytes": sum(sizes.values())} | fitted.summary
    text = f"{', '.join(sizes)} in {out}: {sum(sizes.values()):,} bytes"
    print(json.dumps(found) if as_json else text)


def _compile(fitted: Fitted, out: Path, *, as_json: bool) -> None:
    """Writes log-density, score and draws as compiled functions, with their loader."""
    folder = RunFolder.create(out)
    try:
        manifest = compiled.export(fitted, folder)
    except BaseException:
        with suppress(OSError):  # a folder with files in it stays
            out.rmdir()
        raise
    error = manifest["error"]
    text = (
        f"{', '.join(manifest['functions'])} in {out}, for {', '.join(manifest['platforms'])}; of"
        f" {error['rows']} draws the log-densities are within"
        f" {error['largest_difference_in_nats']:.1g} nats of those of nll"
    )
    print(json.dumps(manifest | {"folder": str(out)}) if as_json else text)


def convert(checkpoint: Path, out: Path, *, as_json: bool, **options: Any) -> None:
    """Saves a published checkpoint as a finished run."""
    fitted = published.convert(checkpoint, published.Options(**options))
    saved.save(RunFolder.create(out), fitted)
    found = {"run": str(out)} | fitted.summary
    text = f"{fitted.run.network} after {fitted.steps} steps, in {out}"
    print(json.dumps(found) if as_json else text)
