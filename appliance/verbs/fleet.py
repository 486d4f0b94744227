"""`fleet …`: verbs that follow what they begin, in the place of those that are made from actions alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from appliance.away import none_runs
from appliance.core.actions import ActionInfo
from appliance.errors import InvalidArgumentsError
from appliance.paths import socket_address
from appliance.verbs import fleet_files, fleet_run
from appliance.verbs.client import Client
from appliance.verbs.context import Context, pass_context
from appliance.verbs.forms import Command


@click.command("shell", cls=Command)
@click.argument("node")
@pass_context
def shell(context: Context, node: str) -> int:
    """Open an interactive shell on a node, in this terminal; Ctrl-] leaves it.

    Its exit status becomes this command's. Over SSH: ssh -t -p 8022 USER@APPLIANCE fleet shell NODE
    """
    from appliance.session.handover import attach

    if context.client.local or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgumentsError(
            "A shell needs a terminal.", "use it in one (over SSH: ssh -t), or run a command with `fleet run`."
        )
    try:
        return attach(socket_address(context.paths.console_socket), context.environ, node)
    except OSError as error:
        raise none_runs(context.paths.run) from error


OWN = {"shell": shell, "put": fleet_files.put, "get": fleet_files.get, "sync": fleet_files.sync}


def nest(group: click.Group, actions: Mapping[str, ActionInfo], client: Client) -> None:
    """Own verbs in the place of the actions' where the asker may use these; the others select nodes and follow.

    Args:
        group: `fleet`, as it is made from the actions.
        actions: These, by name.
        client: Of whoever asks.
    """
    for name, made in list(group.commands.items()):
        action = actions.get(f"fleet.{name}")
        if action is None or not client.may(action):
            continue
        if name in OWN:
            group.add_command(OWN[name])
        elif "nodes" in action.parameters.get("properties", {}) and name != "sync-plan":
            group.add_command(fleet_run.on_nodes(made, action))
        elif action.name in fleet_run.FOLLOWED:
            group.add_command(fleet_run.followed(made, action))
    if "sync-plan" in group.commands:
        group.commands["sync-plan"].hidden = True
