"""`scoreode fit`'s options, and the run and the data that they mean."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from scoreode.data import (
    Dataset,
    Description,
    bin_widths,
    condition_on,
    declare,
    on_grid,
    on_support,
    sources,
)
from scoreode.data.columns import Pick, everything, names_in, only, without
from scoreode.data.domains import Support, as_declared
from scoreode.data.mixed import check_numbers, set_apart
from scoreode.data.reading import Reading
from scoreode.data.support import bounds_in, periods_in
from scoreode.errors import InputError, check_counts, unknown
from scoreode.model.config import AUTO, PROCESSES, Run, lookup
from scoreode.model.defaults import for_table, options_among
from scoreode.train import RunFolder, saved

_OF_RUN = (
    "steps",
    "seconds",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "smoothing",
    "standardise",
    "patience",
)
_DECISIVE = 2**20  # rows of a part, at most, that decide which columns are discrete


@dataclass(frozen=True)
class FitOptions:
    """`scoreode fit`'s options; None leaves the choice to the recipe."""

    order: int | str = AUTO
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
    n_reference: int | None = None
    weight_decay: float | None = None
    smoothing: float | None = None
    no_stack: bool = False
    lambda1: float | None = None
    lambda1_trace: float | None = None
    lambda2: float | None = None
    standardise: str | None = None
    validation: str = "bound"
    validation_fraction: float = 0.1
    patience: int | None = None
    flip: bool = False
    columns: str | None = None
    drop: str | None = None
    given: str | None = None
    categories: str | None = None
    discrete: str | None = None
    bin_width: tuple[float | str, ...] = ()
    bounds: tuple[str, ...] = ()
    period: tuple[str, ...] = ()
    dequantise: str = "uniform"
    subsets: bool = False
    data_dir: Path | None = None
    seed: int = 0

    def data(self, source: str) -> Dataset:
        """The data set of the columns that are chosen, given those that are conditions, on its
        grid and its support if it has these; categories are apart."""
        pick, chooser = self._pick()
        place = self.seed, self.validation_fraction, self.data_dir
        data = sources.load_data(source, *place, pick, self._reading())
        chooser = chooser or ("categories" if self.categories is not None else None)
        if chooser is not None and (data.sampler is not None or data.image_shape is not None):
            raise InputError(f"{source}: has no columns to choose from; leave --{chooser} out")
        if self.given is not None:
            data = condition_on(data, names_in(self.given))
        start = None if self.init_from is None else self._start
        if start is not None and self.subsets and not start.subsets:
            raise InputError(f"--subsets: {self.init_from} was trained without; leave one out")
        gaps, subsets = (start.gaps, start.subsets) if start else ((), self.subsets)
        data = set_apart(data, gaps, subsets=subsets)
        widths = self._bin_widths(data)
        data = data if widths is None else on_grid(data, widths)
        return on_support(data, self._support(data))

    def _pick(self) -> tuple[Pick, str | None]:
        """Of all columns those that are read, and the option that says so."""
        if self.columns is not None and self.drop is not None:
            raise InputError("give --columns or --drop, not both")
        if self.columns is not None:
            given = () if self.given is None else names_in(self.given)
            names = names_in(self.columns)
            also = [name for name in given if name not in names]
            return only([*names, *also]), "columns"
        if self.drop is not None:
            return without(names_in(self.drop)), "drop"
        return everything, None

    def _reading(self) -> Reading:
        """How columns that are no numbers are read: as in the run to start from, or as they are.

        Booleans on a grid that is declared are numbers.
        """
        if self.init_from is not None:
            return Reading(self._start.kinds, gaps=self._start.gaps_of_all)
        categories = () if self.categories is None else tuple(names_in(self.categories))
        named = [str(width).rpartition("=")[0] for width in self.bin_width]
        if self.discrete == "auto" or (named and not any(named)):
            return Reading(categories=categories, numbers=None, gaps=None)
        named += [] if self.discrete is None else names_in(self.discrete)
        return Reading(categories=categories, numbers=tuple(named), gaps=None)

    @cached_property
    def _start(self) -> Description:
        """The data of the run to start from."""
        assert self.init_from is not None
        return saved.read_config(RunFolder.existing(self.init_from))[1]

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
            check_numbers([] if discrete == "auto" else discrete, data, "--discrete")
            parts = (data.train, data.validation, data.test)
            return bin_widths(
                np.concatenate([part[:_DECISIVE] for part in parts]), data.columns, discrete
            )
        if self.init_from is None or data.bin_width is not None:
            return None
        known = self._start
        if known.bin_width is None or len(known.columns) != len(data.columns):
            return None
        return np.atleast_1d(known.bin_width).tolist()

    def _support(self, data: Dataset) -> Support:
        """The support that is declared, or that of the run to start from."""
        columns = (*(data.layout or data.columns), *data.given)
        declared = declare(bounds_in(self.bounds), periods_in(self.period), columns)
        if self.init_from is None:
            return declared
        found = self._start.support
        if declared and as_declared(declared) != as_declared(found):
            raise InputError(
                f"--bounds and --period: --init-from keeps the model of {self.init_from} and its"
                " support; leave the options out"
            )
        return found

    def run(
        self, n: int, d: int, image_shape: tuple[int, ...] | None, n_conditions: int = 0
    ) -> Run:
        """The resolved run for n rows of d columns, given others."""
        sizes = {"width": self.width, "depth": self.depth}
        check_counts(**sizes)
        options = {name: getattr(self, name) for name in options_among(vars(self))}
        run = for_table(
            n,
            d,
            image_shape=image_shape if len(image_shape or ()) == 3 else None,
            n_conditions=n_conditions,
            stack=not self.no_stack,
            **options | {"process": lookup("process", self.process, PROCESSES)},
        )
        given = {name: size for name, size in sizes.items() if size is not None}
        return replace(run, network=replace(run.network, **given))

    def resolve(self, run: Run) -> "FitOptions":
        """These options, with those that were left out as the run has them."""
        matching, network = run.objective, run.network
        chosen = {"width": network.width, "depth": network.depth}
        chosen |= {"n_probes": matching.n_probes, "n_reference": matching.n_reference}
        chosen |= {name: getattr(run, name) for name in _OF_RUN}
        left_out = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        return replace(self, **left_out)

    def command(self, source: str) -> str:
        """The command with these options, without those that have their defaults."""
        words = ["scoreode", "fit", source]
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                values = value if isinstance(value, tuple) else () if value is True else (value,)
                words += [f"--{field.name.replace('_', '-')}", *map(str, values)]
        return shlex.join(words)


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
