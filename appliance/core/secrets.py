"""Secrets: systemd credentials first, else files of mode 0600; generated where the appliance makes its own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from appliance.errors import StoreError

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
    """

    def __init__(self, directory: Path, environ: dict[str, str] | None = None) -> None:
        self._directory = directory
        known = environ if environ is not None else os.environ
        self._given = {name: known[variable] for name, variable in VARIABLES.items() if known.get(variable)}
        given = known.get("CREDENTIALS_DIRECTORY")
        self._credentials = Path(given) if given else None

    def get(self, name: str) -> bytes | None:
        """The secret, or None where there is none.

        Raises:
            StoreError: The file can be read by others, or not by us.
        """
        if name in self._given:
            return self._given[name].encode()
        if self._credentials is not None and (self._credentials / name).is_file():
            return (self._credentials / name).read_bytes()
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

    def text(self, name: str) -> str:
        """The secret as text without its line end; empty where there is none. Raises StoreError."""
        found = self.get(name)
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
        """Store a secret: written to a temporary file of mode 0600, synced, renamed."""
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
