"""Actions on the VPN: its peers, their keys and files, and why one is down."""

from __future__ import annotations

import base64
import binascii
import functools
import re
import time
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.model import Role
from appliance.core.vpn import names
from appliance.core.vpn.desk import Desk, Wish
from appliance.core.vpn.evidence import Examiner
from appliance.core.vpn.otherside import OtherSide
from appliance.core.vpn.peers import REACH
from appliance.core.vpn.service import VpnService, told
from appliance.core.vpn.status import Explanation, PeerStatus, VpnStatus
from appliance.errors import InvalidArgumentsError

LONGEST = 31
"""Characters of a name."""
UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


class PeerName(Params):
    """One peer."""

    name: str = Field(min_length=1, max_length=LONGEST, description="Name of the peer")


class Values(Params):
    """What is set of a peer; what is not given stays as it is, or has its default."""

    address: list[str] = Field([], max_length=2, description="Its address in the VPN; a free one is taken where none is given")
    networks: list[str] | None = Field(None, max_length=REACH, description="Networks behind it, such as 192.168.7.0/24")
    endpoint: str | None = Field(None, max_length=260, description="HOST:PORT where it is reached; empty: it finds this hub")
    keepalive: int | None = Field(None, ge=0, le=65535, description="Seconds between signs of life; 0 for none; 25")
    node: str | None = Field(None, max_length=64, description="Its name in the inventory, where it is reached over SSH")
    node_interface: str | None = Field(
        None, max_length=15, pattern=r"^[A-Za-z0-9_=+.-]{0,15}$", description="Interface there; as here where it is not given"
    )
    reach: list[str] | None = Field(None, max_length=REACH, description="Networks it may reach through the hub (vpn.isolate)")
    expires: str | None = Field(None, max_length=40, description='When it is over: "30d", "12h", a date, or "never"')
    watched: bool | None = Field(None, description="An alert tells when it is down")


class Adding(Values):
    """A new peer."""

    name: str = Field(min_length=1, max_length=LONGEST, description="Lower case letters, digits, dash, underscore")
    public_key: str | None = Field(None, max_length=60, description="Its public key; a pair is made here where none is given")


class Changing(Values):
    """What is to be another way of a peer."""

    name: str = Field(min_length=1, max_length=LONGEST, description="Name of the peer")


class Enabling(PeerName):
    """Let a peer in again."""

    expires: str | None = Field(None, max_length=40, description='Until when: "30d", "12h", a date, or "never"')


class Exporting(PeerName):
    """A peer's own file."""

    endpoint: str = Field("", max_length=260, description="HOST:PORT of this hub, where it is another one for this peer")


class Rotating(PeerName):
    """New keys for a peer."""

    undo: bool = Field(False, description="Give a rotation up that is under way")


class Provisioning(PeerName):
    """A node's own side, over SSH."""

    endpoint: str = Field("", max_length=260, description="HOST:PORT of this hub, where it is another one for this peer")
    replace: bool = Field(False, description="Take the place of a configuration that was not made here; it is kept as .before")


