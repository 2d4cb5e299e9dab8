"""Named runs, and every concrete of a run by its name: the one file that knows them all.

A `Run` says everything that training needs except the data. Processes, objectives and networks
are their own configuration; a run is written to JSON by their fields and read back from the names
listed here, and nothing else can be named.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from scoreode import flow, objective, process, score
from scoreode.calculus import probes
from scoreode.errors import InputError, check_counts, unknown
from scoreode.model import standardise
from scoreode.model.dequantised import (
    AbstractTrainingNoise,
    DiffusionNoise,
    RawBytes,
    UniformNoise,
)
from scoreode.model.learnt_noise import LearntNoise
from scoreode.network import DDPM, MLP, DDPMpp, NCSNpp, Specification, UNet
from scoreode.steps import Steps

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
    "power": (standardise.Power, standardise.Whitening),
}


# Of rows with missing values, column by column; none that mixes them.
OBSERVED: dict[str, tuple[type[standardise.AbstractBijection], ...]] = {
    "scale": (standardise.ObservedScaling,),
    "power": (standardise.ObservedPower, standardise.ObservedScaling),
}
AUTO = "auto"  # in place of one of these: the best for the rows, except "centre"
DEQUANTISATIONS: dict[str, type[AbstractTrainingNoise]] = {
    cls.name: cls for cls in (UniformNoise, LearntNoise, DiffusionNoise)
}


@dataclass(frozen=True)
class Parts:
    """How many diffusions a stack has, and components every other density; 0 for one it lacks."""

    diffusions: int = 1
    tail: int = 1
    mixture: int = 0
    kernels: int = 0


@dataclass(frozen=True)
class Run:
    """How a model is built and trained.

    **Arguments:** `objective`, with its process and order; `auto_order`: where orders above 1 would
    begin, J_Diff of validation rows decides if they do; `parametrisation`; `network`;
    `standardise`, "centre", "scale", "whiten" or "power", or "auto" until the rows are known; a
    budget in `steps` or `seconds`; `cycle`, the steps of the first of the cycles in which seconds
    are spent (None: all of them); `batch_size`, in `micro_batches` one after another;
    `learning_rate`, the peak after a warm-up over the part `warmup` of the budget, from which it
    falls to 0 if `learning_rate_decay`; `b2`, Adam's β2; `ema_decay`; `clip`, of the gradient's
    norm; `weight_decay`, decoupled, of the weights of linear maps; `smoothing`, the standard
    deviation of normal noise that training adds to standardised rows (None: chosen by short
    trainings); `validation`, "bound" or "exact" NLL, measured `validations` times on
    `validation_fraction` of the rows; `patience`, how many of them may pass without improvement
    before training stops (None: never); `flip` images left to right at random; `dequantise`, the
    noise for data on a grid; `stack`: simple densities stand beside the diffusion (see
    `model.stack`) where the rows and the budget suit, with the components in `parts`; `radius`, of
    `ScoreModel`, which the training rows decide; `roles`: the network is told the role of every
    column (see `data.roles`), which the data decide, too; `seed`.
    """

    objective: objective.Objective
    auto_order: bool = False
    parametrisation: score.AbstractParametrisation = score.Velocity()
    network: Specification = MLP()
    standardise: str = "power"
    steps: int | None = None
    seconds: float | None = None
    cycle: int | None = None
    batch_size: int = 256
    micro_batches: int = 1
    learning_rate: float = 3e-3
    warmup: float = 0.05
    learning_rate_decay: bool = True
    b2: float = 0.99
    ema_decay: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.0
    smoothing: float | None = 0.0
    validation: str = "bound"
    validations: int = 20
    validation_fraction: float = 0.1
    patience: int | None = None
    flip: bool = False
    dequantise: AbstractTrainingNoise = UniformNoise()
    stack: bool = False
    parts: Parts | None = None
    radius: float | None = None
    roles: bool = False
    seed: int = 0

    @property
    def order(self) -> int | str:
        """What was asked for: the objective's, or "auto"."""
        return AUTO if self.auto_order else self.objective.order


COMPONENTS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Run,
        Parts,
        UniformNoise,
        LearntNoise,
        DiffusionNoise,
        RawBytes,
        MLP,
        UNet,
        NCSNpp,
        DDPMpp,
        DDPM,
        objective.DenoisingScoreMatching,
        objective.Ramp,
        objective.Draw,
        objective.PosteriorMean,
        objective.Independent,
        objective.Antithetic,
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
        process.Discrete,
        Steps,
        probes.Rademacher,
        probes.Gaussian,
        probes.Sphere,
        probes.Hadamard,
        probes.Basis,
    )
}


def bijections_of(run: Run) -> tuple[type[standardise.AbstractBijection], ...]:
    """The families of a run's standardisation."""
    return (OBSERVED if run.roles else STANDARDISATIONS)[run.standardise]


def sampler(method: str, steps: int | None, d: int) -> flow.AbstractSampler:
    """A sampler of d dimensions by name.

    **Raises:** `InputError` for steps that it cannot take, and for a corrector in few dimensions.
    """
    check_counts(steps=steps)
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
        if isinstance(fields.get("dequantise"), str):  # of version 0.1.0
            noise = DEQUANTISATIONS[fields["dequantise"]]
            network = fields.pop("noise_network", None)
            fields["dequantise"] = noise(*(() if network is None else (network,)))
        return COMPONENTS[name](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"cannot rebuild {name!r} ({error})") from error


def lookup(kind: str, name: Any, known: Mapping[str, Any]) -> Any:
    """The entry of that name. **Raises:** `InputError` with the nearest known name."""
    if isinstance(name, str) and name in known:
        return known[name]
    raise InputError(unknown(kind, name, known))
