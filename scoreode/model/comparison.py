"""What is known of validation rows after a fit: how simple densities do on them, what to look at.

The log-densities of a Gaussian, a mixture of Gaussians and a kernel density estimate, fitted to
training rows in standard deviations of their columns, are paired with those of the model. Weights
and numbers of steps were chosen on these rows, too, so that the gains are a little too large.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from scoreode.data import Dataset
from scoreode.model.build import decisive_rows
from scoreode.model.simple import kernel_bandwidth

TRAIN_ROWS, ROWS = 5000, 2000  # at most: what simple densities are fitted to, what is compared
_MOST_COLUMNS = 64
_NUMBERS = (1, 2, 4, 8, 16)  # of components
_LEAST = 10  # rows a component
_HELD_OUT = 5  # one row in so many decides the number
_RIDGE = 1e-3
Rows = Float[np.ndarray, "n d"]


class Gain(NamedTuple):
    """A mean over rows in nats, and its standard error."""

    nats: float
    stderr: float

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray | None = None) -> "Gain":
        """The mean of values, by weight."""
        w = np.ones(len(values)) if weights is None else weights
        w = w / np.sum(w)
        mean = float(w @ values)
        # With equal weights the usual n − 1.
        spread = np.sum(w**2 * (values - mean) ** 2) / (1 - np.sum(w**2))
        return cls(mean, float(np.sqrt(spread)))


@dataclass(frozen=True)
class Findings:
    """What a fit found in its rows.

    `validation_rows`, how many were held out, of which `beyond` lie outside the range of training;
    `notes` on values that repeat or are absurd; `compared` rows have the mean log-density `nats`,
    which exceeds that of simple densities by `over`.
    """

    validation_rows: int
    beyond: int = 0
    notes: tuple[str, ...] = ()
    compared: int = 0
    nats: Gain | None = None
    over: Mapping[str, Gain] | None = None

    def to_json(self) -> dict[str, Any]:
        """What summary.json and `--json` hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> "Findings | None":
        """What `to_json` wrote, if it is there. **Raises:** `TypeError` for anything else."""
        if document is None:
            return None
        nats, over = document["nats"], document["over"]
        return cls(
            document["validation_rows"],
            document["beyond"],
            tuple(document["notes"]),
            document["compared"],
            None if nats is None else Gain(*nats),
            None if over is None else {name: Gain(*gain) for name, gain in over.items()},
        )


def comparable(data: Dataset) -> bool:
    """Whether simple densities are defined on these data: tables of numbers, without a grid and
    without gaps."""
    plain = data.conditions is None and data.bin_width is None and data.image_shape is None
    plain = plain and not data.gaps
    few = 0 < len(data.columns) <= _MOST_COLUMNS
    return plain and few and data.sampler is None and len(data.validation) > 1


def simple_nats(data: Dataset, x: Rows) -> dict[str, np.ndarray]:
    """The log-densities of rows under each simple density of at most 5000 training rows.

    There are none where squares of values overflow.

    **Cost:** at most some seconds.
    """
    rows = decisive_rows(data)[0][:TRAIN_ROWS]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = rows.mean(0), rows.std(0)
        train, z = (rows - mean) / std, (x - mean) / std
        if not (np.isfinite(std).all() and np.isfinite(z**2).all()):
            return {}
    log_det = -float(np.sum(np.log(std)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of rows that repeat
        k = _best_number(train)
        kernels = KernelDensity(bandwidth=kernel_bandwidth(train)).fit(train)
        found = {"a Gaussian": _mixture(1, train), "kernels": kernels}
        if k > 1:
            found |= {f"a mixture of {k} Gaussians": _mixture(k, train)}
    return {name: density.score_samples(z) + log_det for name, density in found.items()}


def _best_number(z: Rows) -> int:
    """Of components, by rows left out; the first that is no better ends the search."""
    held_out, rest = z[::_HELD_OUT], np.delete(z, np.s_[::_HELD_OUT], 0)
    best, greatest = 1, -np.inf
    for k in _NUMBERS:
        if k > 1 and k * _LEAST > len(rest):
            break
        nats = float(_mixture(k, rest).score(held_out)) if len(rest) > 1 else 0.0
        if nats <= greatest:
            break
        best, greatest = k, nats
    return best


def _mixture(k: int, z: Rows) -> GaussianMixture:
    return GaussianMixture(k, reg_covar=_RIDGE, random_state=0).fit(z)
