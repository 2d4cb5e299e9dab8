"""What a run can minimise. To add one, write its class and name it in `model.config`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from jaxtyping import PRNGKeyArray

from scoreode._typing import Batch, Referenced, Scalar
from scoreode.process import AbstractProcess


@runtime_checkable
class Objective(Protocol):
    """A loss of score models under a process; its fields are its configuration."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def process(self) -> AbstractProcess:
        """The diffusion whose score is learnt."""
        ...

    @property
    def order(self) -> int:
        """The highest order of the scores that it matches."""
        ...

    @property
    def n_probes(self) -> int:
        """Probes an example."""
        ...

    @property
    def n_reference(self) -> int:
        """Rows that a step draws beside its batch; see `objective.targets`."""
        ...

    def __call__(
        self, model: Any, batch: Batch | Referenced, key: PRNGKeyArray, progress: Scalar
    ) -> tuple[Scalar, tuple[Mapping[str, Scalar], Self]]:
        """The loss, the terms that are reported, and the objective of the next step."""
        ...
