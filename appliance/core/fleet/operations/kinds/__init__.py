"""The kinds of operations, one file for each noun, found by name."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil

from appliance.core.fleet.operations.kind import Kind
from appliance.errors import InvalidArgumentsError


@functools.cache
def modules() -> tuple[str, ...]:
    """Files of this folder."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def all_kinds() -> dict[str, Kind]:
    """Every kind by its name."""
    found = (kind for module in modules() for kind in _of(module))
    return {kind.name: kind for kind in found}


def find(name: str) -> Kind:
    """The kind of that name. Raises InvalidArgumentsError, naming the nearest one."""
    noun = name.split(".", 1)[0]
    if noun in modules():
        for kind in _of(noun):
            if kind.name == name:
                return kind
    known = sorted(all_kinds())
    near = difflib.get_close_matches(name, known, 1)
    raise InvalidArgumentsError(
        f"No kind of operation is called {name[:60]!r}.",
        f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}.",
    )


def _of(module: str) -> tuple[Kind, ...]:
    found: tuple[Kind, ...] = importlib.import_module(f"{__name__}.{module}").KINDS
    return found
