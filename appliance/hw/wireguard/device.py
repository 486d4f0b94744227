"""What WireGuard itself knows of an interface, whatever carries it: keys, port, mark, peers."""

from __future__ import annotations

import base64
import ipaddress
from typing import Protocol

import msgspec

from appliance.core.vpn.model import ActualPeer, Changes

KEY_BYTES = 32
NO_KEY = bytes(KEY_BYTES)
"""How WireGuard says that there is no key."""


class Device(msgspec.Struct, frozen=True):
    """As it is."""

    public_key: str
    """Empty where it has no private key."""
    listen_port: int
    fwmark: int
    peers: tuple[ActualPeer, ...]

    def __repr__(self) -> str:
        return f"Device({len(self.peers)} peers)"

    __rich_repr__ = None  # type: ignore[assignment]


class Carrier(Protocol):
    """How an interface's WireGuard part is read and changed."""

    backend: str

    async def read(self) -> Device:
        """As it is. Raises TunnelError."""

    async def change(self, changes: Changes) -> None:
        """Key, port, mark and peers, in one message where that is possible. Raises TunnelError."""

    async def rebind(self, device: Device) -> None:
        """Forget local addresses that it sends from."""


def network(address: str, prefix: int | str) -> str:
    """A network in its one right spelling."""
    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))


def raw_key(text: str) -> bytes:
    """32 bytes of a Base64 key; no key for an empty text. Raises ValueError, which does not repeat it."""
    if not text:
        return NO_KEY
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("a key is not Base64") from None
    if len(raw) != KEY_BYTES:
        raise ValueError(f"a key has {len(raw)} bytes, and not {KEY_BYTES}")
    return raw


def key_text(raw: bytes) -> str:
    """A key in Base64; empty for no key."""
    return "" if raw == NO_KEY else base64.b64encode(raw).decode()


def public_of(private: bytes) -> str:
    """The public key of a private one; empty where there is none."""
    if private == NO_KEY:
        return ""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return key_text(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())
