"""Table 1: VE ScoreODEs of images, pre-trained by order 1 and fine-tuned by order 1, 2 or 3.

The paper's ImageNet 32 × 32 is that of van den Oord et al. (2016), here `imagenet32-old`. VE's
prior has variance 1 + σ_max² for standardised data; the authors' prior has variance σ_max².
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from scoreode.data import Dataset, sources, split
from scoreode.errors import InputError
from scoreode.evaluate import table
from scoreode.flow import DPMSolver
from scoreode.model.build import blank_density
from scoreode.model.config import Run
from scoreode.model.convert import PIXELS, PIXELS_VE
from scoreode.model.defaults import for_images
from scoreode.model.density import Density
from scoreode.model.dequantised import RawBytes
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Chain
from scoreode.network import NCSNpp, UNet
from scoreode.network.unet import halvings
from scoreode.objective import DenoisingScoreMatching, Ramp, UniformTime
from scoreode.process import VE
from scoreode.report import figures, pixels
from scoreode.reproduce.orders import Reproduced, train
from scoreode.reproduce.paper import PRIOR, TABLE_1, data_of_row
from scoreode.score import Noise
from scoreode.train import RunFolder, saved

_SAMPLES, _SAMPLING = 36, DPMSolver(50)


@dataclass(frozen=True)
class Row:
    """A number of Table 1: its data, the network's depth, the order, and the published bits/dim."""

    data: str
    deep: bool
    order: int
    bits: float


def _row(name: str, bits: float) -> Row:
    words = name.split("-")
    order = {"second": 2, "third": 3}.get(words[-1], 1)
    return Row(data_of_row(name), "deep" in words, order, bits)


ROWS = {name: _row(name, bits) for name, bits in TABLE_1.items()}


@dataclass(frozen=True)
class Preset:
    """How much of the published setting there is time for.

    **Arguments:** `width`, `depth` (of the model that is not deep) and `dropout` (for CIFAR-10
    alone) of its NCSN++, or, without a depth, the width of a small U-Net; `process`, in units of
    the pixels' standard deviation; `budgets` of pre-training and of fine-tuning, in steps or
    seconds; `test_rows` whose NLL is measured.
    """

    width: int
    depth: int | None
    process: VE
    budgets: tuple[dict[str, Any], dict[str, Any]]
    test_rows: int
    batch_size: int = 128
    learning_rate: float = 2e-4
    every: int = 1
    dropout: float = 0.0


@dataclass(frozen=True)
class Variant:
    """How a row is trained other than by default.

    **Arguments:** `as_published`: follow the authors in what their configurations show (see
    `docs/images.md`), only for the preset `full`; `trace_only`: of order 2 only J2,tr.
    """

    as_published: bool = False
    trace_only: bool = False

    def check(self, name: str, preset: str) -> None:
        """Raises `InputError` for a row or a preset that it does not suit."""
        if self.as_published and preset != "full":
            raise InputError(
                f"--as-published is for --preset full, not for {preset}, which is no setting of the"
                " authors; leave one of them out"
            )
        if self.trace_only and ROWS[name].order == 1:
            raise InputError(
                f"--trace-only is for {name}-second and {name}-third: {name} has order 1 alone"
            )


_WARMUP = 5000  # steps, as published
_BATCHES = {1: 128, 2: 128, 3: 48}  # by order, as published

PRESETS = {
    # σ from 0.01 to 50 for pixels in [0, 1], whose standard deviation is about a quarter.
    "full": Preset(
        128, 4, VE(0.04, 200.0), ({"steps": 950_000}, {"steps": 50_000}), 10_000, dropout=0.1
    ),
    "one-gpu-20min": Preset(
        64, 2, VE(0.01, 10.0), ({"seconds": 720}, {"seconds": 240}), 2000, learning_rate=5e-4
    ),
    "cpu-10min": Preset(
        16,
        None,
        VE(0.01, 10.0),
        ({"seconds": 360}, {"seconds": 240}),
        64,
        batch_size=32,
        learning_rate=2e-3,
        every=4,
    ),
}


