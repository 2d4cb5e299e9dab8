"""Log-densities of tables that are spread over a cluster, by engines that exist.

    score = Scorer("run")
    rows.map_batches(score, batch_format="pandas")          # Ray Data
    rows.map_partitions(score, meta=score.meta(rows))       # Dask
    rows.mapInPandas(score, score.schema(rows.schema))      # Spark

None of the engines is needed to import it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import Description
from scoreode.data.frames import from_frame
from scoreode.data.hashes import hash_rows
from scoreode.errors import (
    InputError,
    check_not_negative,
    check_positive,
    check_seed,
    listing,
    whole,
)
from scoreode.flow import DEFAULT_PROBES, Refined
from scoreode.model.fitted import Fitted
from scoreode.train import RunFolder, saved

COLUMNS: dict[str, type] = {
    "nats": np.float64,
    "stderr": np.float64,
    "error": np.float64,
    "converged": np.bool_,
}
"""The columns that are appended."""
_BLOCK = 2**16  # rows in memory at a time, several times over
_MODELS = 4  # of a process, that are kept
_loading = threading.Lock()


@dataclass(frozen=True)
class Scorer:
    """Appends log p of every row, with its errors, to tables that have the columns of a run.

    A table is a pandas or polars DataFrame, or a dict of arrays, and so is what is returned. It has
    the columns that the run was trained on, by name, and those that its density is conditioned on;
    any others stay as they are. Appended are `nats`, `stderr`, `error` and `converged`, as
    `scoreode nll` writes them.

    It is a callable that holds only a path. A process reads the model when it first has rows, and
    once. Rows are evaluated in batches of one shape, so there is one compilation for parts of any
    size. The same part has the same values, bit for bit, on machines of one kind; in another part a
    row has the same value to rounding. Noise within the cells of discrete columns depends on the
    values of the row, so equal rows have equal noise, or on its `number`.

    **Arguments:** `run`, the folder of a finished run, which all workers see; `seed`, `samples`,
    `stderr`, `n_probes` and `tolerance`, as for `scoreode nll`; `number`, the column with the
    number of each row in its table, from 0, with which noise is that of `scoreode nll`; `prefix` of
    the names of the appended columns.

    **Raises:** `InputError` for what is no run, and for options out of their range; where it is
    called, for columns that are missing or have the name of an appended one, and for rows as
    `scoreode nll` does.
    """

    run: str | os.PathLike[str]
    seed: int = 0
    samples: int = 1
    stderr: float | None = None
    n_probes: int = DEFAULT_PROBES
    tolerance: float = Refined.tolerance
    number: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", os.path.abspath(self.run))  # workers have other folders
        check_seed(self.seed)
        check_not_negative(stderr=self.stderr)
        check_positive(tolerance=self.tolerance)
        whole("samples", self.samples)
        whole("n_probes", self.n_probes, 2)
        describe(str(self.run))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table has to have."""
        data = describe(str(self.run))
        return (*data.columns, *data.conditions, *([] if self.number is None else [self.number]))

    @property
    def appended(self) -> dict[str, type]:
        """The columns that are appended, with their types."""
        return {self.prefix + name: dtype for name, dtype in COLUMNS.items()}

    def __call__(self, table: Any) -> Any:
        """The table with the appended columns; of an iterator of tables an iterator of such."""
        if isinstance(table, Iterator):
            return map(self, table)
        found = self._found(table)
        if isinstance(table, Mapping):
            return {**table, **found}
        if hasattr(table, "with_columns"):
            import polars as pl

            return table.with_columns(*(pl.Series(name, v) for name, v in found.items()))
        return table.assign(**found)

    def meta(self, table: Any) -> Any:
        """What Dask has to know: the empty table that comes of a Dask DataFrame."""
        return self(table._meta)

    def schema(self, schema: Any) -> Any:
        """What Spark's `mapInPandas` has to know: the `StructType` that comes of a DataFrame's."""
        return type(schema)([*schema.fields, *self._fields("BooleanType")])

    @property
    def return_type(self) -> Any:
        """What Spark's `predict_batch_udf` has to know: the `StructType` of what is appended.

        It has no truth values, so `converged` is 1 or 0.
        """
        from pyspark.sql.types import StructType  # pyright: ignore[reportMissingImports]

        return StructType(self._fields("ByteType"))

    def _fields(self, truth: str) -> list[Any]:
        """Spark's fields of what is appended, with this type of truth values."""
        from pyspark.sql import types  # pyright: ignore[reportMissingImports]

        kinds = {np.float64: types.DoubleType(), np.bool_: getattr(types, truth)()}
        return [types.StructField(name, kinds[dtype]) for name, dtype in self.appended.items()]

    def make_predict_fn(self) -> Callable[..., dict[str, np.ndarray]]:
        """What Spark's `predict_batch_udf` calls once a worker.

        **Returns:** a function of arrays (n,), one for each of `columns`, in their order.
        """
        names = self.columns

        def predict(*columns: np.ndarray) -> dict[str, np.ndarray]:
            found = self._found(dict(zip(names, columns, strict=True)))
            return {k: v.astype(np.int8) if v.dtype == bool else v for k, v in found.items()}

        # Spark counts the parameters; their names may be those of any columns.
        parameters = [
            Parameter(f"column_{i}", Parameter.POSITIONAL_ONLY) for i in range(len(names))
        ]
        predict.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        return predict

    def _found(self, table: Any) -> dict[str, np.ndarray]:
        """The appended columns."""
        names = list(table) if isinstance(table, Mapping) else [str(n) for n in table.columns]
        self._check(names)
        wanted = {name: table[name] for name in self.columns}
        n = len(next(iter(wanted.values())))
        blocks = [self._block(wanted, slice(i, i + _BLOCK)) for i in range(0, n, _BLOCK)]
        return {
            name: np.concatenate([np.empty(0, dtype), *(block[name] for block in blocks)])
            for name, dtype in self.appended.items()
        }

    def _check(self, names: Sequence[str]) -> None:
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise InputError(f"no column {listing(missing)} among {listing(names)}")
        taken = [name for name in self.appended if name in names]
        if taken:
            raise InputError(f"the table has a column {listing(taken)}; give a prefix, prefix='p_'")

    def _block(self, columns: Mapping[str, Any], some: slice) -> dict[str, np.ndarray]:
        """The appended columns of some rows."""
        fitted = load(str(self.run))
        data, part = fitted.data, {name: _slice(v, some) for name, v in columns.items()}
        numbers = None if self.number is None else np.asarray(part.pop(self.number), np.int64)
        known = {"kinds": data.kinds, "gaps": data.reading.gaps}
        rows, _ = from_frame(_Columns(part), "the table", some.start, **known)
        d = len(data.columns)
        found = fitted.log_likelihood(
            rows[:, :d],
            self.seed,
            samples=self.samples,
            stderr=self.stderr,
            n_probes=self.n_probes,
            tolerance=self.tolerance,
            numbers=hash_rows(rows) if numbers is None else numbers,
            c=rows[:, d:] if data.conditions else None,
        )
        return {
            self.prefix + name: np.asarray(getattr(found, name), dtype)
            for name, dtype in COLUMNS.items()
        }


