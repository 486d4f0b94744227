"""Secrets: from where the settings say, else systemd credentials, else files of mode 0600; generated where they are ours."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import StoreError

if TYPE_CHECKING:
    from appliance.core.access.references import References

log = logging.getLogger(__name__)

VARIABLES = {
    "redis.password": "REDIS_PASSWORD", "s3.secret_key": "MINIO_SECRET_KEY", "documents.password": "SUPABASE_KEY",
    "analytics.password": "POSTGRES_PASSWORD", "kafka.password": "KAFKA_PASSWORD",
    "api.jwt_key": "JWT_SECRET", "admin.password": "ADMIN_PASSWORD",
}  # fmt: skip
"""Secrets that the operator gives, and the documented variable of each."""


class Secrets:
    """Named secrets of the appliance.

    Args:
        directory: Where files of mode 0600 lie.
        environ: Environment. A documented variable is looked at first, then CREDENTIALS_DIRECTORY (systemd.exec(5)).
        elsewhere: Secrets that the settings refer to; they go before all others.
    """

    def __init__(self, directory: Path, environ: dict[str, str] | None = None, elsewhere: References | None = None) -> None:
        self._directory = directory
        self.elsewhere = elsewhere
        known = environ if environ is not None else os.environ
        self._given = {name: known[variable] for name, variable in VARIABLES.items() if known.get(variable)}
        given = known.get("CREDENTIALS_DIRECTORY")
        self._credentials = Path(given) if given else None

    def get(self, name: str) -> bytes | None:
        """The secret, or None where there is none.

        Raises:
            StoreError: The file can be read by others, or not by us; or what lies elsewhere cannot be had.
        """
        if (away := self._away(name)) is not None:
            return away
        if name in self._given:
            return self._given[name].encode()
        if (credential := self._credential(name)) is not None:
            return credential
        path = self._directory / name
        try:
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                raise StoreError(f"The secret {path} has mode {mode:o}; others can read it.", f"chmod 600 {path}")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"The secret {path} cannot be read: {error.strerror}.", "give this user access to it.") from error

    def _away(self, name: str) -> bytes | None:
        return self.elsewhere.get(name) if self.elsewhere is not None and name in self.elsewhere.given else None

    def _credential(self, name: str) -> bytes | None:
        if self._credentials is None or not (self._credentials / name).is_file():
            return None
        try:
            return (self._credentials / name).read_bytes()
        except OSError as error:
            told = f"The credential {self._credentials / name} cannot be read: {error.strerror}."
            raise StoreError(told, "look at LoadCredential= of the unit.") from error

    def text(self, name: str) -> str:
        """The secret as text without its line end; empty where there is none, or it cannot be had from elsewhere.

        The latter is in the log, and the service secrets says it: whoever needs it says what he lacks.

        Raises:
            StoreError: A file of our own can be read by others, or not by us.
        """
        try:
            found = self.get(name)
        except StoreError as error:
            if self.elsewhere is None or name not in self.elsewhere.given:
                raise
            log.warning("%s", error.message)
            return ""
        return found.decode(errors="replace").strip() if found else ""

    def get_or_create(self, name: str, size: int = 32) -> bytes:
        """The secret; where there is none, `size` random bytes are stored and returned."""
        found = self.get(name)
        if found is not None:
            return found
        value = secrets.token_bytes(size)
        self.put(name, value)
        return value

    def put(self, name: str, value: bytes) -> None:
        """Store a secret: written to a temporary file of mode 0600, synced, renamed.

        Raises:
            StoreError: It lies elsewhere, so what is stored here would never be used.
        """
        if self.elsewhere is not None and name in self.elsewhere.given:
            step = "change it there, or take it out of secrets.references."
            raise StoreError(f"The secret {name} comes from {self.elsewhere.given[name]}.", step)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)  # it may have been there before
        write_private(self._directory / name, value)

    def remove(self, name: str) -> None:
        """Forget a secret that was stored here; one that is given from outside stays. Raises StoreError."""
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            reason = f"The secret {self._directory / name} cannot be removed: {error.strerror}."
            raise StoreError(reason, "give this user access to it.") from error


def write_private(path: Path, value: bytes) -> None:
    """Write a file of mode 0600 so that it is whole or not there at all, whatever happens."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