def data_of(
    name: str, preset: str, seed: int, data_dir: Path | None, source: str | None = None
) -> Dataset:
    """The images for which a row's number was published, or those of `source`.

    Of images without a test part, a tenth is held out.

    **Raises:** `InputError` saying where to get them and how they lie, or that they are no images
    which the preset's network takes.
    """
    data = sources.load_data(source or ROWS[name].data, seed, 0.0, data_dir)
    if data.image_shape is None:
        raise InputError(
            f"{source}: {name} is a model of images: name a set of them, a folder of pictures, or"
            " an .npy file of bytes (n, height, width, colours)"
        )
    if PRESETS[preset].depth is not None and halvings(data.image_shape) < 3:
        height, width, _ = data.image_shape
        raise InputError(
            f"{source}: images of {height} × {width} cannot be halved three times, as NCSN++ does;"
            " take --preset cpu-10min, or images of other sizes"
        )
    if len(data.test) == 0:
        train, test, _ = split(data.train, seed, 0.1)
        data = replace(data, train=train, test=test)
    if len(data.test) < 2:
        raise InputError(f"{data.name}: too few images to hold out two for the NLL; give 20")
    return data


def table1(
    folder: RunFolder,
    data: Dataset,
    *,
    name: str,
    preset: str,
    seed: int,
    variant: Variant = Variant(),
) -> Reproduced:
    """One number of Table 1: bits/dim after fine-tuning, beside the published and the one before.

    Fine-tuning by order 1 is the control: as long, from the same weights. Writes both runs,
    samples.png and summary.json. The published number belongs to the row's own images, and is left
    out for others.
    """
    row, size = replace(ROWS[name], data=data.name), PRESETS[preset]
    test = data.test[np.random.default_rng(seed).permutation(len(data.test))[: size.test_rows]]
    assert data.image_shape is not None
    height, width, colours = data.image_shape
    shape = height, width, colours
    before, after = (
        replace(_run(row, size, shape, order, i, variant), seed=seed)
        for i, order in enumerate((1, row.order))
    )
    start = _untrained(before, data) if variant.as_published else None
    first = train(folder, "pre-trained", before, data, start)
    start = carry_over(first.density, after)
    state = saved.state(folder.path / "pre-trained") if variant.as_published else None
    second = train(folder, "fine-tuned", after, data, start, state)
    bits, measured = zip(*(_measure(fitted, test) for fitted in (first, second)), strict=True)
    change = bits[1] - bits[0]
    summary = {
        "name": name,
        "preset": preset,
        **asdict(variant),
        "data": row.data,
        "order": row.order,
        "published_on": ROWS[name].data,
        "published_bits_per_dim": row.bits if row == ROWS[name] else None,
        "prior": PRIOR,
        "pre_trained": measured[0],
        "fine_tuned": measured[1],
        "change_bits_per_dim": float(np.mean(change)),
        "change_stderr": float(np.std(change, ddof=1) / len(change) ** 0.5),
    }
    drawn = pixels.of_rows(second.sample(_SAMPLES, seed, _SAMPLING), shape, second.pixel_range)
    figures.write(figures.pictures(drawn, columns=6), folder.path / "samples.png")
    folder.write_summary(summary)
    return Reproduced(summary, f"{_table(summary)}\nfigure: {folder.path / 'samples.png'}")


