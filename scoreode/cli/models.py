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

    Every command reads it as it reads a run, and so does `ScoreODE.load`.

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
    image_shape: tuple[int, int, int] = (32, 32, 3),
    multipliers: tuple[int, ...] = (1, 2, 2, 2),
    attention: tuple[int, ...] = (16,),
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a published checkpoint (score_sde: NCSN++ with VE, DDPM++ with VP) into a run.

    Example: scoreode convert checkpoint_26 --out runs/ncsnpp

    Args:
        checkpoint: the file that Flax wrote.
        out: the run's folder, which must not exist.
        image_shape: height, width and colours.
        multipliers: of the channels, for every resolution.
        attention: heights of the resolutions that have attention.
    """
    from scoreode.cli.commands import models

    sizes = {"multipliers": multipliers, "attention": attention}
    models.convert(checkpoint, out, image_shape, as_json=json, **sizes)
