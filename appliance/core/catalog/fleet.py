"""Actions on the inventory and on the links: which machines there are, and how they are reached."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from pydantic import Field, SecretStr, field_validator

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.fleet import link_sudo
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.fleet.trust import Keys, Trust
from appliance.core.model import Role
from appliance.core.secrets import Secrets
from appliance.errors import InvalidArgumentsError, NotAllowedError, ShellError
from appliance.settingfleet import NAME

LONGEST = 63
"""Characters of a machine's name."""
FIELDS = ("host", "port", "user", "role", "vpn_address", "jump", "key_file", "groups", "tags", "services", "sudo", "mac")
"""What add and change set of a machine, as the file has it."""


@dataclass(frozen=True)
class Desk:
    """What the actions work on.

    Attributes:
        inventory: The machines.
        links: The ways to them.
        own: The appliance's own key.
        secrets: Takes passwords for sudo.
        trust: Confirms host keys.
    """

    inventory: FleetInventory
    links: Links
    own: OwnKey
    secrets: Secrets
    trust: Trust


class NodeName(Params):
    """One machine."""

    node: str = Field(min_length=1, max_length=LONGEST, description="Name of the machine")


class Trusting(NodeName):
    """A host key to be confirmed."""

    fingerprint: str = Field(
        "", max_length=60, description="SHA256:… as ssh-keygen -lf prints it there; without it, what it shows"
    )
    replace: bool = Field(False, description="Instead of another one that was confirmed before")


class Values(Params):
    """What is set of a machine; what is not given stays, an empty value puts back the default."""

    port: int | None = Field(None, ge=1, le=65535, description="TCP port of its SSH server; 22")
    user: str | None = Field(None, max_length=33, description="Who to be there; root")
    role: str | None = Field(None, max_length=60, description="What it is for")
    vpn_address: str | None = Field(
        None, max_length=253, description="Its address in the VPN, tried where the host does not answer"
    )
    jump: str | None = Field(None, max_length=LONGEST, description="Name of the machine through which it is reached")
    key_file: str | None = Field(None, max_length=4096, description="Private key; the appliance's own where there is none")
    groups: list[str] | None = Field(None, max_length=32, description="Groups that it belongs to")
    tags: list[str] | None = Field(None, max_length=32, description="Further marks, each KEY=VALUE")
    services: list[str] | None = Field(
        None, max_length=64, description="What must run there: NAME.service, compose:PROJECT, tcp:PORT"
    )
    sudo: Literal["", "never", "auto", "password"] | None = Field(None, description="How its user becomes root; auto")
    mac: str | None = Field(None, max_length=17, description="Address of its network card, to wake it")

    @field_validator("tags")
    @classmethod
    def _pairs(cls, tags: list[str] | None) -> list[str] | None:
        if wrong := next((each for each in tags or () if "=" not in each), None):
            raise ValueError(f"{wrong[:40]!r} is no KEY=VALUE")
        return tags

    def written(self) -> dict[str, Any]:
        """The fields that are given, as the file has them; None for those that go back to the default."""
        found: dict[str, Any] = {}
        for name in FIELDS:
            value = getattr(self, name)
            if value is None:
                continue
            if name == "tags":
                value = dict(each.partition("=")[::2] for each in value)
            found[name] = value or None
        return found


class Adding(Values):
    """A new machine."""

    node: str = Field(min_length=1, max_length=LONGEST, pattern=NAME, description="Letters, digits, dot, dash, underscore")
    host: str = Field(min_length=1, max_length=253, description="Name or address; or an alias of ~/.ssh/config")


class Changing(Values):
    """What is to be another way of a machine."""

    node: str = Field(min_length=1, max_length=LONGEST, description="Name of the machine")
    host: str | None = Field(None, min_length=1, max_length=253, description="Name or address")


class Maintaining(NodeName):
    """Setting a machine aside."""

    off: bool = Field(False, description="The maintenance is over")


class SudoPassword(NodeName):
    """A password for sudo."""

    password: SecretStr = Field(max_length=1024, description="Of the user there; empty: forget it")


class Choosing(Params):
    """Machines."""

    selector: list[str] = Field(
        ["all"], max_length=1000, description="Names, group:NAME, tag:KEY=VALUE, role:NAME, all; ! before one leaves it out"
    )


def fleet_actions(desk: Desk) -> list[Action]:
    """All of the inventory and the links."""
    return [*_showing(desk), *_trusting(desk), *_changing(desk)]


