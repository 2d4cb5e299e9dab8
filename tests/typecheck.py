"""The type checker that stands behind every annotation of the package while tests run."""

from collections.abc import Callable
from typing import Any, Self, get_args, get_origin

from beartype import BeartypeConf, beartype

_with_tower = beartype(conf=BeartypeConf(is_pep484_tower=True))  # where float stands, int may


def checked(function: Callable) -> Callable:
    """Beartype, except for `Self`, which it knows only where it decorates a whole class.

    Functions within functions are left alone: they would be compiled anew at every call.
    """
    if function.__qualname__ == "ScoreODE.__init__":
        return function  # scikit-learn's rule: parameters are stored, and looked at by fit
    if "<locals>" in function.__qualname__:
        return function
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {name: _without_self(hint) for name, hint in hints.items()}
    return _with_tower(function)


def _without_self(hint: Any) -> Any:
    if hint is Self:
        return Any
    if get_origin(hint) is tuple:
        return tuple[tuple(_without_self(part) for part in get_args(hint))]
    return hint
