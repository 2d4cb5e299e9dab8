"""`scoreode list`, `reproduce`: what has a name."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scoreode.cli.arguments import Config, DataDir, Debug, Flag, Json, Quiet, default


def list_(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Print the data sets, recipes and processes that have names.

    Example: scoreode list
    """
    from scoreode.cli.commands import names

    names.list_names(as_json=json)


def reproduce(
    name: Annotated[str, Positional, arg(metavar="NAME")],
    /,
    quick: Flag = False,
    preset: Annotated[Literal["full", "one-gpu-20min", "cpu-10min"] | None, default("full")] = None,
    data: Annotated[str | None, arg(metavar="IMAGES"), default("the recipe's own")] = None,
    data_dir: DataDir = None,
    constants: Annotated[Literal["ours", "authors"] | None, default("ours")] = None,
    as_published: Flag = False,
    trace_only: Flag = False,
    out: Annotated[Path | None, default("runs/NAME-N")] = None,
    seed: int = 0,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Reproduce a figure or a number of the paper.

    A result for Table 1 is printed beside the published number, if that is for the same images. The
    prior of VE has variance 1 + sigma_max² for standardised data; the authors' has sigma_max².

    Example: scoreode reproduce checkerboard --quick

    Example: scoreode reproduce cifar10-ve-third --preset cpu-10min --data-dir sets

    Example: scoreode reproduce mog --constants authors --out figures-1-to-3

    Args:
        name: a recipe from `scoreode list`.
        quick: fewer steps and test points; minutes, not an hour.
        preset: how much of Table 1's setting there is time for.
        data: other images for a recipe of Table 1: a set by name, a folder, an .npy file. The
            paper's ImageNet is imagenet32-old (van den Oord et al. 2016), and not imagenet32
            (Chrabaszcz et al. 2017), on which bits/dim are about 0.3 lower.
        constants: of mog: ours (lambda1 0.5 for J2 + J2,tr, which are equal in one dimension;
            sigma in standard deviations of the data), or those of the authors' code (lambda1 0.5
            for J2 alone; sigma in the units of the data).
        as_published: train a row of Table 1 (preset full) as the authors' configurations say,
            where that can be set: batches, learning rate, Adam, pixels, times, resumed state.
        trace_only: of order 2, match only the trace of the score's Jacobian: J2,tr without J2.
        out: the folder of the result, which must not exist.
        seed: of everything random.
    """
    from scoreode.cli.commands import names

    sizes, source = {"quick": quick, "preset": preset}, {"data": data, "data_dir": data_dir}
    place = {"out": out, "as_json": json}
    choices = {"constants": constants, "as_published": as_published, "trace_only": trace_only}
    names.reproduce(name, **sizes, **source, **place, **choices, seed=seed)
