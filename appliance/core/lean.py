"""Loads no more of a library than is used: what it takes along that nobody here needs stays out of the memory."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Imports inside do not find a package, as if it were not installed; one that is loaded already stays as it is.

    Args:
        name: Of a top-level package whose absence the importing library provides for.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # documented: an import of it raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[name]


def without_front(name: str) -> None:
    """Let parts of a package be imported without what its `__init__` loads; that runs when something of it is asked for.

    Args:
        name: Of the package; nothing is done where it is loaded already, or is not installed.
    """
    spec = importlib.util.find_spec(name) if name not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def found(attribute: str) -> Any:  # PEP 562: asked where the module has no such attribute
        if not attribute.startswith("__") and importlib.util.find_spec(f"{name}.{attribute}") is not None:
            return importlib.import_module(f"{name}.{attribute}")
        module.__dict__.pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = found
    sys.modules[name] = module
