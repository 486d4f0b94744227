"""Values that lie in the database but must be read back, encrypted under a key outside of it (AES-256-GCM, SP 800-38D)."""

from __future__ import annotations

import secrets

from appliance.errors import StoreError

NONCE = 12
"""Bytes."""


class Sealer:
    """Seals and opens.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, value: bytes, purpose: str) -> bytes:
        """The value, so that only `open` with the same purpose reads it."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(NONCE)
        return nonce + AESGCM(self._key).encrypt(nonce, value, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """The value again. Raises StoreError where it was altered, or the key is another."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._key).decrypt(sealed[:NONCE], sealed[NONCE:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            reason = "A sealed value cannot be opened: it was altered, or the secret access.key is another one."
            raise StoreError(reason, "restore that secret from a backup, or make the value anew.") from error
