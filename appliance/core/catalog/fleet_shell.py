"""The action that opens an interactive shell on a node. Only a console can use what it gives: its terminal is handed over."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from appliance.core.actions import Action, Invocation, Params
from appliance.core.fleet.model import FleetShell
from appliance.core.fleet.terminals import Terminals
from appliance.core.model import Role


class Shell(Params):
    """Where, and for which terminal."""

    node: str = Field(min_length=1, max_length=64, description="Name of the node")
    term: str = Field("xterm-256color", pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$", description="Kind of terminal (TERM)")
    columns: int = Field(80, ge=1, le=1000, description="Its columns")
    rows: int = Field(24, ge=1, le=1000, description="Its rows")


def shell_actions(shell: FleetShell, terminals: Terminals) -> list[Action]:
    """Open one.

    Args:
        shell: Reaches the nodes.
        terminals: Keeps it for the console.
    """

    async def open_one(call: Invocation, params: Shell) -> dict[str, Any]:
        terminals.check()
        user = shell.node(params.node).user
        terminal = await shell.terminal(params.node, params.term, params.columns, params.rows)
        return {"terminal": terminals.offer(terminal, params.node, call.actor), "node": params.node, "user": user}

    return [
        Action("fleet.shell", "Open an interactive shell on a node", open_one, params=Shell, role=Role.admin, timeout=60.0,
               positional=("node",), hidden=True),
    ]  # fmt: skip
