"""What stands beside a diffusion, with the weights that explain rows best which no part has seen.

A heavy tail stands there always, in coordinates that absurd values do not spoil. Of few rows there
are also a Gaussian mixture and kernels, in the coordinates of the diffusion (see `model.simple`),
and of many rows with categories or gaps the mixture.
Categories make some components of the mixture likelier than others, and kernels of other categories
count for less. There are no kernels on rows that lack values.
Of very few rows, diffusions that were trained on four fifths of them share the diffusion's place:
each has other rows to learn by heart, and together every row was held out from one of them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import numpy as np

from scoreode.data import Dataset
from scoreode.data.kinds import Category
from scoreode.data.roles import n_roles
from scoreode.model.build import decisive_rows
from scoreode.model.config import Run
from scoreode.model.defaults import FEW
from scoreode.model.density import Density
from scoreode.model.simple import SimpleDensity, fit_kernels, fit_mixture, fit_tail
from scoreode.model.stack import Stack, believed_nats, sizes_of, stacking_weights, unconditional
from scoreode.model.standardise import Chain, ObservedScaling, Scaling
from scoreode.train.smoothing import is_short
from scoreode.train.validation import Validation, how_for, is_absent

VERY_FEW, PARTS = 1000, 5  # rows, of which so many diffusions are trained
_MOST_COLUMNS = 32  # of a mixture and kernels
_AT_ONCE = 2  # diffusions
Train = Callable[[Run, Dataset], Density]


def stacks(run: Run, data: Dataset) -> bool:
    """Whether a run on these data gets a stack: tables with validation rows, and nothing given."""
    table = data.image_shape is None and not data.given
    return run.stack and table and not (is_absent(data) or is_short(run))


def n_diffusions(run: Run, data: Dataset) -> int:
    """How many diffusions share a stack: several of very few rows."""
    very_few = len(data.train) + len(data.validation) < VERY_FEW
    return PARTS if very_few and not run.dequantise.begins_at_grid else 1


def with_stack(
    run: Run, data: Dataset, density: Density, steps: int, train: Train
) -> tuple[Run, Stack | None]:
    """The run with the sizes of its stack, and the stack; None where the run has no `parts`.

    **Arguments:** `density`, trained on the data in so many `steps`; `train`, of a run on a part.

    **Cost:** the log-densities of validation rows, of very few rows those of all; and trainings.
    """
    if run.parts is None:
        return run, None
    parts = [data, *_other_parts(data)] if run.parts.diffusions > 1 else [data]
    alone = replace(run, steps=steps, seconds=None, cycle=None, parts=None)
    runs = [replace(alone, seed=run.seed + k) for k in range(1, len(parts))]
    # A step on few rows does not fill two cores; several processes have to take steps in one order.
    at_once = _AT_ONCE if jax.process_count() == 1 else 1
    with ThreadPoolExecutor(at_once) as pool:
        densities = (density, *pool.map(train, runs, parts[1:]))
    whole = all_rows(data) if len(parts) > 1 else data
    others = _fit_others(whole, density)
    nats, weights = [], []
    for part, one in zip(parts, densities, strict=True):
        x, c, w = Validation(run, part).rows(one)
        held_out = others if part is whole else _fit_others(part, one, others)
        own = one.log_likelihood(x, how=how_for(len(x)), c=c)
        laws = believed_nats(own), *(other.log_likelihood(x, c) for other in held_out)
        nats.append(np.stack(laws, 1))
        weights.append(np.ones(len(x)) if w is None else w)
    w = stacking_weights(np.concatenate(nats), np.concatenate(weights))
    shared = np.full(len(densities), w[0] / len(densities))
    stack = Stack(densities, others, np.concatenate([shared, w[1:]]))
    return replace(run, parts=sizes_of(stack)), stack


def _fit_others(
    data: Dataset, density: Density, like: tuple[SimpleDensity, ...] = ()
) -> tuple[SimpleDensity, ...]:
    """The simple densities of the training rows, with as many components as these have."""
    rows, c = decisive_rows(data)
    bijection = unconditional(density.bijection)
    support = tuple(part.with_heavy_tails(rows) for part in bijection.support)
    inside = np.asarray(support[0].forward(rows)[0]) if support else rows
    scaling = (ObservedScaling if data.has_roles else Scaling).of_quartiles(inside)
    tail = fit_tail(Chain((scaling,), bijection.condition).after(support), rows)
    few, mixed = len(rows) < FEW, bool(data.categories) or data.has_roles
    if rows.shape[1] > _MOST_COLUMNS or not (few or mixed):
        return (tail,)
    k = len(like[1].means) if like else None
    kinds = (data.kinds[name] for name in data.categories)
    sizes = [kind.n_indicators for kind in kinds if isinstance(kind, Category)]
    mixture = fit_mixture(bijection, rows, k, c, sizes)
    if data.has_roles or not few:
        return tail, mixture
    return tail, mixture, fit_kernels(density.bijection, rows, c, sizes)


def _other_parts(data: Dataset) -> list[Dataset]:
    """Training and validation rows divided anew, so that every training row is held out once."""
    whole, n = all_rows(data), len(data.train)
    order = np.random.default_rng(0).permutation(n)
    parts = [_hold_out(whole, rows) for rows in np.array_split(order, PARTS - 1)]
    return [part for part in parts if _varies(part)]


def _varies(part: Dataset) -> bool:
    """Whether no column and no condition is constant: it has no density, and tells nothing."""
    coded = part.coded
    kept = [coded.train[:]]
    if coded.conditions is not None:
        c = coded.conditions.train
        kept.append(c[:, : c.shape[1] - (n_roles(len(part.columns)) if part.has_roles else 0)])
    rows = np.concatenate(kept, axis=1)
    return bool(np.all(np.nanmax(rows, axis=0) > np.nanmin(rows, axis=0)))


def all_rows(data: Dataset) -> Dataset:
    """Training rows, then validation rows, to train on."""
    weights, given = data.train_weights, data.conditions
    if weights is not None and data.validation_weights is not None:
        weights = np.concatenate([weights, data.validation_weights])
    if given is not None:
        given = replace(given, train=np.concatenate([given.train, given.validation]))
    train = np.concatenate([data.train[:], data.validation[:]])
    return replace(data, train=train, train_weights=weights, conditions=given)


def _hold_out(whole: Dataset, rows: np.ndarray) -> Dataset:
    """These rows for validation, the others for training."""
    x, w, given = whole.train, whole.train_weights, whole.conditions
    rest = np.setdiff1d(np.arange(len(x)), rows)
    if given is not None:
        given = replace(given, train=given.train[rest], validation=given.train[rows])
    return replace(
        whole,
        train=x[rest],
        validation=x[rows],
        train_weights=None if w is None else w[rest],
        validation_weights=None if w is None else w[rows],
        conditions=given,
    )
