"""For the reference: Equinox modules are dataclasses, whose constructors are their fields."""

from collections.abc import Iterator
from typing import Any

import griffe


class Fields(griffe.Extension):
    """Lets Griffe's own extension for dataclasses see modules."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        name = griffe.ExprName("dataclasses.dataclass")
        for class_ in _classes(pkg):
            if "__init__" not in class_.members and _is_module(class_) and not _is_open(class_):
                class_.decorators.append(griffe.Decorator(name, lineno=None, endlineno=None))


def _classes(module: griffe.Module) -> Iterator[griffe.Class]:
    for member in module.members.values():
        if isinstance(member, griffe.Class):
            yield member
        elif isinstance(member, griffe.Module):
            yield from _classes(member)


def _is_module(class_: griffe.Class) -> bool:
    paths = (getattr(base, "canonical_path", base) for base in class_.bases)
    return "equinox.Module" in paths or any(map(_is_module, class_.resolved_bases))


def _is_open(class_: griffe.Class) -> bool:
    """Whether fields are left to subclasses, in whose order they come."""
    fields = (m for m in class_.members.values() if isinstance(m, griffe.Attribute))
    return any(
        str(field.annotation).startswith(("AbstractVar", "AbstractClassVar")) for field in fields
    )
