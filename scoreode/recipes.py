"""Named runs, and every concrete of a run by its name: the one file that knows them all.

A `Run` says everything that training needs except the data. Processes, objectives and networks
are their own configuration; a run is written to JSON by their fields and read back from the names
listed here, and nothing else can be named.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from scoreode import flow, objective, process, score, standardise
from scoreode.calculus import probes
from scoreode.errors import InputError, check_at_most, check_positive, unknown
from scoreode.network import MLP, DDPMpp, NCSNpp, UNet
from scoreode.network.unet import halvings

PROCESSES: dict[str, process.AbstractProcess] = {
    # The paper's range ends at σ = 50 for data of its own scale; for unit variance the prior is
    # exact to 1e-4 nats at 10 already, and levels above only cost the network effort.
    "ve": process.VE(sigma_min=0.01, sigma_max=10.0),
    "vp": process.VP(),
    "subvp": process.SubVP(),
    "straight": process.Straight(),
}

LEAST_CORRECTED = 16  # dimensions; norms of scores vary by 1/√(2d)
_Sampler = flow.DPMSolver | flow.EulerMaruyama | flow.Ancestral | flow.PredictorCorrector
SAMPLERS: dict[str, type[_Sampler]] = {
    "dpm": flow.DPMSolver,
    "sde": flow.EulerMaruyama,
    "ancestral": flow.Ancestral,
    "pc": flow.PredictorCorrector,
}

STANDARDISATIONS: dict[str, tuple[type[standardise.AbstractBijection], ...]] = {
    "centre": (standardise.Centring,),
    "scale": (standardise.Scaling,),
    "whiten": (standardise.Whitening,),
    "power": (standardise.BoxCox, standardise.Whitening),
}

REPRODUCTIONS = {
    "mog": "Figures 1 to 3: a 1-D mixture, where order 1 visibly fails",
    "checkerboard": "Figure 4: model densities of orders 1, 2, 3",
}
TABLE_1 = {  # bits/dim, published
    "cifar10-ve": 3.66,
    "cifar10-ve-second": 3.44,
    "cifar10-ve-third": 3.38,
    "cifar10-ve-deep": 3.45,
    "cifar10-ve-deep-second": 3.35,
    "cifar10-ve-deep-third": 3.27,
    "imagenet32-ve": 4.21,
    "imagenet32-ve-second": 4.06,
    "imagenet32-ve-third": 4.04,
    "imagenet32-ve-deep": 4.21,
    "imagenet32-ve-deep-second": 4.05,
    "imagenet32-ve-deep-third": 4.03,
}

DEQUANTISATIONS = {
    "uniform": "noise that fills the cells of a grid",
    "variational": "noise learnt with the model",
    "truncated-normal": "no noise in training",
}


@dataclass(frozen=True)
class Run:
    """How a model is built and trained.

    **Arguments:** `objective`, with its process and order; `parametrisation`; `network`;
    `standardise`, "centre", "scale", "whiten" or "power"; a budget in `steps` or `seconds`;
    `batch_size`, in `micro_batches` one after another; `learning_rate`, the peak after a warm-up
    over the part `warmup` of the budget; `ema_decay`; `clip`, of the gradient's norm; `validation`,
    "bound" or "exact" NLL, measured `validations` times on `validation_fraction` of the rows;
    `patience`, how many of them may pass without improvement before training stops (None: never);
    `flip` images left to right at random; for data on a grid `dequantise`, "uniform", "variational"
    (by a `noise_network`), or "truncated-normal"; `seed`.
    """

    objective: objective.DenoisingScoreMatching
    parametrisation: score.AbstractParametrisation = score.Velocity()
    network: MLP | UNet | NCSNpp | DDPMpp = MLP()
    standardise: str = "power"
    steps: int | None = None
    seconds: float | None = None
    batch_size: int = 256
    micro_batches: int = 1
    learning_rate: float = 3e-3
    warmup: float = 0.05
    ema_decay: float = 0.999
    clip: float = 1.0
    validation: str = "bound"
    validations: int = 20
    validation_fraction: float = 0.1
    patience: int | None = None
    flip: bool = False
    dequantise: str = "uniform"
    noise_network: MLP | UNet | None = None
    seed: int = 0


COMPONENTS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Run,
        MLP,
        UNet,
        NCSNpp,
        DDPMpp,
        objective.DenoisingScoreMatching,
        objective.Ramp,
        objective.UniformTime,
        objective.Likelihood,
        objective.AdaptiveLikelihood,
        score.Noise,
        score.Data,
        score.Velocity,
        score.Score,
        process.VE,
        process.VP,
        process.SubVP,
        process.Straight,
        probes.Rademacher,
        probes.Gaussian,
        probes.Sphere,
        probes.Hadamard,
        probes.Basis,
    )
}


MOST_ROWS, MOST_PROBES = 2**24, 2**16  # a step, and an example: more fit no device

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


def for_table(
    n: int,
    d: int,
    *,
    order: int = 3,
    process: process.AbstractProcess,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    network: MLP | UNet | NCSNpp | DDPMpp | None = None,
    n_probes: int | None = None,
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
    if order not in (1, 2, 3):
        raise InputError(f"order {order}: choose 1, 2 or 3")
    if steps is not None and seconds is not None:
        raise InputError("give steps or seconds, not both")
    check_positive(
        steps=steps,
        seconds=seconds,
        batch_size=batch_size,
        learning_rate=learning_rate,
        n_probes=n_probes,
        patience=others.get("patience"),
        micro_batches=others.get("micro_batches"),
        **({} if network is None else {"width": network.width, "depth": network.depth}),
    )
    check_at_most(batch_size=(batch_size, MOST_ROWS), n_probes=(n_probes, MOST_PROBES))
    if standardise is not None:
        named("standardisation", standardise, STANDARDISATIONS)
    named("dequantisation", dequantise, DEQUANTISATIONS)
    if steps is None and seconds is None:
        steps = min(DEFAULT_STEPS, max(LEAST_STEPS, 2 * n))
    score_matching = objective.DenoisingScoreMatching(
        process,
        order,
        lambda1=LATE_LAMBDA1,
        lambda2=LATE_LAMBDA2,
        weighting=objective.AdaptiveLikelihood(),
        n_probes=n_probes or 1,
        every=LATE_EVERY,
    )
    # Rough features of x keep the network from finding what x and its conditions have in common.
    flat, few = d <= 2 and not n_conditions, n < FEW and image_shape is None
    if image_shape is None and others.get("flip"):
        raise InputError("flip: turns images left to right, and these rows are none")
    if image_shape is not None:
        chosen, units, batch, rate = for_images(image_shape), "centre", 128, 1e-3
    elif flat:
        chosen, units, batch, rate = FLAT_NETWORK, "scale", 500, 1e-3
    else:
        straight = n < 20 * d or dequantise == "truncated-normal"
        chosen, units, batch, rate = MLP(), "scale" if straight else "power", 256, 3e-3
    return Run(
        score_matching,
        network=network or chosen,
        standardise=standardise or units,
        steps=steps,
        seconds=seconds,
        batch_size=batch_size or batch,
        learning_rate=learning_rate or rate,
        validations=others.pop("validations", CLOSE if few else Run.validations),
        dequantise=dequantise,
        noise_network=for_noise(image_shape) if dequantise == "variational" else None,
        **others,
    )


def for_noise(image_shape: tuple[int, ...] | None) -> MLP | UNet:
    """A small network for variational dequantisation."""
    if image_shape is None:
        return MLP(width=64, depth=2)
    return replace(for_images(image_shape), width=16)


def for_images(shape: tuple[int, ...]) -> UNet:
    """A U-Net that halves an image (h, w, c) twice, or as often as its sides can be."""
    height, width, channels = shape
    return UNet((height, width, channels), multipliers=(1, 2, 2)[: halvings(shape) + 1])


def sampler(method: str, steps: int | None, d: int) -> flow.AbstractSampler:
    """A sampler of d dimensions by name.

    **Raises:** `InputError` for steps that it cannot take, and for a corrector in few dimensions.
    """
    check_positive(steps=steps)
    if method == "pc" and d < LEAST_CORRECTED:
        raise InputError(
            f"--method pc: its steps follow the norm of one score, which tells too little in {d}"
            f" dimensions (from {LEAST_CORRECTED} on it does); take sde"
        )
    if method == "ode":
        if steps is not None:
            raise InputError("--steps: ode chooses its own; take dpm for a number of steps")
        return flow.ODESampler()
    return SAMPLERS[method]() if steps is None else SAMPLERS[method](n_steps=steps)


def checkerboard(order: int, *, quick: bool = False) -> Run:
    """Figure 4's setting: VE, batches of 500, 4000 steps (2 million points)."""
    score_matching = objective.DenoisingScoreMatching(
        process.VE(sigma_min=0.002, sigma_max=10.0),
        order,
        lambda1=objective.Ramp(0.3, 0.6, 0.65),
        lambda2=objective.Ramp(0.03, 0.6, 0.65),
        weighting=objective.AdaptiveLikelihood(),
        every=2,
    )
    return Run(
        score_matching,
        network=FLAT_NETWORK,
        standardise="scale",
        steps=1200 if quick else 4000,
        batch_size=500,
        learning_rate=1e-3,
        ema_decay=0.995,
    )