def _table(summary: dict[str, Any]) -> str:
    """Both models, their difference and the published number, as aligned text."""
    stages = {"pre_trained": 1, "fine_tuned": summary["order"]}
    lines = ["               order   bits/dim              steps    training"]
    for stage, order in stages.items():
        found, name = summary[stage], stage.replace("_", "-")
        bits = _plus_minus(found["bits_per_dim"], found["bits_per_dim_stderr"])
        took = f"{found['steps']:9}    {found['train_seconds']:.0f} s"
        lines.append(f"{name:12}   {order:5}   {bits}   {took}")
    change = _plus_minus(summary["change_bits_per_dim"], summary["change_stderr"])
    lines.append(f"{'change':12}           {change}")
    data, published_on = summary["data"], summary["published_on"]
    if data == published_on:
        lines.append(f"{'published':12}           {summary['published_bits_per_dim']} for {data}")
        lines.append(f"{'prior':12}           {PRIOR}")
    else:
        nothing = f"nothing for {data}; this number of Table 1 is for {published_on}"
        lines.append(f"{'published':12}           {nothing}")
    return "\n".join([*lines, f"{summary['fine_tuned']['n']} test images of {data}"])


def _plus_minus(value: float | None, error: float | None) -> str:
    """As in a table; None where no row converged."""
    return "none converged   " if value is None else f"{value:7.4f} ± {error or 0:.4f}"


def _run(
    row: Row,
    size: Preset,
    shape: tuple[int, int, int],
    order: int,
    stage: int,
    variant: Variant = Variant(),
) -> Run:
    """Pre-training (stage 0) or fine-tuning (1) by this order."""
    depth = (size.depth or 1) * (2 if row.deep else 1)
    # Few enough to be learnt by heart: ImageNet has neither flips nor dropout, and others may not
    # be turned.
    few = row.data == "cifar10"
    if size.depth is None:
        network = replace(for_images(shape), width=size.width, depth=depth)
    else:
        # The published batch fits at order 3 too if blocks are computed again for gradients.
        network = NCSNpp(
            shape,
            size.width,
            depth=depth,
            dropout=size.dropout if few else 0.0,
            recompute=order > 1,
        )
    coefficients: dict[str, Any] = {}
    if variant.trace_only:
        coefficients = {"lambda1": Ramp(0.0), "lambda1_trace": Ramp(1.0)}
    run = Run(
        DenoisingScoreMatching(size.process, order, every=size.every, **coefficients),
        network=network,
        standardise="centre",
        flip=few,
        batch_size=size.batch_size,
        learning_rate=size.learning_rate / (1 if stage == 0 else 4),
        **size.budgets[stage],
    )
    return _as_published(run, size, stage) if variant.as_published else run


def _as_published(run: Run, size: Preset, stage: int) -> Run:
    """The run with what the authors' configurations show; fine-tuning goes on with its steps."""
    steps = sum(budget["steps"] for budget in size.budgets[: stage + 1])
    times = UniformTime(stratified=False)
    return replace(
        run,
        objective=replace(run.objective, process=PIXELS_VE, weighting=times),
        parametrisation=Noise(),
        network=replace(run.network, raw=True, unit=2.0),
        batch_size=_BATCHES[run.objective.order],
        learning_rate=size.learning_rate,
        learning_rate_decay=False,
        warmup=_WARMUP / steps,
        b2=0.999,
        dequantise=RawBytes(),
        steps=steps,
    )


def _untrained(run: Run, data: Dataset) -> Density:
    """A density to start from, in the coordinates of the published code."""
    return replace(blank_density(run, len(data.columns)), bijection=Chain((PIXELS,)))


def carry_over(density: Density, run: Run) -> Density:
    """The same arrays in the run's network, which may compute its gradients in another way."""
    network, spec = density.score_model.network, cast(NCSNpp | UNet, run.network)
    size = (math.prod(spec.image_shape),)
    alike = eqx.filter_eval_shape(lambda key: spec.build(size, key), jr.key(0))
    network = jax.tree.unflatten(jax.tree.structure(alike), jax.tree.leaves(network))
    return eqx.tree_at(lambda density: density.score_model.network, density, network)


def _measure(fitted: Fitted, test: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Bits/dim of every test row; their summary, and what training took."""
    _, records, summary = table.measure(fitted, test)
    bits = fitted.bits_per_dim(records["nats"])
    assert bits is not None  # pixels are bytes
    return bits, summary | {"steps": fitted.steps, "train_seconds": fitted.seconds}
