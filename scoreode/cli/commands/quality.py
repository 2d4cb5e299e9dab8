"""What `quality` does: how far samples are from a set of images."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import sources, tables
from scoreode.data.output import check_new
from scoreode.errors import InputError
from scoreode.evaluate.quality import (
    FEATURES,
    Features,
    Moments,
    class_score,
    frechet_distance,
    of_images,
)
from scoreode.progress import Counted, note

_BLOCK = 4096
_SPLITS = 10  # of the Inception Score


def quality(
    samples: Path,
    source: str,
    name: str,
    weights: Path | None,
    statistics: Path | None,
    part: str,
    data_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Prints the Fréchet distance of samples and a set, and the Inception Score."""
    known = Moments.read(statistics) if statistics is not None and statistics.exists() else None
    if statistics is not None and known is None:
        check_new(statistics, False, (".npz",))
    real = _images(source, part, data_dir)
    drawn = _read(samples, real.shape[1:], source)
    network = FEATURES[name](weights)
    features, logits = _features_and_logits("samples", network, drawn)
    if known is None:
        known = Moments.of(_features_and_logits(source, network, real)[0])
        if statistics is not None:
            known.write(statistics)
    if len(drawn) <= features.shape[1]:
        note(
            f"{len(drawn)} samples for {features.shape[1]} features: their covariance is singular,"
            " and the distance much too large; compare it only with one of as many samples"
        )
    summary: dict[str, Any] = {
        "features": name,
        "frechet_distance": frechet_distance(Moments.of(features), known),
        "inception_score": None,
        "samples": len(drawn),
        "of": f"the {part} part of {source}",
    }
    if logits is not None and len(drawn) >= _SPLITS:
        summary["inception_score"] = class_score(logits, _SPLITS)
    print(json.dumps(summary) if as_json else _readable(summary))


def _images(source: str, part: str, data_dir: Path | None) -> np.ndarray:
    """A part of a set, or a folder's or an array's images, shape (n, h, w, c)."""
    data = sources.load_data(source, validation=0.0, data_dir=data_dir)
    rows = getattr(data, part)[:]
    if data.image_shape is None or rows.dtype != np.uint8:
        raise InputError(f"{source}: not a set of images")
    if len(rows) == 0:
        raise InputError(f"{source}: has no {part} part; leave --split out")
    return rows.reshape(-1, *data.image_shape)


def _features_and_logits(
    label: str, network: Features, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    return of_images(network, pixels, Counted(f"features of {label}"))


def _read(path: Path, shape: tuple[int, ...], source: str) -> np.ndarray:
    """Samples, rows of pixels, as images of this shape.

    **Raises:** `InputError` for rows of another length, and for values that are no bytes.
    """
    columns, blocks = tables.blocks(path, "test", _BLOCK)
    if len(columns) != np.prod(shape):
        raise InputError(f"{path}: {len(columns)} columns, but images of {source} are {shape}")
    rows = np.concatenate(list(blocks))
    if not np.array_equal(rows, np.clip(np.rint(rows), 0, 255)):
        raise InputError(f"{path}: pixels are whole numbers from 0 to 255, and these are not")
    return rows.astype(np.uint8).reshape(-1, *shape)


def _readable(summary: dict[str, Any]) -> str:
    """FID is the name of the distance in the features of the Inception network alone."""
    is_fid = summary["features"] == "inception"
    what = "FID" if is_fid else f"Fréchet distance in the features of {summary['features']}"
    lines = [
        f"{what} {summary['frechet_distance']:.3f} ({summary['samples']} samples, {summary['of']})"
    ]
    if summary["inception_score"] is not None:
        mean, std = summary["inception_score"]
        lines.append(f"Inception Score {mean:.3f} ± {std:.3f} (over {_SPLITS} parts)")
    return "\n".join(lines)
