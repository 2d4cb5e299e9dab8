"""`scoreode fit`'s options: to a run, and from a run the command that trains it again."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import Dataset, bin_widths, conditioned, on_grid, sources
from scoreode.data.columns import Pick, as_text, everything, names_in, only, without
from scoreode.errors import InputError, check_counts, check_not_negative, unknown
from scoreode.model.config import PROCESSES, Run, named, to_json
from scoreode.model.defaults import for_table
from scoreode.objective import Ramp
from scoreode.train import RunFolder, saved

_DECISIVE = 2**20  # rows of a part, at most, that decide which columns are discrete


@dataclass(frozen=True)
class FitOptions:
    """`scoreode fit`'s options; None leaves the choice to the recipe."""

    order: int = 3
    process: str = "ve"
    steps: int | None = None
    seconds: float | None = None
    init_from: Path | None = None
    batch_size: int | None = None
    micro_batches: int = 1
    learning_rate: float | None = None
    width: int | None = None
    depth: int | None = None
    n_probes: int | None = None
    lambda1: float | None = None
    lambda2: float | None = None
    standardise: str | None = None
    validation: str = "bound"
    validation_fraction: float = 0.1
    patience: int | None = None
    flip: bool = False
    columns: str | None = None
    drop: str | None = None
    given: str | None = None
    discrete: str | None = None
    bin_width: tuple[float | str, ...] = ()
    dequantise: str = "uniform"
    data_dir: Path | None = None
    seed: int = 0

    def data(self, source: str) -> Dataset:
        """The data set of the columns that are chosen, given those that are conditions, on its
        grid if it has one."""
        pick, chosen_by = self._chosen()
        place = self.seed, self.validation_fraction, self.data_dir
        data = replace(sources.load_data(source, *place, pick), chosen_by=chosen_by)
        if chosen_by is not None and (data.sampler is not None or data.image_shape is not None):
            raise InputError(f"{source}: has no columns to choose from; leave --{chosen_by[0]} out")
        if self.given is not None:
            data = conditioned(data, names_in(self.given))
        widths = self._bin_widths(data)
        return data if widths is None else on_grid(data, widths)

    def _chosen(self) -> tuple[Pick, tuple[str, str] | None]:
        """Of all columns those that are read, and the option that says so."""
        if self.columns is not None and self.drop is not None:
            raise InputError("give --columns or --drop, not both")
        if self.columns is not None:
            given = () if self.given is None else names_in(self.given)
            names = names_in(self.columns)
            also = [name for name in given if name not in names]
            return only([*names, *also]), ("columns", self.columns)
        if self.drop is not None:
            return without(names_in(self.drop)), ("drop", self.drop)
        return everything, None

    def _bin_widths(self, data: Dataset) -> Sequence[float] | None:
        """The grid that is declared, detected, or that of the run to start from; None: as it is."""
        if self.discrete is not None and self.bin_width:
            raise InputError("give --discrete or --bin-width, not both")
        if self.bin_width:
            return _widths(self.bin_width, data.columns)
        if self.discrete is not None:
            if data.bin_width is not None:
                raise InputError(f"{data.name}: lies on a grid already; leave --discrete out")
            discrete = "auto" if self.discrete == "auto" else names_in(self.discrete)
            parts = (data.train, data.validation, data.test)
            return bin_widths(
                np.concatenate([part[:_DECISIVE] for part in parts]), data.columns, discrete
            )
        if self.init_from is None or data.bin_width is not None:
            return None
        _, known = saved.read_config(RunFolder.existing(self.init_from))
        if known["bin_width"] is None or len(known["columns"]) != len(data.columns):
            return None
        return np.atleast_1d(known["bin_width"]).tolist()

    def run(
        self, n: int, d: int, image_shape: tuple[int, ...] | None, n_conditions: int = 0
    ) -> Run:
        """The resolved run for n rows of d columns, given others."""
        sizes = {"width": self.width, "depth": self.depth}
        lambdas = {"lambda1": self.lambda1, "lambda2": self.lambda2}
        check_counts(**sizes)
        check_not_negative(**lambdas)
        run = for_table(
            n,
            d,
            image_shape=image_shape if len(image_shape or ()) == 3 else None,
            n_conditions=n_conditions,
            order=self.order,
            process=named("process", self.process, PROCESSES),
            steps=self.steps,
            seconds=self.seconds,
            batch_size=self.batch_size,
            micro_batches=self.micro_batches,
            learning_rate=self.learning_rate,
            n_probes=self.n_probes,
            standardise=self.standardise,
            validation=self.validation,
            validation_fraction=self.validation_fraction,
            patience=self.patience,
            flip=self.flip,
            dequantise=self.dequantise,
            seed=self.seed,
        )
        constant = {name: Ramp(value) for name, value in lambdas.items() if value is not None}
        given = {name: size for name, size in sizes.items() if size is not None}
        return replace(
            run,
            network=replace(run.network, **given),
            objective=replace(run.objective, **constant),
        )

    def resolved(self, run: Run) -> "FitOptions":
        """These options, with those that were left out as the run has them."""
        found = FitOptions.nearest(run)
        left_out = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return replace(self, **{name: getattr(found, name) for name in left_out})

    @classmethod
    def nearest(cls, run: Run) -> "FitOptions":
        """The options whose run comes nearest to this one."""
        matching, names = run.objective, {type(p): name for name, p in PROCESSES.items()}
        lambdas = {"lambda1": matching.lambda1, "lambda2": matching.lambda2}
        shared = {field.name for field in fields(run)} & {field.name for field in fields(cls)}
        return cls(
            order=matching.order,
            width=run.network.width,
            depth=run.network.depth,
            n_probes=matching.n_probes,
            **{name: ramp.value for name, ramp in lambdas.items() if ramp.full <= ramp.start == 0},
            **{name: getattr(run, name) for name in shared},
            process=names[type(matching.process)],
        )


