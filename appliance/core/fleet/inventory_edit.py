"""Changes to the inventory's text that leave the operator's own words in it; loaded where something is changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable

from appliance.core.fleet.inventory_file import HEAD


def with_node(text: str, name: str, values: Mapping[str, Any]) -> str:
    """The file with a machine added, or fields of one set; a value of None takes the field away."""
    document = _document(text)
    nodes: Any = document.get("nodes", {})
    given = {key: _value(value) for key, value in values.items() if value is not None}
    if name not in nodes and not isinstance(nodes, InlineTable):  # whatever form the others have, this fits behind them
        return f"{tomlkit.dumps(document).rstrip()}\n\n{tomlkit.dumps({'nodes': {name: given}})}"
    if name not in nodes:
        nodes[name] = tomlkit.inline_table()
    table: Any = nodes[name]
    for key in values:
        if key in given:
            table[key] = given[key]
        else:
            table.pop(key, None)
    return tomlkit.dumps(document)


def without_node(text: str, name: str) -> str:
    """The file without a machine."""
    document = _document(text)
    nodes: Any = document["nodes"]
    del nodes[name]
    return tomlkit.dumps(document)


def with_value(text: str, table: str, name: str, value: str | bool | None) -> str:
    """The file with a host key or a machine set aside; None takes it away."""
    document = _document(text)
    if table not in document:
        document[table] = tomlkit.table()
    values: Any = document[table]
    values.pop(name, None)
    if value is not None:
        values[name] = value
    return tomlkit.dumps(document)


def _document(text: str) -> tomlkit.TOMLDocument:
    return tomlkit.parse(text or HEAD)


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return table
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
