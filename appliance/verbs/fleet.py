"""`fleet …`: verbs that follow what they begin, in the place of those that are made from actions alone."""

from __future__ import annotations

import sys

import click

from appliance.errors import InvalidArgumentsError, NotRunningError
from appliance.paths import socket_address
from appliance.verbs import fleet_files
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
        raise NotRunningError("No appliance runs here.", "start it with `prime-spark` or `prime-spark headless`.") from error


OWN = {"shell": shell, "put": fleet_files.put, "get": fleet_files.get, "sync": fleet_files.sync}


def nest(group: click.Group) -> None:
    """Own verbs in the place of the actions' where the asker may use these; `sync-plan` is `sync --dry-run`."""
    for name, command in OWN.items():
        if name in group.commands and (name == "shell" or not group.commands[name].hidden):
            group.add_command(command)
    if "sync-plan" in group.commands:
        group.commands["sync-plan"].hidden = True
