"""`scoreode sample`, `export`, `convert`: from a model, and to one."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scoreode.cli.arguments import Config, Debug, Flag, Force, Json, Quiet, Run, default


def sample(
    run: Run,
    /,
    out: Path,
    n: Annotated[int | None, arg(aliases=("-n",)), default("1000, or 1 with --given")] = None,
    given: Annotated[Path | None, default("for a density without conditions")] = None,
    method: Literal["ode", "dpm", "sde", "ancestral", "pc"] = "ode",
    steps: Annotated[int | None, default("20 for dpm, else 1000; ode chooses its own")] = None,
    seed: int = 0,
    sheet: Flag = False,
    force: Force = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw samples from a trained run.

    By default exact samples of the ODE's density, by adaptive steps. dpm: the same by DPM-Solver++
    in few steps. sde, ancestral, pc: of the reverse SDE, by Euler–Maruyama, by ancestral steps,
    or by a predictor and a Langevin corrector, for many dimensions.

    Example: scoreode sample run -n 1000 --out samples.csv

    Example: scoreode sample run -n 100 --out pictures/ --method dpm --steps 20

    Example: scoreode sample run -n 100 --out samples.png --sheet

    Example: scoreode sample run --given observed.csv -n 500 --out posterior.csv

    Args:
        out: .npy .npz .csv .parquet, or .png for one or two columns and for one image, or for
            images a new folder, of a .png each.
        n: how many, for every row of --given.
        given: a table with the columns that the density is conditional on, and maybe others.
        method: how they are drawn.
        steps: of the method.
        seed: of the samples.
        sheet: draw all images, enlarged, into one .png.
    """
    from scoreode.cli.commands import models

    how = {"sheet": sheet, "as_json": json, "force": force}
    models.sample(run, n, out, seed, method, steps, given, **how)


def export(
    run: Run,
    /,
    out: Path,
    stablehlo: Flag = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy the model of a trained run alone, without checkpoints and metrics.

    Every command reads it as it reads a run, and so does `ScoreODE.load`. Of a table of numbers it
    has rows.safetensors, at most 5000 training rows for anomaly scores; delete the file if others
    must not have them.

    With --stablehlo, log-density, score and samples as compiled functions in place of it, and
    load.py, which calls them with JAX and NumPy alone.

    Example: scoreode export run --out model

    Example: scoreode export run --out deployed --stablehlo

    Args:
        out: the model's folder, which must not exist.
        stablehlo: compiled functions, for where this package is not installed.
    """
    from scoreode.cli.commands import models

    models.export(run, out, stablehlo=stablehlo, as_json=json)


def convert(
    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")],
    /,
    out: Path,
    image_shape: Annotated[tuple[int, int, int] | None, default("32 32 3")] = None,
    multipliers: Annotated[tuple[int, ...] | None, default("1 2 2 2")] = None,
    attention: Annotated[tuple[int, ...] | None, default("16")] = None,
    schedule: Annotated[
        Literal["linear", "cosine"] | None, default("other models need none")
    ] = None,
    steps: Annotated[int | None, default("1000")] = None,
    heads: Annotated[int | None, default("1")] = None,
    head_channels: Annotated[int | None, default("by the number of heads")] = None,
    new_attention_order: Flag = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a published model of images into a run.

    It reads checkpoints of score_sde (Flax, or PyTorch's .pth), folders of diffusers with a
    UNet2DModel, and .pt files of guided-diffusion. State dicts of score_sde's and of
    guided-diffusion's models may be .safetensors, too. Nothing in a file is executed.

    Example: scoreode convert checkpoint_26 --out runs/ncsnpp

    Args:
        checkpoint: the file, or the folder of diffusers.
        out: the run's folder, which must not exist.
        image_shape: height, width and colours.
        multipliers: of the channels, for every resolution.
        attention: heights of the resolutions that have attention.
        schedule: the betas of a model of guided-diffusion.
        steps: their number; the network is told the step times 1000 / steps.
        heads: of the attention of a model of guided-diffusion.
        head_channels: the channels of each, in place of the number of heads.
        new_attention_order: the model was made with use_new_attention_order.
    """
    from scoreode.cli.commands import models

    sizes = {"image_shape": image_shape, "multipliers": multipliers, "attention": attention}
    betas = {"schedule": schedule, "steps": steps}
    parts = {"heads": heads, "head_channels": head_channels}
    parts |= {"new_attention_order": new_attention_order}
    models.convert(checkpoint, out, as_json=json, **sizes, **betas, **parts)
