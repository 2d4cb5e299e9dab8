"""Training: the loop, checkpoints, the folder of a run. Knows a callable, not a model."""

from scoreode.train import devices
from scoreode.train.checkpoint import (
    Checkpoints,
    load_arrays,
    read_arrays,
    save_arrays,
    write_arrays,
    write_json,
)
from scoreode.train.folder import RunFolder
from scoreode.train.loop import Budget, Report, Rows, TrainState, train
from scoreode.train.optimiser import Optimiser, Schedule, adam
from scoreode.train.windows import Windows

__all__ = [
    "Budget",
    "Checkpoints",
    "Optimiser",
    "Report",
    "Rows",
    "RunFolder",
    "Schedule",
    "TrainState",
    "Windows",
    "adam",
    "devices",
    "load_arrays",
    "read_arrays",
    "save_arrays",
    "train",
    "write_arrays",
    "write_json",
]
