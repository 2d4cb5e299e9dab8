"""Options in a file: TOML, by their names.

What the file says takes the place of a command's defaults, so the command line goes before the
file, and the file before what a recipe chooses.
"""

import argparse
import functools
import inspect
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from scoreode.errors import InputError, unknown

Command = Callable[..., None]
_ONLY_TYPED = {"config", "print_config", "quiet", "debug", "force"}
_given: ContextVar[frozenset[str]] = ContextVar("given", default=frozenset())
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def configure(commands: Mapping[str, Command], argv: Sequence[str]) -> dict[str, Command]:
    """The commands, of which the one that is called has its `--config` for defaults.

    From now on `given_options` is about this call.

    **Raises:** `InputError` for a file that cannot be read, unknown keys, values of another kind.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    try:
        file = parser.parse_known_args(argv)[0].config
    except argparse.ArgumentError:  # it is said where all options are parsed
        file = None
    typed = {word.partition("=")[0][2:] for word in argv if word.startswith("--")}
    found = {}
    if file is not None and argv[0] in commands:
        found = read(file, commands[argv[0]])
        commands = {**commands, argv[0]: with_defaults(commands[argv[0]], found)}
    _given.set(frozenset(name.replace("-", "_") for name in typed).union(found))
    return dict(commands)


def given_options() -> frozenset[str]:
    """Names of the options that stand on the command line or in its file, whatever their values."""
    return _given.get()


def read(file: Path, command: Command) -> dict[str, Any]:
    """The values of a command's options in a file. **Raises:** `InputError` as `configure`."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: not a TOML file ({error})") from error
    kinds = {k: v for k, v in get_type_hints(command).items() if k not in _ONLY_TYPED}
    del kinds["return"]
    found = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if name not in kinds:
            raise InputError(f"{file}: {unknown('option', key, map(_hyphenate, kinds))}")
        if name in found:
            raise InputError(f"{file}: {key} is there twice")
        found[name] = _convert(kinds[name], value, f"{file}: {key} = {value!r}")
    return found


def with_defaults(command: Command, values: Mapping[str, Any]) -> Command:
    """The command with other defaults, as `tyro` reads them."""
    signature, parameters = inspect.signature(command), []
    for parameter in signature.parameters.values():
        parameter = parameter.replace(default=values.get(parameter.name, parameter.default))
        # Python wants no argument without a default behind one that has one.
        if parameter.default is parameter.empty and parameters:
            parameter = parameter.replace(default=tyro.MISSING)
        parameters.append(parameter)

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)

    call.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
    return call


def to_toml(values: Mapping[str, Any]) -> str:
    """Options as TOML that `read` reads; those that are None are left out."""
    given = {name: value for name, value in values.items() if value is not None and value != ()}
    return "".join(f"{_hyphenate(name)} = {_toml(value)}\n" for name, value in given.items())


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str | Path):
        # TOML's strings are those of JSON, but for DEL.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower()


def _hyphenate(name: str) -> str:
    return name.replace("_", "-")


def _convert(kind: Any, value: Any, place: str) -> Any:
    """The value as the option has it. **Raises:** `InputError` if it is of another kind."""
    options = [k for k in get_args(kind) if k is not NoneType]
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        kind = str if str in options and isinstance(value, str) else options[0]
        return _convert(kind, value, place)
    if origin is Literal:
        if value in options and type(value) is not bool:
            return value
        raise InputError(f"{place}: choose from {', '.join(map(str, options))}")
    if origin is tuple:
        if isinstance(value, list) and (options[-1] is ... or len(value) == len(options)):
            return tuple(_convert(options[0], entry, place) for entry in value)
        many = "values" if options[-1] is ... else f"{len(options)} values"
        raise InputError(f"{place}: give a list of {many}")
    if kind is float and type(value) is int:
        return float(value)
    if kind in _KINDS and type(value) is kind:
        return value
    if kind in (str, Path) and isinstance(value, str):
        return kind(value)
    raise InputError(f"{place}: give {_KINDS.get(kind, 'a text in quotes')}")
