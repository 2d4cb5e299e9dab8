"""What a published model is, whatever the format: a network with weights, and how it is read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoreode._typing import Network
from scoreode.errors import InputError
from scoreode.model.standardise import Centring
from scoreode.network import Specification
from scoreode.process import AbstractProcess
from scoreode.score import AbstractParametrisation, Noise

CIFAR10 = {"image_shape": (32, 32, 3), "multipliers": (1, 2, 2, 2), "attention": (16,)}
# A byte b with its noise is in [b, b + 1). Where networks were trained on b / 127.5 − 1, the middle
# of its cell goes there.
CELLS = Centring(np.array([128.0]), np.array([127.5]))


@dataclass(frozen=True)
class Options:
    """What weights may not tell; None: the sizes for CIFAR-10, or what the file says."""

    image_shape: tuple[int, int, int] | None = None
    multipliers: tuple[int, ...] | None = None
    attention: tuple[int, ...] | None = None
    schedule: str | None = None
    steps: int | None = None
    heads: int | None = None
    head_channels: int | None = None
    new_attention_order: bool = False

    def check(self, path: Path, *known: str) -> None:
        """Raises `InputError` for an option that is given and does not act on this file."""
        for name, value in vars(self).items():
            if name not in known and value:
                option = name.replace("_", "-")
                raise InputError(f"--{option}: says nothing about {path}; leave it out")

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The image's shape, the multipliers and the heights with attention."""
        return {name: getattr(self, name) or size for name, size in CIFAR10.items()}


@dataclass(frozen=True)
class Published:
    """A published model: `pixels` takes bytes to the values that the network was trained on."""

    spec: Specification
    network: Network
    image_shape: tuple[int, int, int]
    process: AbstractProcess
    parametrisation: AbstractParametrisation = Noise()
    pixels: Centring = CELLS
    steps: int = 0
