"""How the pages of machines say to actions what they mean: the names of their arguments, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def on(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """On these machines."""
    return {"nodes": list(names), **more}


def one(name: str, **more: Any) -> dict[str, Any]:
    """On one machine."""
    return {"node": name, **more}


def operation(operation_id: str, **more: Any) -> dict[str, Any]:
    """About an operation."""
    return {"operation_id": operation_id, **more}


def planned(kind: str, names: Sequence[str], arguments: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Of a plan."""
    return on(names, kind=kind, arguments=dict(arguments), **more)
