"""`scoreode fit`'s options: to a run, and from a run the command that trains it again."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode import recipes
from scoreode.data import Dataset, conditioned, on_grid, sources
from scoreode.errors import check_counts, check_not_negative
from scoreode.objective import Ramp


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
    given: str | None = None
    bin_width: tuple[float, ...] = ()
    dequantise: str = "uniform"
    data_dir: Path | None = None
    seed: int = 0

    def data(self, source: str) -> Dataset:
        """The data set, given the columns that are conditions, on its grid if it has one."""
        data = sources.load_data(source, self.seed, self.validation_fraction, self.data_dir)
        if self.given is not None:
            data = conditioned(data, [name.strip() for name in self.given.split(",")])
        return on_grid(data, self.bin_width) if self.bin_width else data

    def run(
        self, n: int, d: int, image_shape: tuple[int, ...] | None, n_conditions: int = 0
    ) -> recipes.Run:
        """The resolved run for n rows of d columns, given others."""
        sizes = {"width": self.width, "depth": self.depth}
        lambdas = {"lambda1": self.lambda1, "lambda2": self.lambda2}
        check_counts(**sizes)
        check_not_negative(**lambdas)
        run = recipes.for_table(
            n,
            d,
            image_shape=image_shape if len(image_shape or ()) == 3 else None,
            n_conditions=n_conditions,
            order=self.order,
            process=recipes.named("process", self.process, recipes.PROCESSES),
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

    def resolved(self, run: recipes.Run) -> "FitOptions":
        """These options, with those that were left out as the run has them."""
        found = FitOptions.nearest(run)
        left_out = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return replace(self, **{name: getattr(found, name) for name in left_out})

    @classmethod
    def nearest(cls, run: recipes.Run) -> "FitOptions":
        """The options whose run comes nearest to this one."""
        matching, names = run.objective, {type(p): name for name, p in recipes.PROCESSES.items()}
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


def fit_again(run: recipes.Run, data: dict[str, Any]) -> tuple[str, list[str]]:
    """The shortest command that trains a run again, and what of the run no option sets.

    **Arguments:** `data`, as `data.described`.
    """
    image_shape = tuple(data["image_shape"] or ()) or None
    shape = data["n_train"], len(data["columns"]), image_shape, len(data["conditions"])
    options = FitOptions.nearest(run)
    resolved = recipes.to_json(options.run(*shape))
    for field in fields(options):
        shorter = replace(options, **{field.name: field.default})
        if recipes.to_json(shorter.run(*shape)) == resolved:
            options = shorter
    if data["bin_width"] is not None and image_shape is None:
        options = replace(options, bin_width=tuple(np.atleast_1d(data["bin_width"]).tolist()))
    options = replace(options, given=",".join(data["conditions"]) or None)
    words = ["scoreode", "fit", data["name"]]
    for field in fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            shown = (str(v).removesuffix(".0") for v in values)
            words += [f"--{field.name.replace('_', '-')}", *shown]
    return shlex.join(words), list(_unlike(recipes.to_json(run), resolved))


def _unlike(value: Any, other: Any, name: str = "") -> Iterator[str]:
    """`field = value` for every entry in which a document differs from another."""
    if isinstance(value, dict) and isinstance(other, dict) and value["type"] == other["type"]:
        for key, entry in value.items():
            yield from _unlike(entry, other[key], f"{name}.{key}" if name else key)
    elif value != other:
        yield f"{name} = {value['type'] if isinstance(value, dict) else value}"
