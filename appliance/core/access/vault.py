"""Reads secrets out of HashiCorp Vault: KV version 2, proven by a token's file or by AppRole (its HTTP API, v1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.core.access.errors import SecretAwayError, SecretGoneError
from appliance.settingsecrets import VaultSettings

if TYPE_CHECKING:
    import hvac

SMALL = 8192
"""Bytes of a token."""
FAR = "see vault.url, the network, and whether Vault is unsealed."


class Vault:
    """One Vault. All methods block; not safe for two threads at once.

    Args:
        settings: Where it is, and how to log in.
    """

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings
        self._role_token = ""

    def fetch(self, where: str) -> bytes:
        """One key of a secret, PATH#KEY; a value that is no text as JSON. Raises SecretAwayError, SecretGoneError."""
        import hvac
        import requests

        if not self._settings.url:
            raise SecretAwayError("No Vault is configured.", "set vault.url.", whole=True)
        path, _, key = where.partition("#")
        try:
            found = self._read(path)
        except hvac.exceptions.InvalidPath as error:
            if not isinstance(error.json, dict):  # not Vault said so, but something before it
                raise SecretAwayError(f"{self._settings.url} is no Vault: {told(error)}.", FAR, whole=True) from error
            raise SecretGoneError(
                f"Vault has nothing at {path}, or its newest version was deleted.", "put it there."
            ) from error
        except hvac.exceptions.Forbidden as error:
            step = "see whether its policy reads that path, and whether its token lives."
            raise SecretAwayError(f"Vault refuses to show {path}.", step) from error
        except (hvac.exceptions.VaultError, requests.RequestException, ValueError, TypeError, KeyError) as error:
            raise SecretAwayError(f"Vault at {self._settings.url} cannot be used: {told(error)}.", FAR, whole=True) from error
        if not isinstance(found, dict) or key not in found:
            raise SecretGoneError(f"In Vault, {path} has no key {key}.", "put it there, or correct the reference.")
        return as_bytes(found[key])

    def _read(self, path: str) -> Any:
        import hvac

        client = self._client()
        if not self._settings.role_id:
            return self._data(client, path)
        client.token = self._role_token or self._login(client)
        try:
            return self._data(client, path)
        except hvac.exceptions.Forbidden:  # it may only have ended: log in anew, once
            client.token = self._login(client)
            return self._data(client, path)

    def _data(self, client: hvac.Client, path: str) -> Any:
        answer = client.secrets.kv.v2.read_secret_version(
            path=path, mount_point=self._settings.mount, raise_on_deleted_version=True
        )  # fmt: skip
        return read(answer, "data")["data"]

    def _client(self) -> hvac.Client:
        import hvac

        given = self._settings
        client = hvac.Client(
            url=given.url, token=_line(given.token_file) if given.token_file is not None else "",
            verify=str(given.ca_file) if given.ca_file is not None else True, timeout=given.timeout_seconds,
            namespace=given.namespace or None, allow_redirects=False,
        )  # fmt: skip
        client.session.trust_env = False  # no proxy and no .netrc that somebody's environment names
        return client

    def _login(self, client: hvac.Client) -> str:
        given = self._settings
        client.token = ""
        secret = _line(given.secret_id_file) if given.secret_id_file is not None else ""
        answer = client.auth.approle.login(given.role_id, secret, use_token=False, mount_point=given.auth_mount)
        self._role_token = str(read(answer, "auth")["client_token"])
        return self._role_token


def _line(path: Path) -> str:
    """A token's file. Raises SecretAwayError."""
    try:
        mode = path.stat().st_mode & 0o777
        if mode & 0o007:
            raise SecretAwayError(f"{path} has mode {mode:o}; everybody can read it.", f"chmod o= {path}", whole=True)
        text = path.read_bytes()[: SMALL + 1].decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretAwayError(f"{path} cannot be read: {error}.", "make it readable for this user.", whole=True) from error
    if not text or len(text) > SMALL or not text.isprintable():
        raise SecretAwayError(f"{path} holds no token.", "put one line there.", whole=True)
    return text


def read(answer: Any, part: str) -> dict[str, Any]:
    """A part of an answer. Raises ValueError where it is no answer of a Vault: the library hands on what it cannot read."""
    if not isinstance(answer, dict) or not isinstance(answer.get(part), dict):
        status = getattr(answer, "status_code", "no status")
        raise ValueError(f"it answered with {status}, and not as a Vault does")
    found: dict[str, Any] = answer[part]
    return found


def as_bytes(value: Any) -> bytes:
    """A value of a secret: text as it is, anything else as JSON."""
    import json

    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def told(error: BaseException) -> str:
    """What an error of the library means, in one line and without a token."""
    text = str(error.args[0]) if error.args else ""
    return " ".join(f"{type(error).__name__} {text}".split())[:200]
