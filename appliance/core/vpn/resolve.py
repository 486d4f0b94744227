"""Names of endpoints into addresses: in threads of their own, and never for longer than a few seconds."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from appliance.core.vpn.model import Endpoint
from appliance.core.vpn.names import Place
from appliance.errors import TunnelError

log = logging.getLogger(__name__)

LIMIT = 5.0
"""Seconds for one name; a resolver that hangs keeps its thread for longer, and others go on."""
THREADS = 4

Lookup = Callable[..., list[tuple[Any, ...]]]


class Resolver:
    """Asks the system's resolver.

    Args:
        lookup: As socket.getaddrinfo.
        limit: Seconds for one name.
    """

    def __init__(self, lookup: Lookup = socket.getaddrinfo, limit: float = LIMIT) -> None:
        self._lookup = lookup
        self._limit = limit
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[Place, asyncio.Future[list[tuple[Any, ...]]]] = {}
        """What threads are busy with: a name is asked for once, however many want it."""

    async def resolve(self, place: Place) -> tuple[Endpoint, ...]:
        """All addresses of a place, the system's favourite first; an address is itself.

        Raises:
            TunnelError: The name has none, or nobody answered in time.
        """
        if place.literal:
            return (Endpoint(place.host, place.port),)
        try:
            async with asyncio.timeout(self._limit):
                found = await asyncio.shield(self._ask(place))
        except TimeoutError as error:
            raise TunnelError(
                f"No name server answered for {place.host} within {self._limit:g} s.", "check /etc/resolv.conf."
            ) from error
        except (OSError, UnicodeError) as error:
            told = getattr(error, "strerror", None) or error
            raise TunnelError(
                f"{place.host} has no address: {told}.", "check the name, and this machine's name server."
            ) from error
        there = tuple(dict.fromkeys(Endpoint(str(each[4][0]).partition("%")[0], place.port) for each in found))
        usable = tuple(each for each in there if _is_machine(each.address))
        if not usable:  # servers that block a name answer 0.0.0.0, or nothing at all
            told = f"{place.host} means {there[0].address}, which is no machine." if there else f"{place.host} has no address."
            raise TunnelError(told, "check the name, and whether this machine's name server blocks it.")
        return usable

    def _ask(self, place: Place) -> asyncio.Future[list[tuple[Any, ...]]]:
        asked = self._asked.get(place)
        if asked is not None:
            return asked
        if len(self._asked) >= THREADS:
            told = f"{place.host} was not looked up: {THREADS} other names wait for the resolver."
            raise TunnelError(told, "check /etc/resolv.conf.")
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._threads(), self._lookup, place.host, place.port, 0, socket.SOCK_DGRAM)
        self._asked[place] = asked
        asked.add_done_callback(lambda done: self._done(place, done))
        return asked

    def _done(self, place: Place, done: asyncio.Future[list[tuple[Any, ...]]]) -> None:
        self._asked.pop(place, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.debug("%s was not found: %s", place.host, error)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "vpn names")
        return self._pool

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _is_machine(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not (address.is_unspecified or address.is_multicast)