def _showing(desk: Desk) -> list[Action]:
    async def nodes(_: Invocation, params: Choosing) -> list[dict[str, Any]]:
        if not desk.inventory.all():
            return []
        return [_told(desk, each) for each in desk.inventory.select(params.selector)]

    async def key(_: Invocation, __: NoParams) -> dict[str, str]:
        return {"public_key": await asyncio.to_thread(desk.own.public)}

    async def groups(_: Invocation, __: NoParams) -> dict[str, list[str]]:
        return {name: list(members) for name, members in desk.inventory.groups().items()}

    async def check(_: Invocation, params: NodeName) -> dict[str, Any]:
        node = desk.inventory.get(params.node)
        began = time.monotonic()
        answer = await desk.links.run(node.name, ["uname", "-nrm"])
        took = round(1000 * (time.monotonic() - began), 1)
        if answer.exit_status:
            told = answer.stderr.decode(errors="replace").strip()
            raise ShellError(f"{params.node} lets us in, and does not run uname: {told}.", "look at that user's login shell.")
        said = answer.stdout.decode(errors="replace").strip()
        return {**_told(desk, node), "answer": said, "took_ms": took, "root": await _root(desk, node)}

    return [
        Action("fleet.nodes", "List the machines, and how they are reached", nodes, params=Choosing, positional=("selector",),
               query=True, role=Role.viewer),
        Action("fleet.groups", "List the groups of machines", groups, query=True, role=Role.viewer),
        Action("fleet.key", "Show the public key with which the appliance logs in", key, query=True, role=Role.operator),
        Action("fleet.check", "Log in on a machine and say what came of it", check, params=NodeName, positional=("node",),
               timeout=90.0),
    ]  # fmt: skip


async def _root(desk: Desk, node: Node) -> str:
    """How the user becomes root there, or why not."""
    if node.user == "root":
        return "logged in as root"
    try:
        answer = await desk.links.run(node.name, ["id", "-u"], sudo=True)
    except NotAllowedError as error:
        return f"no: {error}"
    return "by sudo" if answer.stdout.strip() == b"0" else f"no: sudo ended with {answer.exit_status}"


def _trusting(desk: Desk) -> list[Action]:
    async def trust(_: Invocation, params: Trusting) -> dict[str, Any]:
        if not params.fingerprint:
            return _keys(params.node, await desk.trust.look(params.node))
        keys = await desk.trust.confirm(params.node, params.fingerprint, replace=params.replace)
        desk.links.refresh()
        return _keys(params.node, keys)

    async def sudo_password(_: Invocation, params: SudoPassword) -> dict[str, Any]:
        node, text = desk.inventory.get(params.node), params.password.get_secret_value()
        if re.search(r"[\r\n\0]", text):
            raise InvalidArgumentsError("A password for sudo is one line.", "give it without line ends.")
        name = link_sudo.secret_name(node.name)
        await asyncio.to_thread(desk.secrets.put, name, text.encode()) if text else await asyncio.to_thread(
            desk.secrets.remove, name
        )
        return {"node": node.name, "sudo": node.sudo, "stored": bool(text)}

    return [
        Action("fleet.trust", "Show or confirm a machine's host key", trust, params=Trusting, positional=("node",),
               role=Role.admin, timeout=90.0),
        Action("fleet.sudo-password", "Store the password that sudo wants on a machine", sudo_password, params=SudoPassword,
               positional=("node",), role=Role.admin),
    ]  # fmt: skip


def _keys(name: str, keys: Keys) -> dict[str, Any]:
    trusted = keys.confirmed in keys.shown.values()
    return {"node": name, "shows": keys.shown, "confirmed": keys.confirmed, "trusted": trusted}


def _changing(desk: Desk) -> list[Action]:
    async def add(_: Invocation, params: Adding) -> dict[str, Any]:
        values = {"host": params.host, **{key: value for key, value in params.written().items() if value is not None}}
        return _told(desk, await asyncio.to_thread(desk.inventory.add, params.node, values))

    async def change(_: Invocation, params: Changing) -> dict[str, Any]:
        values = params.written()
        if not values:
            raise InvalidArgumentsError("Nothing was given to change.", "name a field, such as --user or --groups.")
        node = await asyncio.to_thread(desk.inventory.change, params.node, values)
        desk.links.refresh()
        return _told(desk, node)

    async def remove(_: Invocation, params: NodeName) -> None:
        await asyncio.to_thread(desk.inventory.remove, params.node)
        await asyncio.to_thread(desk.secrets.remove, link_sudo.secret_name(params.node))
        desk.links.refresh()

    async def maintenance(_: Invocation, params: Maintaining) -> dict[str, Any]:
        await asyncio.to_thread(desk.inventory.set_aside, params.node, not params.off)
        desk.links.refresh()
        return _told(desk, desk.inventory.get(params.node))

    async def there(params: Any) -> Node:
        return desk.inventory.get(params.node)

    return [
        Action("fleet.add", "Take up a machine", add, params=Adding, positional=("node",), role=Role.admin),
        Action("fleet.change", "Change how a machine is reached, or what it belongs to", change, params=Changing,
               positional=("node",), role=Role.admin),
        Action("fleet.remove", "Forget a machine", remove, params=NodeName, positional=("node",), role=Role.admin,
               dangerous=True, confirm_text="Forget the machine {node}, its host key and its password for sudo?",
               look_up=there),
        Action("fleet.maintenance", "Set a machine aside so that nothing contacts it, or take it back", maintenance,
               params=Maintaining, positional=("node",)),
    ]  # fmt: skip


def _told(desk: Desk, node: Node) -> dict[str, Any]:
    fields = msgspec.to_builtins(node)
    name, key = fields.pop("name"), fields.pop("key_file")
    link = desk.links.link(node.name)
    return {
        "node": name, **fields, "key": key or "the appliance's own", "link": link.reach.value, "address": link.address,
        "reason": link.reason, "next_step": link.next_step, "offered_key": link.offered_key,
    }  # fmt: skip
