"""The runs that a report is about, as their folders have them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreode.data import Description
from scoreode.errors import InputError
from scoreode.model.config import Run
from scoreode.model.fitted import Fitted
from scoreode.train import RunFolder, saved


@dataclass(frozen=True)
class Subject:
    """A run: what was asked for, how training went, and its density where that is finished."""

    number: int
    label: str
    folder: RunFolder
    run: Run
    data: Description
    metrics: list[dict[str, Any]]
    fitted: Fitted | None


def subjects(paths: Sequence[Path]) -> list[Subject]:
    """The runs in these folders; a folder of runs stands for all of them, by name.

    **Raises:** `InputError` for a folder without a run, and for damaged files.
    """
    folders = list(dict.fromkeys(run for path in paths for run in _runs(path)))
    root = os.path.commonpath([os.path.abspath(folder.parent) for folder in folders])
    labels = [os.path.relpath(folder, root) for folder in folders]
    return [_subject(*named) for named in zip(range(len(folders)), labels, folders, strict=True)]


def _runs(path: Path) -> list[Path]:
    if (path / "config.json").is_file():
        return [path]
    runs = sorted(file.parent for file in path.glob("*/config.json"))
    if not runs:
        raise InputError(f"{path}: neither a run nor a folder of runs (no config.json)")
    return runs


def _subject(number: int, label: str, path: Path) -> Subject:
    folder = RunFolder.existing(path)
    run, data = saved.read_config(folder)
    fitted = saved.load(path) if (path / "model.safetensors").exists() else None
    return Subject(number, label, folder, run, data, folder.metrics(), fitted)