def fit_again(run: Run, data: dict[str, Any]) -> tuple[str, list[str]]:
    """The shortest command that trains a run again, and what of the run no option sets.

    **Arguments:** `data`, as `data.described`.
    """
    image_shape = tuple(data["image_shape"] or ()) or None
    shape = data["n_train"], len(data["columns"]), image_shape, len(data["conditions"])
    options = FitOptions.nearest(run)
    resolved = to_json(options.run(*shape))
    for field in fields(options):
        shorter = replace(options, **{field.name: field.default})
        if to_json(shorter.run(*shape)) == resolved:
            options = shorter
    if data["bin_width"] is not None and image_shape is None:
        options = replace(options, bin_width=_shown(data["bin_width"], data["columns"]))
    if data["chosen_by"] is not None:
        options = replace(options, **dict([data["chosen_by"]]))
    options = replace(options, given=as_text(data["conditions"]) or None)
    words = ["scoreode", "fit", data["name"]]
    for field in fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            shown = (str(v).removesuffix(".0") for v in values)
            words += [f"--{field.name.replace('_', '-')}", *shown]
    return shlex.join(words), list(_unlike(to_json(run), resolved))


def _widths(given: Sequence[float | str], columns: Sequence[str]) -> Sequence[float]:
    """Widths of bins: numbers as they are, or one a column where some are given by name.

    **Raises:** `InputError` for what is neither a number nor NAME=NUMBER, and for unknown names.
    """
    if not any("=" in str(entry) for entry in given):
        return [_number(entry, entry) for entry in given]
    widths = dict.fromkeys(columns, 0.0)
    for entry in given:
        name, by_name, width = str(entry).rpartition("=")
        if not by_name:
            raise InputError(
                f"bin width {entry!r}: give NAME=NUMBER for every one, or numbers only"
            )
        if name not in widths:
            raise InputError(f"bin width {entry!r}: {unknown('column', name, columns)}")
        widths[name] = _number(width, entry)
    return list(widths.values())


def _number(text: float | str, entry: float | str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"bin width {entry!r}: give a number, or NAME=NUMBER") from None


def _shown(bin_width: float | Sequence[float], columns: Sequence[str]) -> tuple[float | str, ...]:
    """Widths of bins as `--bin-width` takes them, by name where some columns have none."""
    widths = np.atleast_1d(bin_width).tolist()
    if len(set(widths)) == 1:
        return (widths[0],)
    return tuple(f"{c}={w:.12g}" for c, w in zip(columns, widths, strict=True) if w)


def _unlike(value: Any, other: Any, name: str = "") -> Iterator[str]:
    """`field = value` for every entry in which a document differs from another."""
    if isinstance(value, dict) and isinstance(other, dict) and value["type"] == other["type"]:
        for key, entry in value.items():
            yield from _unlike(entry, other[key], f"{name}.{key}" if name else key)
    elif value != other:
        yield f"{name} = {value['type'] if isinstance(value, dict) else value}"