def load(run: str) -> Fitted:
    """The model of a run, which this process reads once, and again only if it was replaced."""
    with _loading:  # threads of a worker come at the same time
        return read(run, _modified(run, "model.safetensors"))


@lru_cache(_MODELS)
def read(run: str, modified: int) -> Fitted:  # noqa: ARG001 (what was modified is read again)
    """The model of a run that was last modified then; `read.cache_info().misses` were read."""
    return saved.load(Path(run))


def describe(run: str) -> Description:
    """What a run remembers of its data. **Raises:** `InputError` for what is no run."""
    return _description(run, _modified(run, "config.json"))


@lru_cache(_MODELS)
def _description(run: str, modified: int) -> Description:  # noqa: ARG001
    return saved.read_config(RunFolder.existing(Path(run)))[1]


def _modified(run: str, name: str) -> int:
    """When a file of a run was modified, in nanoseconds."""
    try:
        return os.stat(Path(run) / name).st_mtime_ns
    except OSError as error:
        raise InputError(
            f"{run}: not a run (it has no {name}); every worker has to see its folder"
        ) from error


def _slice(column: Any, some: slice) -> Any:
    return column.iloc[some] if hasattr(column, "iloc") else column[some]


class _Columns:
    """Columns by name, as a DataFrame has them."""

    def __init__(self, columns: Mapping[str, Any]):
        self._columns, self.columns = columns, list(columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]
