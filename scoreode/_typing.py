"""Array aliases, and the protocols that connect the packages."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray, Real

Scalar = Float[Array, ""]
Example = Float[Array, "..."]
"""One example of any shape; d is its size. Batches are made by `jax.vmap` outside."""

Network = Callable[..., Example]
"""(c_in x_t, log-SNR) -> an array of the shape of x; conditional networks also take c."""


class Pairs(NamedTuple):
    """Rows x and their conditions c."""

    x: Real[Array, "n ..."]
    c: Float[Array, "n k"]


Batch = Real[Array, "n ..."] | Pairs
"""A training batch: rows, or pairs for a conditional density."""


class Referenced(NamedTuple):
    """A batch, and more rows from the same distribution."""

    batch: Batch
    others: Batch


@runtime_checkable
class ScoreFunction(Protocol):
    """s(x, t), a network's or in closed form: objectives match it and flows integrate it."""

    def __call__(self, x: Example, t: Scalar) -> Example: ...


@runtime_checkable
class Sampler(Protocol):
    """A sampler of training batches, from stored rows or an exact distribution."""

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch | Referenced: ...


@runtime_checkable
class RowSampler(Protocol):
    """A sampler whose batches come alone."""

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch: ...


@runtime_checkable
class Loss(Protocol):
    """The function that training minimises.

    **Returns:** the scalar to differentiate, and a pair: the terms to report, and the loss for the
    next step, because a loss may adapt during training.
    """

    def __call__(
        self, model: Any, batch: Batch | Referenced, key: PRNGKeyArray, progress: Scalar
    ) -> tuple[Scalar, tuple[Mapping[str, Scalar], "Loss"]]: ...
