"""Interfaces, addresses and routes through netlink (pyroute2). Only the one interface is ever touched.

A dump of hundreds of routes takes pyroute2 a tenth of a second of pure Python: all of it happens in threads.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import msgspec

from appliance.core.vpn.model import Changes
from appliance.errors import TunnelError
from appliance.hw.wireguard.device import network
from appliance.hw.wireguard.faults import failed, wrapped
from appliance.hw.wireguard.space import Space

OUR_ROUTES = 187
"""Number of the "routing protocol" by which routes of ours are known (rtnetlink(7): from 4 on anybody's choice)."""
KERNEL_ROUTES = 2
MAIN_TABLE = 254
UNICAST = 1
MOST_ELSEWHERE = 1000
UP = 1
NO_DAD = 2
"""IFA_F_NODAD: nobody else is on the link who could have the address."""
GONE = (3, 19, 99)
"""ESRCH, ENODEV, EADDRNOTAVAIL: what was to go is not there."""
FILE_EXISTS = 17
NO_WIREGUARD = (93, 95)
"""EPROTONOSUPPORT, EOPNOTSUPP."""
T = TypeVar("T")


class Link(msgspec.Struct, frozen=True):
    """An interface."""

    index: int
    kind: str
    mtu: int
    up: bool


class Routes(msgspec.Struct, frozen=True):
    """Networks by where they lead."""

    ours: tuple[str, ...] = ()
    """Into the interface, made by us."""
    others: tuple[str, ...] = ()
    """Into the interface, made by somebody else."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Through other interfaces, with their names."""


class Links:
    """One interface's link, addresses and routes in one namespace."""

    def __init__(self, name: str, space: Space) -> None:
        self.name, self._space = name, space

    async def _within(self, doing: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """What some requests over one netlink socket give, in a thread; its errors become TunnelError."""
        library, netlink_error = await asyncio.to_thread(_library)

        async def requests() -> T:
            async with library() as route:
                return await work(route)

        try:
            return await self._space.work(requests)
        except (OSError, netlink_error) as error:
            raise wrapped(f"{doing} {self.name}", error) from None

    async def find(self) -> Link | None:
        """The interface; None where there is none of that name."""
        return await self._within("look for", self._find)

    async def _find(self, route: Any) -> Link | None:
        for link in [each async for each in await route.get_links()]:
            if link.get("ifname") == self.name:
                kind = link.get(("linkinfo", "kind")) or ""
                return Link(link["index"], kind, int(link.get("mtu") or 0), bool(link["flags"] & UP))
        return None

    async def _must(self, route: Any) -> Link:
        link = await self._find(route)
        if link is None:
            raise failed(f"change {self.name}", 19, "there is no such interface any more")
        return link

    async def make(self) -> bool:
        """Make the interface; False where the kernel has no WireGuard."""
        return await self._within("make", self._make)

    async def _make(self, route: Any) -> bool:
        _, netlink_error = _library()
        try:
            await route.link("add", ifname=self.name, kind="wireguard")
        except netlink_error as error:
            if error.code in NO_WIREGUARD:
                return False
            raise
        return True

    async def delete(self) -> None:
        """Delete the interface; its addresses and routes go with it."""
        await self._within("delete", self._delete)

    async def _delete(self, route: Any) -> None:
        link = await self._find(route)
        if link is not None:
            await _quietly(route.link("del", index=link.index))

    async def read(self) -> tuple[Link | None, tuple[str, ...], Routes]:
        """The link, its addresses, and what is routed."""
        return await self._within("read", self._read)

    async def _read(self, route: Any) -> tuple[Link | None, tuple[str, ...], Routes]:
        link = await self._find(route)
        if link is None:
            return None, (), Routes()
        return link, await _addresses(route, link.index), await _routes(route, link.index)

    async def apply(self, changes: Changes) -> None:
        """MTU, addresses, up, routes, in this order.

        Raises:
            TunnelError: Something was refused; what does not depend on it is done all the same.
        """
        await self._within("change", lambda route: self._apply(route, changes))

    async def _apply(self, route: Any, changes: Changes) -> None:
        link = await self._must(route)
        before = await _routes(route, link.index)
        _must_be_apart(changes.add_addresses, before)
        if changes.mtu is not None:
            await route.link("set", index=link.index, mtu=changes.mtu)
        await self._change_addresses(route, link.index, changes)
        if changes.up:
            await route.link("set", index=link.index, state="up")
        kept = [each for each in before.ours if each not in changes.remove_routes]
        await self._change_routes(route, link.index, changes, kept if changes.remove_addresses else [])

    async def _change_addresses(self, route: Any, index: int, changes: Changes) -> None:
        """Deleting an IPv4 address takes its secondaries with it: what was lost that way is put back."""
        if not changes.add_addresses and not changes.remove_addresses:
            return
        before = await _addresses(route, index)
        wanted = [*(each for each in before if each not in changes.remove_addresses), *changes.add_addresses]
        for each in changes.remove_addresses:
            await _quietly(route.addr("del", index=index, **_address(each)))
        present = await _addresses(route, index)
        for each in wanted:
            if each not in present:
                flags = {"flags": NO_DAD} if ":" in each else {}
                await _if_new(route.addr("add", index=index, **_address(each), **flags))

    async def _change_routes(self, route: Any, index: int, changes: Changes, kept: Iterable[str]) -> None:
        """Routes of ours that went with an address are made again."""
        for each in changes.remove_routes:
            await _quietly(route.route("del", **_our_route(each, index)))
        wanted = {*kept, *changes.add_routes}
        if not wanted:
            return
        there = await _routes(route, index)
        elsewhere = {net for net, _ in there.elsewhere}
        taken = [
            each for each in sorted(wanted - {*there.ours, *there.others})
            if each in elsewhere or not await _routed(route, each, index)
        ]  # fmt: skip
        if taken:
            raise _taken(taken)


def _must_be_apart(addresses: Iterable[str], routes: Routes) -> None:
    """An address brings a route to its network, before which another interface's of a higher metric would count no more."""
    elsewhere = {net for net, _ in routes.elsewhere}
    networks = [str(ipaddress.ip_interface(each).network) for each in addresses]
    if taken := [each for each in networks if each in elsewhere and each != "fe80::/64"]:
        raise _taken(taken)


def _taken(networks: list[str]) -> TunnelError:
    return TunnelError(
        f"{', '.join(networks[:5])} {'is' if len(networks) == 1 else 'are'} already routed through another interface.",
        f"choose other networks for the VPN, or remove that route: ip route show {networks[0]}",
    )


def _library() -> tuple[Any, Any]:
    """pyroute2's socket and its error; the first call takes half a second and belongs in a thread."""
    from pyroute2.iproute.linux import AsyncIPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    return AsyncIPRoute, NetlinkError


def _our_route(text: str, index: int) -> dict[str, Any]:
    """As it is made, and as it must be named to be deleted: with another scope the kernel finds none."""
    scope = {} if ":" in text else {"scope": "link"}
    return {"dst": text, "oif": index, "proto": OUR_ROUTES, **scope}


async def _routed(route: Any, text: str, index: int) -> bool:
    """Add one of our routes; False where somebody else has the network."""
    _, netlink_error = _library()
    try:
        await route.route("add", **_our_route(text, index))
    except netlink_error as error:
        if error.code == FILE_EXISTS:
            return False
        raise
    return True


async def _quietly(request: Any) -> None:
    """What was to go may be gone."""
    _, netlink_error = _library()
    try:
        await request
    except netlink_error as error:
        if error.code not in GONE:
            raise


async def _if_new(request: Any) -> None:
    _, netlink_error = _library()
    try:
        await request
    except netlink_error as error:
        if error.code != FILE_EXISTS:
            raise


def _address(text: str) -> dict[str, Any]:
    each = ipaddress.ip_interface(text)
    return {"address": str(each.ip), "prefixlen": each.network.prefixlen}


async def _addresses(route: Any, index: int) -> tuple[str, ...]:
    found = []
    async for each in await route.get_addr(index=index):
        address = each.get("local") or each.get("address")
        found.append(str(ipaddress.ip_interface(f"{address}/{each['prefixlen']}")))
    return tuple(found)


async def _routes(route: Any, index: int) -> Routes:
    """Networks by the main table; those that the kernel routes into the interface come with its addresses."""
    names = {each["index"]: each.get("ifname") async for each in await route.get_links()}
    found: dict[str, list[Any]] = {"ours": [], "others": [], "elsewhere": []}
    async for each in await route.get_routes(table=MAIN_TABLE):
        out = each.get("oif")
        if each["type"] != UNICAST or out is None:
            continue
        anywhere = "::" if each["family"] == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 (a network, nothing is bound)
        net = network(each.get("dst") or anywhere, each["dst_len"])
        if out != index:
            found["elsewhere"].append((net, names.get(out, "?")))
        elif each["proto"] != KERNEL_ROUTES:
            found["ours" if each["proto"] == OUR_ROUTES else "others"].append(net)
    return Routes(tuple(found["ours"]), tuple(found["others"]), tuple(found["elsewhere"][:MOST_ELSEWHERE]))
