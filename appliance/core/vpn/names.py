"""Names, networks and places of the VPN, as operators write them."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from appliance.errors import InvalidArgumentsError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
INTERFACE = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
"""As wg-quick(8) takes them; the kernel has room for 15 characters."""
HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Place(NamedTuple):
    """Where a peer is reached, as somebody wrote it: a name or an address, and a port."""

    host: str
    port: int

    @property
    def literal(self) -> bool:
        """The host is an address: there is nothing to resolve."""
        return is_address(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def name(text: str) -> str:
    """A peer's name. Raises InvalidArgumentsError."""
    if NAME.fullmatch(text) is None:
        raise InvalidArgumentsError(
            f"{text[:40]!r} is no name of a peer.", "use 1 to 31 of a-z, 0-9, dash, underscore; a letter or digit first."
        )
    return text


def slug(text: str) -> str:
    """The nearest name to a text; empty where nothing of it can be used."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:31].rstrip("-_")


def network(text: str) -> str:
    """A network in its one right spelling; a bare address is a network of one. Raises InvalidArgumentsError."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise InvalidArgumentsError(f"{text[:60]!r} is no network.", "write it as 192.168.1.0/24 or fd00:8::/64.") from None


def interface(text: str) -> str:
    """An address with its prefix length; a bare one gets the whole length. Raises InvalidArgumentsError."""
    try:
        return str(ipaddress.ip_interface(text.strip()))
    except ValueError:
        raise InvalidArgumentsError(f"{text[:60]!r} is no address.", "write it as 10.8.0.5/32 or fd00:8::5/128.") from None


def place(text: str) -> Place:
    """HOST:PORT, where an IPv6 address stands in brackets. Raises InvalidArgumentsError."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    named = not bracketed and not _like_address(bare) and HOST.fullmatch(bare) is not None
    good = (":" in bare) == bracketed if is_address(bare) else named
    if not colon or not good or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) <= 65535:
        raise InvalidArgumentsError(
            f"{text[:80]!r} is no place to reach a peer at.",
            "write HOST:PORT, such as vpn.example.org:51820 or [2001:db8::1]:51820.",
        )
    return Place(bare, int(port))


def _like_address(text: str) -> bool:
    """Only digits and dots: an address with a mistake in it, and no name."""
    return re.fullmatch(r"[0-9.]+", text) is not None
