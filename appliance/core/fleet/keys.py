"""The appliance's own SSH key, with which it logs in on other machines."""

from __future__ import annotations

import threading

from appliance.core.secrets import Secrets

NAME = "fleet.key"


class OwnKey:
    """An Ed25519 key; made where it is first asked for. Methods block.

    Args:
        secrets: Where it is kept.
        comment: What stands behind the public key, so that its owner is known where it is let in.
    """

    def __init__(self, secrets: Secrets, comment: str) -> None:
        self._secrets = secrets
        self._comment = comment
        self._making = threading.Lock()

    def private(self) -> bytes:
        """The private key as OpenSSH writes it. Raises StoreError."""
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with self._making:
            seed = self._secrets.get_or_create(NAME, 32)
        key = Ed25519PrivateKey.from_private_bytes(seed)
        return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())

    def public(self) -> str:
        """The line for authorized_keys. Raises StoreError."""
        from cryptography.hazmat.primitives import serialization as form

        key = form.load_ssh_private_key(self.private(), None)
        line = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
        return f"{line} {self._comment}"
