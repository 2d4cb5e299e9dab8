"""Rows that lack values: what is missing is drawn, or integrated over."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scoreode.data import Description
from scoreode.data.columns import check_named
from scoreode.data.frames import check_rows, read_frame
from scoreode.data.grids import indices
from scoreode.data.kinds import Category
from scoreode.data.output import as_frame, by_column, whole_columns
from scoreode.data.reading import Reading
from scoreode.errors import InputError, check_counts, listing, whole
from scoreode.estimator import conditions, inputs
from scoreode.flow import EXACT_UP_TO, LogLikelihood
from scoreode.model.fitted import Fitted
from scoreode.model.impute import impute


def check_for_imputation(data: Description) -> None:
    """Raises `InputError` if nothing was missing in training."""
    if not (data.subsets or data.gaps_of_all):
        raise InputError(
            "impute: no value was missing in training, so the model knows whole rows only; fit with"
            " subsets=True"
        )


def completed(
    fitted: Fitted, X: Any, x: np.ndarray, c: np.ndarray | None, n: int, seed: int
) -> list[Any]:
    """n tables like X, of which x and c are the rows, with draws of what is missing."""
    data, d = fitted.data, len(fitted.data.modelled)
    c = fitted.without_gaps(c)
    found = x if c is None else np.concatenate([x, c], axis=1)
    lacks = np.asarray(np.isnan(found[:, data.order[:d]]))
    rows = np.flatnonzero(lacks.any(1))
    drawn = impute(fitted, x[rows], None if c is None else c[rows], n, seed)
    drawn = np.concatenate([part for part in drawn if part is not None], axis=1)
    tables = []
    for i in range(n):
        found[rows] = drawn[i::n]
        tables.append(_like(X, found[:, data.order[:d]], lacks, data))
    return tables


def _like(X: Any, rows: np.ndarray, lacks: np.ndarray, data: Description) -> Any:
    """X with these rows in the columns that lacked values; an array of numbers, or of objects."""
    whole = whole_columns(data.bin_width, data.bin_edge, len(data.columns))
    integers = dict(zip(data.columns, whole, strict=True))
    names = [name for name, lack in zip(data.modelled, lacks.T, strict=True) if lack.any()]
    if not hasattr(X, "columns"):
        columns = by_column(rows, data.modelled, kinds=data.kinds).values()
        return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    chosen = [data.modelled.index(name) for name in names]
    are_whole = [integers.get(name, False) for name in names]
    columns = by_column(rows[:, chosen], names, are_whole, data.kinds)
    frame = as_frame(columns, data.kinds, inputs.library_of(X))
    typed = [n for n, grid in zip(names, are_whole, strict=True) if grid or n in data.kinds]
    if not hasattr(X, "iloc"):
        kept = [frame[n].cast(X.schema[n]) if n in typed else frame[n] for n in names]
        return X.with_columns(kept)
    table = X.copy()
    for j, name in zip(chosen, names, strict=True):
        column, old = frame[name].set_axis(X.index), X.columns[j]
        table[old] = column.astype(X[old].dtype) if name in typed else column
    return table


class Marginal:
    """The density of some columns, whatever the others and whatever is missing.

    **Arguments:** `fitted`, learnt with `subsets=True`; `columns`, by name or index; `library`, of
    DataFrames where columns are no numbers.
    """

    def __init__(self, fitted: Fitted, columns: Sequence[str | int], library: str):
        data = fitted.data
        if not data.subsets:
            raise InputError("marginal: the model knows whole rows only; fit with subsets=True")
        if isinstance(columns, str) or np.ndim(columns) != 1 or not len(columns):
            raise InputError(f"marginal {columns!r}: give a list of columns")
        chosen = [indices([column], data.modelled, "marginal").pop() for column in columns]
        self.columns: tuple[str, ...] = tuple(data.modelled[j] for j in chosen)
        check_named(self.columns, data.modelled, "marginal")
        self._fitted, self._chosen, self._library = fitted, chosen, library

    def log_likelihood(self, X: Any, C: Any = None, *, samples: int | None = None) -> LogLikelihood:
        """The log-density of every row of X with its errors; see `ScoreODE.log_likelihood`.

        **Arguments:** `X`, with these columns: a DataFrame, or an array in their order. Values may
        be missing, and are integrated over, too; `samples`, as there.

        **Cost:** that of a row, for every combination of levels of the categories left out.
        """
        rows = np.full((len(X), len(self._fitted.data.modelled)), np.nan)
        rows[:, self._chosen] = self._read(X)
        given = self._given(C)
        x, c = self._fitted.data.apart(rows, conditions.repeat(given, len(rows)))
        check_counts(samples=samples)
        default = inputs.SAMPLES if x.shape[1] <= EXACT_UP_TO else 1
        return self._fitted.log_likelihood(x, samples=samples or default, c=c, pooled=True)

    def score_samples(self, X: Any, C: Any = None) -> np.ndarray:
        """log p of every row in nats, shape (n,), in the units of X."""
        return np.asarray(self.log_likelihood(X, C).nats)

    def sample(self, n: int = 1, C: Any = None, *, random_state: Any = None) -> Any:
        """n draws, an array (n, columns) of numbers, or a DataFrame where some are no numbers.

        **Arguments:** `C`, one condition, of a conditional density; `random_state`, as for
        `ScoreODE.sample`.
        """
        data, n, seed = self._fitted.data, whole("n", n), inputs.seed_of(random_state)
        given = self._given(C)
        if given is not None and len(given) != 1:
            raise InputError(f"C has {len(given)} rows: draw given one condition at a time")
        c = None if given is None else np.repeat(given, n, axis=0)
        x, c = self._fitted.draw(n, seed, c=c, complete=True)
        both = x if c is None else np.concatenate([x, c], axis=1)
        rows = both[:, data.order][:, self._chosen]
        kinds = {name: data.kinds[name] for name in self.columns if name in data.kinds}
        if all(kind.source == "number" for kind in kinds.values()):
            columns = by_column(rows, self.columns, kinds=kinds).values()
            return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
        grid = whole_columns(data.bin_width, data.bin_edge, len(data.columns))
        integers = dict(zip(data.columns, grid, strict=True))
        are_whole = [integers.get(name, False) for name in self.columns]
        return as_frame(by_column(rows, self.columns, are_whole, kinds), kinds, self._library)

    def _given(self, C: Any) -> np.ndarray | None:
        data = self._fitted.data
        return conditions.for_density(C, data.given, data.kinds)

    def _read(self, X: Any) -> np.ndarray:
        """The rows of X as numbers, NaN where a value is missing, in the order of `columns`."""
        named = hasattr(X, "columns")
        frame: Any = inputs.with_text_names(X) if named else inputs.Named(X, self.columns)
        check_rows(frame, "X")
        if sorted(frame.columns) != sorted(self.columns):
            raise InputError(
                f"X has the columns {listing(list(frame.columns))}, and this is the marginal of"
                f" {listing(self.columns)}"
            )
        reading = Reading(self._fitted.data.kinds, gaps=None)
        rows, names, _ = read_frame(frame, "X", reading)
        rows = rows[:, [names.index(name) for name in self.columns]]
        return np.where(self._none(rows), np.nan, rows)

    def _none(self, rows: np.ndarray) -> np.ndarray:
        """Which are categories without a value."""
        kinds = (self._fitted.data.kinds.get(name) for name in self.columns)
        most = [k.n_values if isinstance(k, Category) else np.inf for k in kinds]
        return rows >= np.array(most)
