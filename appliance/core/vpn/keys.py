"""Keys of WireGuard: made, checked, and turned from private to public. Base64 of 32 bytes, as wg(8) writes them."""

from __future__ import annotations

import base64
import binascii
import os

import msgspec

from appliance.errors import InvalidArgumentsError

SIZE = 32
"""Bytes of every key."""
NOTHING = bytes(SIZE)


class KeyPair(msgspec.Struct, frozen=True):
    """A private key and its public one. Never shown."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public[:8]}…)"

    __rich_repr__ = None  # type: ignore[assignment]  # Rich would print every field


def clamp(raw: bytes) -> bytes:
    """Random bytes as a scalar of X25519 (RFC 7748, section 5)."""
    return bytes([raw[0] & 248, *raw[1:31], (raw[31] & 127) | 64])


def make_pair() -> KeyPair:
    """A fresh pair of keys from the system's randomness."""
    private = base64.b64encode(clamp(os.urandom(SIZE))).decode()
    return KeyPair(private, public_of(private))


def make_preshared() -> str:
    """A fresh pre-shared key."""
    return base64.b64encode(os.urandom(SIZE)).decode()


def public_of(private: str) -> str:
    """The public key of a private one. Raises InvalidArgumentsError; the message does not repeat the key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.from_private_bytes(base64.b64decode(checked(private, "private key")))
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def checked(text: str, what: str = "public key") -> str:
    """A key in its one right spelling.

    Args:
        text: As somebody wrote it.
        what: Which key it is, for the message.

    Raises:
        InvalidArgumentsError: It is no key; the message does not repeat it, for it may be a secret.
    """
    if problem := fault(text):
        raise InvalidArgumentsError(
            f"This is no {what}: {problem}.", "write the 44 characters that `wg pubkey` or `wg genkey` gives."
        )
    return text.strip()


def fault(text: str) -> str:
    """What is wrong with a key; empty where nothing is."""
    text = text.strip()
    if len(text) != 44 or not text.isascii():
        return f"it has {len(text)} characters, and not 44 of Base64"
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "it is not Base64"
    if len(raw) != SIZE:
        return f"it has {len(raw)} bytes, and not {SIZE}"
    if base64.b64encode(raw).decode() != text:
        return "its last character has bits that belong to no key"
    return "it is all zeros" if raw == NOTHING else ""


def short(public: str) -> str:
    """A public key as it is told in a sentence."""
    return f"{public[:8]}…"
