"""What the estimator trains: its rows as a data set, its parameters as a run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scoreode.data import (
    Dataset,
    Discrete,
    bin_widths,
    condition_on,
    declare,
    from_rows,
    on_grid,
    on_support,
)
from scoreode.data.domains import as_declared
from scoreode.data.grids import indices
from scoreode.data.kinds import Kinds
from scoreode.data.mixed import check_numbers, set_apart
from scoreode.errors import InputError, check_fraction
from scoreode.estimator import conditions, inputs
from scoreode.model.config import PROCESSES, Run, lookup
from scoreode.model.defaults import for_table, options_among
from scoreode.model.fitted import Fitted
from scoreode.network import Specification
from scoreode.process import AbstractProcess


@runtime_checkable
class Parameters(Protocol):
    """What is asked of the estimator here."""

    process: str | AbstractProcess
    network: Specification | None
    standardise: str | None
    discrete: Discrete | None
    bin_width: float | Sequence[float] | None
    bounds: Any
    period: Any
    validation_fraction: float
    subsets: bool

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


def dataset_of(
    est: Any,
    X: np.ndarray,
    C: Any,
    weights: np.ndarray | None,
    seed: int,
    kinds: Kinds,
    before: Fitted | None,
) -> Dataset:
    """The rows that count, with what they are conditioned on, split by the seed.

    **Arguments:** `kinds` of the columns of X that are no numbers; `before`, what was fitted.
    """
    names, given = inputs.names_of(est), ()
    both = X
    if C is not None:
        known = None if before is None else before.data.kinds
        c, given, others = conditions.with_names(C, len(X), names, known)
        both, kinds = np.concatenate([X, c], axis=1), {**kinds, **others}
    if weights is not None:
        both, weights = both[weights > 0], weights[weights > 0]
    fraction = est.validation_fraction
    check_fraction(validation_fraction=fraction)
    data = from_rows("X", both, names + given, seed, fraction, weights=weights)
    data = replace(data, kinds=kinds)
    data = condition_on(data, given) if given else data
    if before is not None:
        return set_apart(data, before.data.gaps, subsets=before.data.subsets)
    return set_apart(data, subsets=est.subsets)


def with_grid(est: Parameters, data: Dataset, before: Fitted | None) -> Dataset:
    """The data with the grid that was declared, detected, or fitted before."""
    widths, all_columns = est.bin_width, data.layout or data.columns
    if widths is not None and est.discrete is not None:
        raise InputError("give discrete or bin_width, not both")
    if before is not None:
        widths = before.data.bin_width
    elif widths is None:
        rows = np.concatenate([data.train[:], data.validation[:]])
        discrete = est.discrete
        if discrete is not None and not isinstance(discrete, str):
            discrete = [all_columns[i] for i in sorted(indices(discrete, all_columns))]
            check_numbers(discrete, data, "discrete")
        widths = bin_widths(rows, data.columns, discrete)
    elif len(widths := inputs.widths_of(widths)) == len(all_columns):
        given = dict(zip(all_columns, widths, strict=True))
        widths = [given[name] for name in data.columns]
    return data if widths is None else on_grid(data, inputs.widths_of(widths))


def with_support(
    est: Parameters, data: Dataset, weights: np.ndarray | None, before: Fitted | None
) -> Dataset:
    """The data with the support that was declared, or fitted before.

    **Arguments:** `weights` of the rows of X, of which the data have those that count.
    """
    declared = declare(est.bounds, est.period, data.layout or data.columns)
    if before is not None:
        found = before.data.support
        if declared and as_declared(declared) != as_declared(found):
            raise InputError(
                "bounds and period: a warm start keeps those of the fitted model"
                f" ({', '.join(f'{name} {domain}' for name, domain in found.items()) or 'none'});"
                " leave them so, or fit with warm_start=False"
            )
        declared = found
    return on_support(data, declared, None if weights is None else np.flatnonzero(weights > 0))


def run_of(est: Parameters, data: Dataset, seed: int, before: Fitted | None) -> Run:
    """How to train on these data; a warm start has the model that was fitted before."""
    given = inputs.plain(est.get_params(deep=False))
    process, network, standardise = est.process, est.network, est.standardise
    if not isinstance(process, AbstractProcess):
        process = lookup("process", process, PROCESSES)
    if before is not None:
        network = network or before.run.network
        standardise = standardise or before.run.standardise
        if before.run.dequantise.begins_at_grid and type(process) is type(
            before.run.objective.process
        ):
            process = before.run.objective.process
    decided = {"process": process, "network": network, "standardise": standardise}
    run = for_table(
        *data.train.shape,
        seed=seed,
        image_shape=data.image_shape,
        n_conditions=data.n_conditions,
        **{name: given[name] for name in options_among(given)} | decided,
    )
    return run if before is None else _continuation(run, data, before)


def _continuation(run: Run, data: Dataset, before: Fitted) -> Run:
    """`run` for the model of a fitted one. **Raises:** `InputError` if it is for another."""
    pairs = {
        "process": (run.objective.process, before.run.objective.process),
        "network": (run.network, before.run.network),
        "standardise": (run.standardise, before.run.standardise),
        "dequantise": (run.dequantise.name, before.run.dequantise.name),
        "conditions": (data.given, before.data.given),
    }
    for name, (asked, found) in pairs.items():
        if asked != found:
            raise InputError(
                f"{name} {asked}: a warm start keeps the fitted model, which has {found}; leave it"
                " so, or fit with warm_start=False"
            )
    return replace(run, parametrisation=before.run.parametrisation)


def parameters_of(fitted: Fitted) -> dict[str, Any]:
    """The parameters of the estimator that would fit this model."""
    run, data = fitted.run, fitted.data
    same = "order", "steps", "seconds", "batch_size", "learning_rate", "network", "stack"
    same += "standardise", "validation_fraction", "patience"
    return {name: getattr(run, name) for name in same} | {
        "process": run.objective.process,
        "n_probes": run.objective.n_probes,
        "categories": list(data.categories) or None,
        "bin_width": data.widths,
        **as_declared(data.support),
        "dequantise": run.dequantise.name,
        "subsets": data.subsets,
        "random_state": run.seed,
    }