class Importing(Params):
    """A hub's wg-quick file."""

    file: SecretStr = Field(
        max_length=1_500_000,
        description="The wg-quick file of a hub, in Base64; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64", "format": "file"},
    )
    own_key: bool = Field(True, description="Its private key becomes this hub's, so that its peers need no change")

    @field_validator("file")
    @classmethod
    def _is_base64(cls, file: SecretStr) -> SecretStr:
        try:
            base64.b64decode(file.get_secret_value(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise PydanticCustomError("file", "this is no text in Base64") from None
        return file


def moment(text: str | None, now: float) -> float | None:
    """When something ends, as people write it.

    Args:
        text: "30d", "12h", "2030-01-31", "2030-01-31T12:00", "never"; None for no wish.
        now: Wall clock.

    Returns:
        Wall clock; 0 for never; None for no wish.

    Raises:
        InvalidArgumentsError: It is none of these.
    """
    if text is None or text in {"never", ""}:
        return None if text is None else 0.0
    if found := re.fullmatch(r"([0-9]{1,5}(?:\.[0-9]{1,3})?)\s*([mhdw])", text.strip()):
        return now + float(found[1]) * UNITS[found[2]]
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"):
        try:
            return time.mktime(time.strptime(text.strip(), form))
        except (ValueError, OverflowError):
            continue
    raise InvalidArgumentsError(f"{text[:40]!r} is no time.", 'write "30d", "12h", "2030-01-31", or "never".')


def wish_of(form: Values, now: float) -> Wish:
    """What a form asks for. Raises InvalidArgumentsError."""
    return Wish(
        public_key=getattr(form, "public_key", None), addresses=tuple(form.address),
        networks=None if form.networks is None else tuple(form.networks), endpoint=form.endpoint, keepalive=form.keepalive,
        node=form.node, node_interface=form.node_interface, reach=None if form.reach is None else tuple(form.reach),
        expires=moment(form.expires, now), watched=form.watched,
    )  # fmt: skip


def vpn_actions(service: VpnService, desk: Desk, other: OtherSide, examiner: Examiner) -> list[Action]:
    """All of the VPN."""
    return [*_showing(service, examiner), *_peers(service, desk), *_files(service, desk), *_sides(service, other)]


def _showing(service: VpnService, examiner: Examiner) -> list[Action]:
    async def status(_: Invocation, __: NoParams) -> VpnStatus:
        return service.status()

    async def show(_: Invocation, params: PeerName) -> PeerStatus:
        await service.book.one(params.name)
        return next(peer for peer in service.status().peers if peer.name == params.name)

    async def explain(_: Invocation, params: PeerName) -> Explanation:
        return await examiner.explain(params.name)

    async def reconcile(_: Invocation, __: NoParams) -> dict[str, Any]:
        await service.refresh()
        if service.keeper is not None:
            service.keeper.unresolved.clear()  # whoever asks wants every name tried again
        return {"changed": await service.reconcile(), "reconciliations": service.status().reconciliations}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("vpn.status", "Show the VPN and how every peer is", status, brief=told),
        query("vpn.peer-show", "Show everything about a peer", show, params=PeerName, positional=("name",)),
        query(
            "vpn.explain", "Say why a peer is down, from evidence", explain, params=PeerName, positional=("name",), timeout=60.0
        ),
        Action("vpn.reconcile", "Make the tunnel as it should be, now", reconcile, timeout=60.0),
    ]  # fmt: skip


def _peers(service: VpnService, desk: Desk) -> list[Action]:
    async def add(_: Invocation, params: Adding) -> PeerStatus:
        return await desk.add(params.name, wish_of(params, service.clock.wall()))

    async def change(_: Invocation, params: Changing) -> PeerStatus:
        return await desk.change(params.name, wish_of(params, service.clock.wall()))

    async def remove(_: Invocation, params: PeerName) -> dict[str, str]:
        return {"removed": params.name, "problem": await desk.remove(params.name)}

    async def disable(_: Invocation, params: PeerName) -> PeerStatus:
        return await desk.switch(params.name, enabled=False)

    async def enable(_: Invocation, params: Enabling) -> PeerStatus:
        return await desk.switch(params.name, enabled=True, expires=moment(params.expires, service.clock.wall()))

    admin = functools.partial(Action, role=Role.admin, timeout=60.0)
    return [
        admin("vpn.peer-add", "Add a peer to the VPN", add, Adding, positional=("name",)),
        admin("vpn.peer-change", "Change a peer of the VPN", change, Changing, positional=("name",)),
        admin("vpn.peer-remove", "Remove a peer of the VPN with its keys", remove, PeerName, positional=("name",),
            dangerous=True, look_up=lambda params: service.book.one(params.name),
            confirm_text="Remove the peer {name}? It is cut off at once, and its keys are forgotten."),
        admin("vpn.peer-disable", "Let a peer in no more, and keep it", disable, PeerName, positional=("name",),
            dangerous=True, look_up=lambda params: service.book.one(params.name),
            confirm_text="Cut the peer {name} off until it is enabled again?"),
        admin("vpn.peer-enable", "Let a peer in again", enable, Enabling, positional=("name",)),
    ]  # fmt: skip


def _files(service: VpnService, desk: Desk) -> list[Action]:
    async def export(_: Invocation, params: Exporting) -> dict[str, Any]:
        if params.endpoint:
            names.place(params.endpoint)
        return await desk.export(params.name, params.endpoint)

    async def take(_: Invocation, params: Importing) -> dict[str, Any]:
        text = base64.b64decode(params.file.get_secret_value()).decode()
        return await desk.take(text, own_key=params.own_key)

    admin = functools.partial(Action, role=Role.admin, timeout=120.0)
    return [
        admin("vpn.peer-export", "Show a peer's own wg-quick file, once", export, Exporting, positional=("name",),
            dangerous=True, look_up=lambda params: service.book.one(params.name),
            confirm_text="Show the file of {name} with its private key? This once; then the key is forgotten here."),
        admin("vpn.import", "Take over the peers of a hub's wg-quick file", take, Importing),
    ]  # fmt: skip


def _sides(service: VpnService, other: OtherSide) -> list[Action]:
    async def rotate(_: Invocation, params: Rotating) -> PeerStatus:
        return await other.rotate(params.name, undo=params.undo)

    async def provision(_: Invocation, params: Provisioning) -> PeerStatus:
        if params.endpoint:
            names.place(params.endpoint)
        return await other.provision(params.name, endpoint=params.endpoint, replace=params.replace)

    admin = functools.partial(Action, role=Role.admin, timeout=120.0, dangerous=True, positional=("name",))
    return [
        admin("vpn.peer-rotate", "Change a peer's keys without an outage", rotate, Rotating,
            look_up=lambda params: service.book.one(params.name),
            confirm_text="Change the keys of {name}? Its node changes over now; without one, the new keys wait for export."),
        admin("vpn.peer-provision", "Set a peer's own machine up over SSH", provision, Provisioning,
            look_up=lambda params: service.book.one(params.name),
            confirm_text="Set the tunnel of {name} up on its machine? It is taken back where no handshake follows."),
    ]  # fmt: skip
