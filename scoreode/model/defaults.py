"""What None means: runs for tables and images by their numbers of rows and columns."""

import inspect
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from scoreode import objective, process
from scoreode.errors import (
    InputError,
    check_counts,
    check_not_negative,
    check_positive,
    is_number,
    whole,
)
from scoreode.model.config import AUTO, DEQUANTISATIONS, STANDARDISATIONS, Run, lookup
from scoreode.model.learnt_noise import LearntNoise
from scoreode.network import MLP, Specification, UNet
from scoreode.network.unet import halvings

# Few rows are learnt by heart after some n steps of 256: fewer steps, and a closer look at them.
DEFAULT_STEPS, LEAST_STEPS = 10_000, 500
FEW, CLOSE = 5000, 200  # rows; validations

# One or two columns have edges and thin curves, for which a smooth network needs frequencies. Low
# ones and small steps: rough scores cost the ODE's density much that order 1 does not see.
FLAT_NETWORK = MLP(width=128, depth=3, n_features=64, bandwidth=0.5)


# While order 1 is far from converged a second of it is worth more: orders 2 and 3 come last.
LATE_LAMBDA1 = objective.Ramp(0.2, 0.8, 0.85)
LATE_LAMBDA2 = objective.Ramp(0.02, 0.8, 0.85)
LATE_EVERY = 4
# Of one column one probe gives the trace exactly, and with it they pay sooner, and count for more.
EXACT_LAMBDA1 = objective.Ramp(1.0, 0.2, 0.25)
EXACT_LAMBDA2 = objective.Ramp(0.1, 0.2, 0.25)
AUTO_ORDER = 3  # where high orders pay; see `train.high_orders`

# Quiet targets are for tables: images have no neighbours near enough, and a condition seldom occurs
# twice. Where these rows would be all there are, no noise keeps them from being learnt by heart.
N_REFERENCE = 1024


# In seconds that are more than the rows need, the first cycle sees every row so often.
CYCLE_EPOCHS, CYCLE_LEAST = 512, 2000  # at most; steps, at least

# Keeps the network from learning its rows by heart once a budget is long.
WEIGHT_DECAY = 0.03