def mog(order: int, *, quick: bool = False) -> Run:
    """Figures 1 to 3's setting: the paper's VE and coefficients, 4000 steps of 500."""
    score_matching = objective.DenoisingScoreMatching(
        process.VE(),
        order,
        lambda1=objective.Ramp(0.5),
        lambda2=objective.Ramp(0.1),
        probe=probes.Basis(),
    )
    return Run(
        score_matching,
        network=MLP(width=64, depth=3, n_features=32, bandwidth=1.0),
        standardise="scale",
        steps=1200 if quick else 4000,
        batch_size=500,
        learning_rate=1e-3,
        ema_decay=0.995,
    )


def digits_run(*, steps: int = 2500) -> Run:
    """A model of the bundled digits: 1797 images are soon learnt by heart, hence few steps."""
    return replace(
        for_table(1400, 64, order=1, process=PROCESSES["ve"], steps=steps),
        network=MLP(width=256, depth=3),
        standardise="scale",
        learning_rate=1e-3,
    )


def to_json(value: Any) -> Any:
    """A component as {"type": name, field: value …}; scalars as they are."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        # Arrays are state, not configuration: they begin at their defaults.
        settings = {k: to_json(v) for k, v in fields.items() if not isinstance(v, jax.Array)}
        return {"type": type(value).__name__} | settings
    return list(value) if isinstance(value, tuple) else value


def from_json(value: Any) -> Any:
    """The component that `to_json` wrote. **Raises:** `InputError` for an unknown name."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        return value
    name = str(value.get("type"))
    try:
        fields = {key: from_json(field) for key, field in value.items() if key != "type"}
        return COMPONENTS[name](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot rebuild {name!r} ({error})") from error


def named(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """The entry of that name. **Raises:** `InputError` with the nearest known name."""
    if name in known:
        return known[name]
    raise InputError(unknown(kind, name, known))
