"""`service … --node NODE`: services of nodes; without it the appliance's own, as ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from appliance.core.actions import ActionInfo
from appliance.errors import InvalidArgumentsError
from appliance.verbs.client import Client
from appliance.verbs.context import Context
from appliance.verbs.fleet_run import CHOSEN, on_nodes

PREFIX = "fleet.service-"


def nest(group: click.Group, actions: Mapping[str, ActionInfo], client: Client) -> None:
    """Every `fleet service-VERB` is also `service VERB --node NODE`."""
    from appliance.verbs.dynamic import command

    for name, action in actions.items():
        if not name.startswith(PREFIX) or not client.may(action):
            continue
        verb = name.removeprefix(PREFIX)
        made = on_nodes(command(action, client), action)
        made.params = [param for param in made.params if param.name != "names"]
        made.name = verb
        group.add_command(_either(made, group.commands.get(verb), verb), verb)


def _either(far: click.Command, own: click.Command | None, verb: str) -> click.Command:
    """One command for both: nodes are named, or it is the appliance's own."""
    on_node, here = far.callback, own.callback if own is not None else None
    unit = next((param for param in far.params if isinstance(param, click.Argument)), None)
    far.help = f"{far.help}\n\nWithout --node: {own.short_help}." if own is not None else far.help

    @click.pass_obj
    def run(context: Context, /, **given: Any) -> Any:
        if any(given.get(name) for name in CHOSEN):
            return on_node(**given) if on_node is not None else None
        if here is None:
            raise InvalidArgumentsError(f"service {verb} is for services of nodes.", "say which one: --node NODE.")
        names = {"name": given[unit.name]} if unit is not None and unit.name else {}
        return here(as_json=given["as_json"], **names)

    far.callback = run
    return far