def for_table(
    n: int,
    d: int,
    *,
    order: int | str = AUTO,
    process: process.AbstractProcess,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    network: Specification | None = None,
    n_probes: int | None = None,
    n_reference: int | None = None,
    antithetic: bool | None = None,
    weight_decay: float | None = None,
    smoothing: float | None = None,
    lambda1: float | None = None,
    lambda1_trace: float | None = None,
    lambda2: float | None = None,
    standardise: str | None = None,
    image_shape: tuple[int, ...] | None = None,
    n_conditions: int = 0,
    dequantise: str = "uniform",
    **others: Any,
) -> Run:
    """A run for n rows and d columns given others; what is None is chosen by their numbers.

    Rows that are images (h, w, c) get a network for images, and one scale for all pixels.

    **Raises:** `InputError` for an option outside its range.
    """
    # Coefficients of one's own act from the first step.
    coefficients = {"lambda1": lambda1, "lambda1_trace": lambda1_trace, "lambda2": lambda2}
    auto = order == AUTO and set(coefficients.values()) == {None}
    order = AUTO_ORDER if order == AUTO else order
    if not (is_number(order) and isinstance(order, int) and order in (1, 2, 3)):
        raise InputError(f"order {order}: choose auto, 1, 2 or 3")
    if steps is not None and seconds is not None:
        raise InputError("give steps or seconds, not both")
    check_positive(seconds=seconds, learning_rate=learning_rate)
    check_not_negative(**coefficients, weight_decay=weight_decay, smoothing=smoothing)
    check_counts(
        steps=steps,
        batch_size=batch_size,
        n_probes=n_probes,
        patience=others.get("patience"),
        micro_batches=others.get("micro_batches"),
    )
    if network is not None:
        _check_network(network)
    if standardise is not None:
        lookup("standardisation", standardise, {**STANDARDISATIONS, AUTO: ()})
    noise = lookup("dequantisation", dequantise, DEQUANTISATIONS)
    if steps is None and seconds is None:
        steps = min(DEFAULT_STEPS, max(LEAST_STEPS, 2 * n))
    table = image_shape is None
    quiet = table and n > N_REFERENCE
    antithetic = quiet if antithetic is None else antithetic
    usual = N_REFERENCE if quiet and not n_conditions else 0
    n_reference = usual if n_reference is None else whole("n_reference", n_reference, 0)
    exact = d == 1 and not n_conditions
    late = (EXACT_LAMBDA1, EXACT_LAMBDA2) if exact else (LATE_LAMBDA1, LATE_LAMBDA2)
    score_matching = objective.DenoisingScoreMatching(
        process,
        order,
        lambda1=late[0] if lambda1 is None else objective.Ramp(lambda1),
        lambda2=late[1] if lambda2 is None else objective.Ramp(lambda2),
        lambda1_trace=None if lambda1_trace is None else objective.Ramp(lambda1_trace),
        weighting=objective.AdaptiveLikelihood(),
        n_probes=n_probes or 1,
        every=LATE_EVERY,
        targets=objective.PosteriorMean(n_reference) if n_reference else objective.Draw(),
        noise=objective.Antithetic() if antithetic else objective.Independent(),
    )
    # Rough features of x keep the network from finding what x and its conditions have in common.
    flat, few = d <= 2 and not n_conditions, n < FEW and table
    if table and others.get("flip"):
        raise InputError("flip: turns images left to right, and these rows are none")
    if not table:
        chosen, units, batch, rate = for_images(image_shape), "centre", 128, 1e-3
    elif flat:
        chosen, units, batch, rate = FLAT_NETWORK, AUTO, 500, 1e-3
    else:
        chosen, units, batch, rate = MLP(), AUTO, 256, 3e-3
    if noise.begins_at_grid and units == AUTO:
        units = "scale"
    stops = others.get("patience") is not None or others.get("validation") == "exact"
    open_end = seconds is not None and table and not stops
    return Run(
        score_matching,
        auto_order=auto,
        network=network or chosen,
        standardise=standardise or units,
        steps=steps,
        seconds=seconds,
        cycle=first_cycle(n, batch_size or batch) if open_end else None,
        batch_size=batch_size or batch,
        learning_rate=learning_rate or rate,
        weight_decay=(WEIGHT_DECAY if table else 0.0) if weight_decay is None else weight_decay,
        smoothing=0.0 if smoothing is None and not few else smoothing,
        validations=others.pop("validations", CLOSE if few else Run.validations),
        dequantise=LearntNoise(for_noise(image_shape)) if noise is LearntNoise else noise(),
        **others,
    )


def first_cycle(n: int, batch_size: int) -> int:
    """The steps of the first cycle on n rows; see `train.cycles`."""
    return max(CYCLE_EPOCHS * n // batch_size, CYCLE_LEAST)


def options_among(names: Iterable[str]) -> list[str]:
    """Those of the names that `for_table` takes, as its own arguments or as fields of a `Run`."""
    known = {*inspect.signature(for_table).parameters, *(field.name for field in fields(Run))}
    return [name for name in names if name in known]


def _check_network(network: Any) -> None:
    """Raises `InputError` for what is no network's specification, and for sizes it cannot have."""
    if isinstance(network, type) or not hasattr(network, "build"):
        raise InputError(f"network {network!r}: takes a network, such as MLP(width=128, depth=4)")
    check_counts(width=network.width, depth=network.depth)
    check_not_negative(n_features=getattr(network, "n_features", None))
    check_positive(bandwidth=getattr(network, "bandwidth", None))


def for_noise(image_shape: tuple[int, ...] | None) -> MLP | UNet:
    """A small network for variational dequantisation."""
    if image_shape is None:
        return MLP(width=64, depth=2)
    return replace(for_images(image_shape), width=16)


def for_images(shape: tuple[int, ...]) -> UNet:
    """A U-Net that halves an image (h, w, c) twice, or as often as its sides can be."""
    height, width, channels = shape
    return UNet((height, width, channels), multipliers=(1, 2, 2)[: halvings(shape) + 1])
