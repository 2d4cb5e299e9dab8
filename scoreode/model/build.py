"""From a run to a density of its structure: untrained, or with arrays that are to be filled."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from scoreode.data import Dataset, check_varied
from scoreode.data.domains import limits
from scoreode.errors import InputError
from scoreode.flow import uniform_noise
from scoreode.model.config import AUTO, OBSERVED, STANDARDISATIONS, Run, bijections_of
from scoreode.model.density import Density
from scoreode.model.dequantised import UniformNoise
from scoreode.model.memory import check_fits
from scoreode.model.standardise import (
    AbstractBijection,
    Chain,
    Conditioning,
    Roles,
    Support,
    choose,
)
from scoreode.network import Masked
from scoreode.score import ScoreModel

_FAR = 3.0  # how far beyond √d the norms of Gaussian noise reach: once in 10^4 draws
_MARGIN = 1.15
_FLOAT = 4  # bytes
_WHILE_TRAINED = 6  # copies: the model, its average, the best, a gradient and two moments
_STANDARDISED_VALUES = 2**25  # of as many rows as hold them, which decide the standardisation


def prepare(run: Run, data: Dataset, start: Density | None = None) -> tuple[Run, Density]:
    """The run with what the data decide, and the density that its training starts from.

    **Arguments:** `start`, a density to start from, whose process and coordinates are the run's.

    **Raises:** `InputError` for a dequantisation that does not suit the data, for constant columns
    that are on no grid, and for what takes more memory than there is.
    """
    check_continuous(data)
    run = _with_roles(run, data)
    if not data.columns:  # categories only: there is nothing to train
        run = replace(run, standardise="scale", smoothing=0.0)
        return run, blank_density(run, 0, data.n_conditions)
    check_memory(run, len(data.columns), data.n_conditions, _WHILE_TRAINED)
    if start is not None:
        return replace(run, radius=start.score_model.radius), start
    rows, c = decisive_rows(data)
    support = _support(data, rows)
    inside = np.asarray(support[0].forward(rows)[0]) if support else rows
    run = replace(run, standardise=_standardisation(run, data, inside))
    density = _fitted_density(run, inside, c)
    density = replace(density, bijection=density.bijection.after(support))
    process = run.dequantise.process(run.objective.process, data, density.bijection)
    radius = _radius(density.bijection, rows, c)
    run = replace(run, objective=replace(run.objective, process=process), radius=radius)
    score_model = replace(density.score_model, process=process, radius=radius)
    return run, replace(density, score_model=score_model)


def _with_roles(run: Run, data: Dataset) -> Run:
    """The run of order 1 whose network is told the role of every column, if there have to be roles.

    **Raises:** `InputError` for what treats several columns as one.
    """
    if not data.has_roles or not data.columns:
        return run
    why = "columns lack values" if data.gaps else "subsets of the columns have densities"
    if run.standardise not in (*OBSERVED, AUTO):
        raise InputError(f"standardise {run.standardise}: {why}; take {' or '.join(OBSERVED)}")
    if data.bin_width is not None and not isinstance(run.dequantise, UniformNoise):
        raise InputError(f"dequantise {run.dequantise.name}: {why}; take {UniformNoise.name}")
    objective = replace(run.objective, order=1) if run.auto_order else run.objective
    return replace(run, roles=True, auto_order=False, objective=objective)


def check_memory(run: Run, d: int, n_conditions: int = 0, copies: int = 1) -> None:
    """Raises `InputError` for a network, and in training for a batch, that cannot fit."""
    try:
        shapes = eqx.filter_eval_shape(lambda: _new_score_model(run, d, n_conditions))
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes) if _is_shape(leaf))
    except OverflowError:  # of a side that no index reaches
        size = run.network.width**2
    what = f"a network of width {run.network.width} with {size:.3g} weights"
    check_fits(_FLOAT * copies * size, what, "lower the width or the depth")
    if copies > 1:
        row = 2 * d + run.network.hidden_values(d)
        rows, probes = run.batch_size // run.micro_batches, run.objective.n_probes
        what = f"a step on {rows} rows at once"
        check_fits(_FLOAT * row * rows, what, "lower the batch size, or divide it into more parts")
        what = f"a step on {rows} rows with {probes} probes each"
        check_fits(_FLOAT * d * probes * rows, what, "lower one of both")


def _is_shape(leaf: object) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def check_continuous(data: Dataset) -> None:
    """Raises `InputError` for constant columns that are on no grid: they have no density."""
    if data.sampler is not None:
        return
    widths = np.broadcast_to(0.0 if data.bin_width is None else data.bin_width, len(data.columns))
    if not widths.all():
        free = np.flatnonzero(widths == 0).tolist()
        check_varied(data, data.name, among=free)


def _standardisation(run: Run, data: Dataset, rows: np.ndarray) -> str:
    """What the run says, or what suits the rows."""
    if run.standardise != AUTO:
        return run.standardise
    if data.sampler is not None:
        return "scale"  # toys, whose truth is known in coordinates that are as they are
    if run.roles:
        return "power"  # which leaves columns as they are that are normal already
    families = {name: STANDARDISATIONS[name] for name in ("scale", "whiten", "power")}
    return choose(families, rows)


def _fitted_density(run: Run, rows: np.ndarray, c: np.ndarray | None) -> Density:
    """Bijections fitted to these rows and conditions, and an untrained score model."""
    bijection = Chain.fit(bijections_of(run), rows)
    if c is None:
        return Density(bijection, _new_score_model(run, rows.shape[1]))
    if run.roles:
        condition = Roles.fit(c, rows.shape[1])
    else:
        z = np.asarray(bijection.forward(rows)[0])
        condition = Conditioning.fit(c, z, _of_residuals(run))
    bijection = replace(bijection, condition=condition)
    return Density(bijection, _new_score_model(run, rows.shape[1], c.shape[1]))


def _support(data: Dataset, rows: np.ndarray) -> tuple[Support, ...]:
    """The bijection from the declared support onto ℝᵈ, where there is one."""
    if not data.support:
        return ()
    low, high, period, start = limits(data.columns, data.support)
    return (Support.within(low, high, period, start, rows),)


def decisive_rows(data: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """The training rows that decide the standardisation, and their conditions, in float64.

    Rows have noise in their cells even where there is none in training: columns may be constant.
    """
    data = data.coded
    most = max(2, _STANDARDISED_VALUES // data.train.shape[1])
    some, noise = data.representative(most), uniform_noise(data.bin_width, data.bin_edge)
    rows = data.train[some]
    rows = (rows if noise is None else noise.dequantise(rows)).astype(np.float64)
    return rows, None if data.conditions is None else data.conditions.train[some].astype(np.float64)


def _radius(bijection: Chain, rows: np.ndarray, c: np.ndarray | None) -> float:
    """A radius that no training row reaches, without noise or with all of it; a power of
    2^¼, so that models of like data share what is compiled."""
    z = np.asarray(bijection.forward(rows, bijection.standardise(c))[0])
    least = max(float(np.sqrt(np.max(np.sum(z**2, 1)))), math.sqrt(z.shape[1]) + _FAR)
    return 2 ** (math.ceil(4 * math.log2(_MARGIN * least)) / 4)


def blank_density(run: Run, d: int, n_conditions: int = 0, *, bounded: bool = False) -> Density:
    """A density of the same structure, whose arrays are to be filled.

    **Arguments:** `bounded`, whether a support is declared.
    """
    check_memory(run, d, n_conditions)
    bijection = Chain.identity(bijections_of(run), d)
    if run.roles:
        bijection = replace(bijection, condition=Roles.identity(n_conditions, d))
    elif n_conditions:
        condition = Conditioning.identity(n_conditions, d, _of_residuals(run))
        bijection = replace(bijection, condition=condition)
    bijection = bijection.after((Support.identity(d),) if bounded else ())
    return Density(bijection, _new_score_model(run, d, n_conditions))


def _of_residuals(run: Run) -> type[AbstractBijection] | None:
    """How the residuals of a regression on c are standardised: as the rows, in the end.

    None, for no regression, where all pixels are to stay alike, and where the noise that the
    diffusion begins with is that of the rows.
    """
    alike = run.standardise == "centre" or run.dequantise.begins_at_grid
    return None if alike else STANDARDISATIONS[run.standardise][-1]


def _new_score_model(run: Run, d: int, n_conditions: int = 0) -> ScoreModel:
    key = jr.key(run.seed)
    if n_conditions and not run.network.conditional:
        raise InputError(f"{type(run.network).__name__} takes no conditions; an MLP or a UNet does")
    network = run.network.build((d,), key, n_conditions)
    network = Masked(network, d) if run.roles else network
    noise = run.dequantise.network(d, jr.fold_in(key, 1))
    process, radius = run.objective.process, run.radius
    return ScoreModel(process, run.parametrisation, network, noise=noise, radius=radius)
