"""Array aliases and the protocols by which the rooms know each other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray, Real

Scalar = Float[Array, ""]
Example = Float[Array, "..."]
"""One example, of any shape: d is its size. Batches exist only outside, by `jax.vmap`."""

Network = Callable[..., Example]
"""(c_in x_t, log-SNR) -> an array of the shape of x; also of c, where conditional."""


class Pairs(NamedTuple):
    """Rows x, and beside each the c that it is conditioned on."""

    x: Real[Array, "n ..."]
    c: Float[Array, "n k"]


Batch = Real[Array, "n ..."] | Pairs
"""What a step trains on: rows, or pairs for a conditional density; bytes until they are drawn."""


@runtime_checkable
class ScoreFunction(Protocol):
    """s(x, t): what objectives match and flows integrate; a network's or a closed form."""

    def __call__(self, x: Example, t: Scalar) -> Example: ...


@runtime_checkable
class Sampler(Protocol):
    """Where training draws its batches: stored rows or an endless exact sampler."""

    def __call__(self, key: PRNGKeyArray, n: int) -> Batch: ...


@runtime_checkable
class Loss(Protocol):
    """What training minimises.

    Returns the scalar that is differentiated, and with it the terms that are reported and the loss
    of the next step, for losses that learn from what they saw.
    """

    def __call__(
        self, model: Any, batch: Batch, key: PRNGKeyArray, progress: Scalar
    ) -> tuple[Scalar, tuple[Mapping[str, Scalar], "Loss"]]: ...
