"""Settings of secrets that lie elsewhere: in files, as systemd credentials, in HashiCorp Vault."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance.settingforms import SettingError
from appliance.settinggroups import Group

REFERENCE = re.compile(
    r"file:/[^\x00-\x1f\x7f]{1,1000}|credential:[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
    r"|vault:(?!/)(?!.*//)(?!.*\.\.)[A-Za-z0-9._/ -]{1,500}(?<!/)#[A-Za-z0-9._-]{1,200}"
)
"""file:/PATH, credential:NAME, vault:PATH#KEY."""
MOUNT = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LOCAL = frozenset({"audit.key"})
"""Secrets that are made here and stay here: they are needed before anything is reached."""


def check_reference(text: str) -> str:
    """NAME=REFERENCE. Raises SettingError."""
    name, equals, reference = text.partition("=")
    if not equals or NAME.fullmatch(name) is None or REFERENCE.fullmatch(reference) is None:
        raise SettingError(
            "this is no NAME=REFERENCE",
            'write one such as "kafka.password=vault:prime-spark/kafka#password", "…=file:/run/secrets/x" or "…=credential:x".',
        )
    if name in LOCAL:
        raise SettingError(f"{name} is made by the appliance, and never comes from elsewhere", "leave it out.")
    return text


def check_url(text: str) -> str:
    """https://HOST:PORT; http:// on this machine alone. Raises SettingError."""
    if not text:
        return text
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.query:
        raise SettingError("this is no address of a Vault", 'write one such as "https://vault.example.org:8200".')
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise SettingError("secrets would cross the network unencrypted", "write https://, and set vault.ca_file where needed.")
    return text.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SecretSettings(Group):
    """Secrets that lie elsewhere. One that is not named here is a file of mode 0600, a credential, or a variable."""

    references: Annotated[tuple[Annotated[str, AfterValidator(check_reference)], ...], Field(max_length=200)] = ()
    """Where they are, such as ["kafka.password=vault:prime-spark/kafka#password", "redis.password=file:/run/secrets/redis"]."""
    refresh_seconds: Annotated[float, Field(ge=5, le=86400)] = 300.0
    """Seconds between two looks at what lies elsewhere."""
    keep_hours: Annotated[float, Field(ge=0, le=8760)] = 72.0
    """Hours for which the last good value of what cannot be reached is used, also over a restart; 0: not beyond this run."""

    @model_validator(mode="after")
    def _once(self) -> SecretSettings:
        names = [each.partition("=")[0] for each in self.references]
        if len(set(names)) < len(names):
            raise SettingError("a secret is named more than once", "give one reference for each.")
        return self


class VaultSettings(Group):
    """HashiCorp Vault, or whatever speaks its HTTP API, with secrets in a KV engine of version 2."""

    url: Annotated[str, AfterValidator(check_url)] = ""
    """Such as https://vault.example.org:8200; empty for none."""
    mount: Annotated[str, Field(pattern=MOUNT, max_length=200)] = "secret"
    """Path of the KV engine."""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]*$", max_length=200)] = ""
    """Namespace (Vault Enterprise); empty for none."""
    ca_file: Path | None = None
    """Certificates that are trusted; the usual ones where it is not set."""
    token_file: Path | None = None
    """File with a token, such as Vault Agent writes; it is read anew each time."""
    role_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]*$", max_length=200)] = ""
    """Role of AppRole; the secret id is in secret_id_file."""
    secret_id_file: Path | None = None
    """File with the secret id of that role."""
    auth_mount: Annotated[str, Field(pattern=MOUNT, max_length=200)] = "approle"
    """Path of the AppRole method."""
    timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 3.0
    """Seconds that one answer may take."""

    @model_validator(mode="after")
    def _proof(self) -> VaultSettings:
        if self.url and (self.token_file is None) == (not self.role_id):
            raise SettingError("a Vault needs one way to log in", "set vault.token_file, or vault.role_id and secret_id_file.")
        if bool(self.role_id) != (self.secret_id_file is not None):
            raise SettingError("a role needs its secret id", "set vault.role_id and vault.secret_id_file together.")
        return self
