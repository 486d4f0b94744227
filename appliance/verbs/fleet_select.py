"""Which nodes a verb is for: `-n NODE`, `-g GROUP`, `--tag`, `--all`, or NODE:PATH."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from appliance.errors import InvalidArgumentsError

Found = TypeVar("Found", bound=Callable[..., Any])


def selection(command: Found) -> Found:
    """Options that select nodes; they come as `node`, `group`, `tag` and `all_nodes`."""
    for option in (
        click.option("--all", "all_nodes", is_flag=True, help="All nodes."),
        click.option("--tag", multiple=True, metavar="KEY=VALUE", help="Nodes with this tag; may be given again."),
        click.option("-g", "--group", multiple=True, help="Nodes of this group; may be given again."),
        click.option("-n", "--node", multiple=True, help='A node, or any selector such as "!NAME"; may be given again.'),
    ):
        command = option(command)
    return command


def selector(node: Sequence[str], group: Sequence[str], tag: Sequence[str], all_nodes: bool) -> list[str]:
    """What the options mean, as actions want it; empty where none was given."""
    words = [*(["all"] if all_nodes else []), *(f"group:{name}" for name in group), *(f"tag:{name}" for name in tag)]
    return [*words, *(word for name in node for word in name.split(",") if word)]


def needed(found: list[str]) -> list[str]:
    """A selection that is one. Raises InvalidArgumentsError."""
    if not found:
        raise InvalidArgumentsError("Which nodes?", "give -n NODE, -g GROUP or --all.")
    return found


def place(text: str, found: list[str]) -> tuple[list[str], str]:
    """Nodes and path of "NODE:PATH"; or of a path, where options have selected the nodes. Raises InvalidArgumentsError."""
    name, colon, path = text.partition(":")
    if found:
        return found, text
    if not colon or "/" in name or not name:
        raise InvalidArgumentsError(f"Which node has {text}?", "write NODE:PATH, or give -n NODE, -g GROUP or --all.")
    if not path:
        raise InvalidArgumentsError(f"{text} names no path.", "write NODE:PATH.")
    return [name], path
