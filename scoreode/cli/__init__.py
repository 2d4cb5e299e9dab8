"""The front door for a shell, by groups of commands.

Nothing heavy is imported before a command runs, so that `--help` is immediate.
"""

import functools
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, Positional

import scoreode
from scoreode import progress
from scoreode.cli import failures, streams
from scoreode.cli.arguments import Debug
from scoreode.cli.config import configure
from scoreode.cli.evaluation import compare, nll, quality, report, verify
from scoreode.cli.models import convert, export, sample
from scoreode.cli.names import list_, reproduce
from scoreode.cli.training import fit
from scoreode.errors import InputError


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Positional],
    /,
    debug: Debug = False,
) -> None:
    """Print the script with which a shell completes commands, options and their values.

    Example: scoreode completion bash > ~/.local/share/bash-completion/completions/scoreode

    Example: scoreode completion zsh > ~/.zfunc/_scoreode

    Example: scoreode completion fish > ~/.config/fish/completions/scoreode.fish

    Args:
        shell: that is to complete it.
    """
    _call(COMMANDS, ["--tyro-print-completion", shell])


COMMANDS: dict[str, Callable[..., None]] = {
    "fit": fit,
    "nll": nll,
    "compare": compare,
    "verify": verify,
    "report": report,
    "sample": sample,
    "quality": quality,
    "export": export,
    "convert": convert,
    "list": list_,
    "reproduce": reproduce,
    "completion": completion,
}


def _brief(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the first line of what it says of itself."""

    @functools.wraps(command)
    def brief(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)

    brief.__doc__ = (command.__doc__ or "").partition("\n")[0]
    return brief


def _call(commands: dict[str, Callable[..., None]], argv: Sequence[str]) -> None:
    if argv and argv[0] in ("-h", "--help"):
        commands = {name: _brief(command) for name, command in commands.items()}
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="scoreode",
        description="Likelihood-trained diffusion ODEs: fit a density, evaluate it exactly, sample"
        " from it. --version prints the version.",
        args=argv,
        config=(FlagCreatePairsOff, DisallowNone),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0 on success, 1 on failure, 2 on wrong use, 130 when interrupted, 141 where
    nobody reads the result."""
    argv = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    streams.prepare()
    code = 0
    try:
        code = _code(argv)
        print(end="", flush=True)
    except BrokenPipeError:
        streams.abandon()
        return 128 + signal.SIGPIPE
    except OSError as error:
        streams.abandon(sys.stdout)
        if code == 0:
            streams.say(f"scoreode: cannot write to standard output: {error.strerror or error}")
        return code or 1
    return code


def _code(argv: Sequence[str]) -> int:
    """Runs a command and says what went wrong."""
    try:
        with progress.quiet("--quiet" in argv):
            _run(argv)
    except KeyboardInterrupt as interrupt:
        streams.say(str(interrupt) or "interrupted")
        return 130
    except BrokenPipeError:
        raise
    except SystemExit as stop:
        return 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 2
    except Exception as error:
        if "--debug" in argv:
            raise
        streams.say(f"scoreode: {failures.explain(error)}")
        return 2 if isinstance(error, InputError) else 1
    return 0


def _run(argv: Sequence[str]) -> None:
    if list(argv) == ["--version"]:
        print(f"scoreode {scoreode.__version__}")
    else:
        _call(configure(COMMANDS, argv), argv)
