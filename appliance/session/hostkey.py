"""The SSH server's own key. The library that reads it is loaded by whoever has to have the key itself."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.core.secrets import write_private
from appliance.errors import StoreError

if TYPE_CHECKING:
    import asyncssh

log = logging.getLogger(__name__)

WHOLE = re.compile(rb"\s*-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----\s[A-Za-z0-9+/=\s]+\s-----END \1-----\s*")
"""A private key as OpenSSH and OpenSSL write it: not empty, not cut off, and nothing else."""


def looks_good(path: Path) -> bool:
    """Whether the key is there and whole, or can be made later, as far as can be told without reading it. Raises OSError."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return True
    keep_private(path)
    return WHOLE.fullmatch(path.read_bytes()) is not None


def keep_private(path: Path) -> None:
    """Nobody else may read it. Raises OSError."""
    if path.stat().st_mode & 0o077:
        log.warning("the SSH host key %s could be read by others; now it cannot, but make a new one", path)
        path.chmod(0o600)


def load_host_key(path: Path) -> asyncssh.SSHKey:
    """The server's key, Ed25519; made and kept, mode 0600, where missing. Raises OSError, StoreError."""
    import asyncssh

    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, asyncssh.generate_private_key("ssh-ed25519", comment="prime-spark").export_private_key())
    keep_private(path)
    try:
        return asyncssh.read_private_key(path)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise StoreError(
            f"The SSH host key {path} cannot be used: {error}.", f"restore it, or remove it to have a new one made: rm {path}"
        ) from error
