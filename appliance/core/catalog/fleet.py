"""Actions on the machines that are reached over SSH."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.model import Role
from appliance.errors import ShellError


class Node(Params):
    """One machine."""

    node: str = Field(min_length=1, max_length=63, description="Name of the machine")


def fleet_actions(shell: Links, own: OwnKey) -> list[Action]:
    """List, show the key, try a machine.

    Args:
        shell: Reaches them.
        own: The appliance's own key.
    """

    async def nodes(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return [_told(name, shell) for name in shell.nodes()]

    async def key(_: Invocation, __: NoParams) -> dict[str, str]:
        return {"public_key": await asyncio.to_thread(own.public)}

    async def check(_: Invocation, params: Node) -> dict[str, Any]:
        began = time.monotonic()
        answer = await shell.run(params.node, ["uname", "-nrm"])
        if answer.exit_status:
            told = answer.stderr.decode(errors="replace").strip()
            raise ShellError(f"{params.node} lets us in, and does not run uname: {told}.", "look at that user's login shell.")
        said = answer.stdout.decode(errors="replace").strip()
        return {**_told(params.node, shell), "answer": said, "took_ms": round(1000 * (time.monotonic() - began), 1)}

    return [
        Action("fleet.nodes", "List the machines that are reached over SSH", nodes, query=True, role=Role.viewer),
        Action("fleet.key", "Show the public key with which the appliance logs in", key, query=True, role=Role.operator),
        Action("fleet.check", "Log in on a machine and say what came of it", check, params=Node, positional=("node",)),
    ]


def _told(name: str, shell: Links) -> dict[str, Any]:
    node = shell.node(name)
    return {
        "node": name, "host": node.host, "port": node.port, "user": node.user,
        "key": node.key_file or "the appliance's own", "host_key": node.host_key,
    }  # fmt: skip
