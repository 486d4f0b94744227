"""Settings of the REST API and of who may use it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from appliance.settingforms import SettingError
from appliance.settinggroups import Group, Port, env

ORIGIN = re.compile(r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def check_host(text: str) -> str:
    """An address to listen on. Raises SettingError."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise SettingError("this is no address", 'write one such as "127.0.0.1", "0.0.0.0" or "::".') from None


def check_network(text: str) -> str:
    """An address or a network that is not everybody. Raises SettingError."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise SettingError("this is no address and no network", 'write one such as "10.8.0.14" or "10.8.0.0/24".') from None
    if not found.prefixlen:
        raise SettingError("then everybody could say where they come from", "name the addresses of the proxies.")
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def check_origin(text: str) -> str:
    """SCHEME://HOST, with a port where it has one. Raises SettingError."""
    if ORIGIN.fullmatch(text) is None:
        raise SettingError("this is no origin", 'write it as a browser sends it, such as "https://panel.example.org".')
    return text


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(host).is_loopback


class ApiSettings(Group):
    """The REST API over TCP. Off by default; the control socket is always there, for this machine's own user."""

    enabled: bool = False
    """Listen."""
    host: Annotated[str, AfterValidator(check_host)] = Field("127.0.0.1", json_schema_extra=env("API_HOST"))
    """Address to listen on; 0.0.0.0 or :: for the whole network, which needs TLS and an administrator with a password."""
    port: Port = Field(8000, json_schema_extra=env("API_PORT"))
    """TCP port; 0 picks a free one."""
    tls: Literal["auto", "yes", "no"] = "auto"
    """Speak HTTPS; auto: everywhere but on loopback."""
    redirect_port: Port | None = None
    """Port of plain HTTP on which every request is sent on to HTTPS; none where it is not set."""
    names: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$")], ...], Field(max_length=50)] = ()
    """Further names and addresses of this machine for its certificate, such as ["spark.example.org"]."""
    cert_file: Path | None = None
    """Certificate (PEM, with its chain) instead of one by this appliance's own authority."""
    key_file: Path | None = None
    """Its private key (PEM)."""
    client_ca_file: Path | None = None
    """Authority whose certificates every client must show (mutual TLS); none where it is not set."""
    origins: Annotated[tuple[Annotated[str, AfterValidator(check_origin)], ...], Field(max_length=50)] = ()
    """Web pages that may call the API from a browser, such as ["https://panel.example.org"]."""
    proxies: Annotated[tuple[Annotated[str, AfterValidator(check_network)], ...], Field(max_length=50)] = ()
    """Addresses or networks of reverse proxies whose X-Forwarded-For is believed, such as ["10.8.0.14"]; of nobody else."""
    access_minutes: Annotated[float, Field(ge=1, le=1440)] = 15.0
    """Minutes that an access token holds."""
    session_hours: Annotated[float, Field(ge=0.1, le=8760)] = Field(24.0, json_schema_extra=env("JWT_EXPIRATION_HOURS"))
    """Hours after which a session that was not renewed ends."""
    admin_username: Annotated[str, Field(pattern=r"^([a-z_][a-z0-9_-]{0,31})?$")] = Field(
        "", json_schema_extra=env("ADMIN_USERNAME")
    )
    """First administrator, made at the start where there is none; the password is the secret admin.password."""
    body_mib: Annotated[int, Field(ge=1, le=256)] = 16
    """Largest body of a request, MiB."""
    requests_per_second: Annotated[float, Field(ge=0, le=100_000)] = 200.0
    """Most requests that read, of one identity; 0 for no bound."""
    changes_per_second: Annotated[float, Field(ge=0, le=100_000)] = 20.0
    """Most requests that change something, of one identity; 0 for no bound."""
    connections: Annotated[int, Field(ge=8, le=65536)] = 1024
    """Most connections at one time."""
    streams: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Most event streams at one time of one identity."""

    @property
    def secure(self) -> bool:
        """Whether it speaks HTTPS."""
        return self.tls == "yes" or (self.tls == "auto" and not is_loopback(self.host))

    @model_validator(mode="after")
    def _fits(self) -> ApiSettings:
        if self.tls == "no" and not is_loopback(self.host):
            raise SettingError("passwords and tokens would cross the network unencrypted", 'set api.tls to "auto".')
        if (self.cert_file is None) != (self.key_file is None):
            raise SettingError("a certificate needs its key, and a key its certificate", "set api.cert_file and api.key_file.")
        return self
