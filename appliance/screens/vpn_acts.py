"""What the keys of the VPN page do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from appliance.core.vpn.status import PeerState, PeerStatus
from appliance.screens import vpn_view as view
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.vpn_code import drawn, room

if TYPE_CHECKING:
    from appliance.screens.vpn import Vpn

ADDED = ("name", "public_key", "endpoint", "networks", "node", "expires")
CHANGED = ("endpoint", "networks", "node", "keepalive", "expires")
AROUND = (8, 6)
"""Columns and lines of the dialog around its text."""


class Acts:
    """Dialogs and invocations of one VPN page.

    Args:
        page: It.
    """

    def __init__(self, page: Vpn) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        free = {"add": self._add, "reconcile": self._reconcile}
        if what in free:
            self._flows.start(free[what](), what)
            return
        peer = self._page.peer
        if peer is not None:
            flow = {
                "explain": self._explain, "export": self._export, "switch": self._switch, "rotate": self._rotate,
                "provision": self._provision, "change": self._change, "remove": self._remove,
            }[what]  # fmt: skip
            self._flows.start(flow(peer), what)

    def open(self, key: str) -> None:
        """All of a peer."""
        self._flows.start(self._show(key), "peer")

    async def _show(self, name: str) -> None:
        await self._flows.show(f"Peer {name}", await self._page.console.invoke("vpn.peer-show", {"name": name}))

    async def _add(self) -> None:
        added = await ask_for(self._page, "vpn.peer-add", "Add a peer", ADDED)
        if added is not None:
            self._page.choose(added.name)
            own = "e shows its file, once" if added.exportable else "its own file is made there"
            self._page.say(f"{added.name} is added, {', '.join(added.addresses)}; {own}", "ok")

    async def _reconcile(self) -> None:
        done = await self._flows.invoke("vpn.reconcile", {})
        self._page.say(f"changed: {done['changed']}", "ok")

    async def _explain(self, peer: PeerStatus) -> None:
        self._page.say(f"looking at {peer.name}; this takes up to ten seconds")
        answer = await self._page.console.invoke("vpn.explain", {"name": peer.name})
        await self._flows.read(f"How {peer.name} is: {answer.state.value}", view.explained(msgspec.to_builtins(answer)))

    async def _export(self, peer: PeerStatus) -> None:
        answer = await self._flows.invoke("vpn.peer-export", {"name": peer.name})
        app = self._page.spark
        full = app.caps.full_glyphs
        columns, lines = room(answer["qr"], full=full) if answer["qr"] else (0, 0)
        fits = columns <= self._page.size.width - AROUND[0] and lines <= self._page.size.height - AROUND[1] and columns > 0
        short = "" if fits else f"A code would take {columns} x {lines} cells: use a larger terminal, or copy the file."
        code = drawn(answer["qr"], full=full, dark_on_light=app.look.name == "light") if fits else []
        await self._flows.read(f"{peer.name}: /etc/wireguard/{answer['file']}", view.exported(answer, code, short))

    async def _switch(self, peer: PeerStatus) -> None:
        on = peer.enabled and peer.state is not PeerState.expired
        verb, done = ("disable", "is cut off") if on else ("enable", "may come in again")
        await self._flows.do(f"vpn.peer-{verb}", {"name": peer.name}, f"{peer.name} {done}")

    async def _rotate(self, peer: PeerStatus) -> None:
        if peer.rotation:
            await self._flows.do("vpn.peer-rotate", {"name": peer.name, "undo": True}, f"{peer.name} keeps its old keys")
            return
        after = await self._flows.invoke("vpn.peer-rotate", {"name": peer.name})
        told = "has new keys" if not after.rotation else "gets new keys when its new file is used; e shows it"
        self._page.say(f"{peer.name} {told}", "ok")

    async def _provision(self, peer: PeerStatus) -> None:
        await self._flows.do("vpn.peer-provision", {"name": peer.name}, f"{peer.name} is set up and connected")

    async def _change(self, peer: PeerStatus) -> None:
        title = f"Change what is given of {peer.name}"
        if await ask_for(self._page, "vpn.peer-change", title, CHANGED, {"name": peer.name}) is not None:
            self._page.say(f"{peer.name} is changed", "ok")

    async def _remove(self, peer: PeerStatus) -> None:
        await self._flows.do("vpn.peer-remove", {"name": peer.name}, f"{peer.name} is removed")
