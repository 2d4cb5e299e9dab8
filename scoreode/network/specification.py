"""What networks are built from.

To add one, write its specification, a frozen dataclass, and name it in `model.config`.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import PRNGKeyArray

from scoreode._typing import Network


@runtime_checkable
class Specification(Protocol):
    """The configuration of a network, which builds it.

    `conditional`: the network takes conditions; `for_images`: one evaluation costs as much as
    hundreds of an MLP's.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    conditional: ClassVar[bool]
    for_images: ClassVar[bool]

    @property
    def width(self) -> int:
        """Of its layers."""
        ...

    @property
    def depth(self) -> int:
        """In residual blocks."""
        ...

    def hidden_values(self, d: int) -> int:
        """How many values of hidden layers a gradient keeps for an example of d values, roughly."""
        ...

    def build(self, shape: tuple[int, ...], key: PRNGKeyArray, n_conditions: int = 0) -> Network:
        """A freshly initialised network for examples of this shape, given so many numbers."""
        ...
