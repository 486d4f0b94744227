"""Libraries that another one takes along where it finds them, and that nobody here needs of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


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
