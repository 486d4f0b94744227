"""Signed envelopes: the bytes that a signature is over, making one, checking one (docs/streams.md has it for other programs).

Ed25519 (RFC 8032) over the envelope without its `signature`, as canonical JSON (RFC 8785), UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import rfc8785

from appliance.errors import CommandRefusedError, StreamError

SIGNATURE = "signature"
DEPTH = 32
"""Most levels of a signed document."""


def read(body: bytes) -> dict[str, Any]:
    """The JSON object that a message carries; nothing in it may be read in two ways.

    Raises:
        CommandRefusedError: It is no such object: no UTF-8, no JSON, a key twice, NaN, too deep, half a surrogate pair.
    """
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CommandRefusedError("not JSON", f"The message is no JSON that could be signed: {error}.") from error
    if not isinstance(document, dict):
        raise CommandRefusedError("not JSON", "The message is no JSON object.")
    if not _shallow(document, DEPTH):
        raise CommandRefusedError("not JSON", f"The message is nested deeper than {DEPTH} levels.")
    if not _encodable(document):
        raise CommandRefusedError("not JSON", "The message has half of a surrogate pair, which is no text.")
    return document


def canonical(document: dict[str, Any]) -> bytes:
    """What is signed. Raises StreamError where a number has no canonical form."""
    unsigned = {name: value for name, value in document.items() if name != SIGNATURE}
    try:
        return rfc8785.dumps(unsigned)
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise StreamError(
            f"The document has no canonical form: {error}.", "use integers up to 2^53, and valid text."
        ) from error


def sign(document: dict[str, Any], key: bytes) -> dict[str, Any]:
    """The document with its signature.

    Args:
        document: An envelope.
        key: Private key, 32 bytes.

    Raises:
        StreamError: It cannot be signed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signature = Ed25519PrivateKey.from_private_bytes(key).sign(canonical(document))
    return {**document, SIGNATURE: base64.b64encode(signature).decode()}


def verify(document: dict[str, Any], public_key: str) -> None:
    """Check a document's signature.

    Args:
        document: An envelope.
        public_key: Base64.

    Raises:
        CommandRefusedError: There is none, or it does not fit.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    given = document.get(SIGNATURE)
    if given is None or given == "":
        raise CommandRefusedError("unsigned", "The command has no signature.")
    if not isinstance(given, str):
        raise CommandRefusedError("bad signature", "The signature is no text.")
    try:
        signature = base64.b64decode(given, validate=True)
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key)).verify(signature, canonical(document))
    except (InvalidSignature, binascii.Error, ValueError, StreamError) as error:
        raise CommandRefusedError("bad signature", "The signature does not fit the command.") from error


def public_half(key: bytes) -> str:
    """Base64 of the public key that belongs to a private one of 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.from_private_bytes(key).public_key()
    return base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(_shallow(each, levels - 1) for each in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_shallow(each, levels - 1) for each in value)
    return True


def _encodable(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)
    if isinstance(value, dict):
        return all(_encodable(name) and _encodable(each) for name, each in value.items())
    return all(_encodable(each) for each in value) if isinstance(value, list) else True
