"""Writes appliance/verbs/commands.toml, the commands of a running appliance, for the help where none runs."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable

import click
import tomlkit

from appliance import cli, config, paths
from appliance.core.actions import ActionInfo
from appliance.core.logs import LogRing
from appliance.runtime import Appliance
from appliance.verbs.context import Context
from appliance.verbs.nouns import FILE, NOUNS


class _Actions:
    """What the command line needs to know of an appliance to list its commands (implements verbs.client.Client)."""

    local = False

    def __init__(self, actions: Iterable[ActionInfo]) -> None:
        self._actions = list(actions)

    def actions(self) -> list[ActionInfo]:
        """The registry."""
        return self._actions

    def may(self, action: ActionInfo) -> bool:
        """All of them."""
        return True

    def invoke(self, name: str, args: object, *, confirm: bool = False) -> object:
        """Nobody is asked anything."""
        raise ValueError(f"{name} is not to be called")

    def close(self) -> None:
        """Nothing is held."""


def table(actions: Iterable[ActionInfo]) -> dict[str, dict[str, str]]:
    """What each command does, by noun and name, as the help of a running appliance lists them."""
    context = Context(_Actions(actions), paths.find(os.environ), {}, sys.stdout, 120, colour=False)
    root = cli.root()
    with click.Context(root, obj=context) as ctx:
        groups = {noun: root.get_command(ctx, noun) for noun in sorted(NOUNS)}
        return {noun: _listed(group, ctx) for noun, group in groups.items() if isinstance(group, click.Group)}


def _listed(group: click.Group, ctx: click.Context) -> dict[str, str]:
    found = {name: group.get_command(ctx, name) for name in group.list_commands(ctx)}
    return {name: each.get_short_help_str(200) for name, each in found.items() if each is not None and not each.hidden}


async def _main() -> None:
    where = paths.find(os.environ)
    where.make()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    await appliance.stop()
    FILE.write_text(tomlkit.dumps(table(action.describe() for action in appliance.registry)), encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["PRIME_SPARK_HOME"] = home
        asyncio.run(_main())
