"""Settings of the machines that are reached over SSH."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.settinggroups import Group, Port

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Of machines, groups and tags."""
FINGERPRINT = r"^(|SHA256:[A-Za-z0-9+/]{43})$"
"""As `ssh-keygen -lf` prints it; or none."""


def address(text: str) -> str:
    """A name or an address of a machine. Raises SettingError."""
    numbers = re.fullmatch(r"[0-9.]+", text) or ":" in text
    try:
        if numbers:
            ipaddress.ip_address(text.partition("%")[0])
        elif text.startswith("/") or forms.BARE_HOST.fullmatch(text) is None:
            raise ValueError
    except ValueError:
        step = 'write the machine alone, such as "192.168.1.92", "10.8.0.3" or "nas.lan"; its port is a setting of its own.'
        raise forms.SettingError("this is no address of a machine", step) from None
    return text


def service(text: str) -> str:
    """What is expected to run on a machine. Raises SettingError."""
    port = re.fullmatch(r"tcp:([0-9]{1,5})", text)
    unit = re.fullmatch(r"[A-Za-z0-9@:_.\\-]{1,200}\.(service|socket|timer|target|mount|path)", text)
    if (
        not (port and 0 < int(port[1]) <= 65535)
        and not unit
        and not re.fullmatch(r"compose:[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text)
    ):
        step = 'write a unit ("redis-server.service"), a compose project ("compose:openwebui"), or a port ("tcp:9092").'
        raise forms.SettingError("this is no service that can be looked at", step)
    return text


Word = Annotated[str, Field(pattern=NAME)]
Address = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(address)]


class NodeAccess(Group):
    """One machine, such as [fleet.nodes.spark-agent]."""

    host: Address
    """Name or address; or an alias of ~/.ssh/config, which then gives what is not set here."""
    port: Annotated[Port, Field(ge=1)] = 22
    """TCP port of its SSH server."""
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$")] = "root"
    """Who to be there."""
    role: Annotated[str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    """What it is for, such as "orchestration"."""
    vpn_address: Annotated[str, Field(max_length=253), AfterValidator(lambda text: address(text) if text else text)] = ""
    """Its address in the VPN, tried where `host` does not answer."""
    jump: Annotated[str, Field(pattern=NAME.replace("^", "^(|", 1).replace("$", ")$", 1))] = ""
    """Name of the machine through which it is reached."""
    key_file: Path | None = None
    """Private key to log in with; the appliance's own (`prime-spark fleet key`) where it is not set."""
    host_key: Annotated[str, Field(pattern=FINGERPRINT)] = ""
    """Fingerprint of its host key, as `ssh-keygen -lf` prints it; a machine with another one is refused."""
    groups: Annotated[tuple[Word, ...], Field(max_length=32)] = ()
    """Groups that it belongs to, such as ["cloud", "gpu"]."""
    tags: Annotated[dict[Word, Annotated[str, Field(max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")]], Field(max_length=32)] = (
        Field({})
    )
    """Further marks, such as {place = "rack 2"}."""
    services: Annotated[tuple[Annotated[str, AfterValidator(service)], ...], Field(max_length=64)] = ()
    """What must run there: units ("redis-server.service"), compose projects ("compose:openwebui"), ports ("tcp:9092")."""
    sudo: Literal["never", "auto", "password"] = "auto"
    """How the user becomes root: never, auto (sudo without a password), password (`prime-spark fleet sudo-password`)."""
    mac: Annotated[str, Field(pattern=r"^(|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5})$")] = ""
    """Address of its network card, to wake it (Wake-on-LAN)."""
    enabled: bool = True
    """False while it is set aside: nothing contacts it."""


def loop(jumps: Mapping[str, str]) -> tuple[str, ...]:
    """Machines that are reached through one another in a circle, the first one again at the end; empty where there are none.

    Args:
        jumps: Machine → the one through which it is reached.
    """
    fine: set[str] = set()
    for start in jumps:
        path: list[str] = []
        name = start
        while name and name not in fine:
            if name in path:
                return (*path[path.index(name) :], name)
            path.append(name)
            name = jumps.get(name, "")
        fine.update(path)
    return ()


class FleetSettings(Group):
    """The machines that the appliance reaches over SSH."""

    metrics_seconds: Annotated[float, Field(ge=2, le=3600)] = 10.0
    """Between looks at a machine's numbers. Below 10 s silence counts sooner: stale after 2.5 looks, unreachable after six."""
    facts_seconds: Annotated[float, Field(ge=10, le=86400)] = 300.0
    """Between two askings for what changes seldom: services, containers, versions, addresses."""
    parallel: Annotated[int, Field(ge=1, le=256)] = 32
    """Machines that are asked at once."""
    updates: bool = True
    """Whether package managers are asked what could be upgraded, each time their lists have changed; seconds of CPU there."""
    telemetry_seconds: Annotated[float, Field(ge=0, le=86400)] = 60.0
    """Between two readings of one machine that are kept (as node_cpu_usage and so on, tagged with its name); 0: none."""
    nodes: dict[Annotated[str, Field(pattern=NAME)], NodeAccess] = Field({})
    """By name."""

    @model_validator(mode="after")
    def _no_loop(self) -> FleetSettings:
        if circle := loop({name: node.jump for name, node in self.nodes.items()}):
            step = f"take the jump of one of them away: [fleet.nodes.{circle[0]}]."
            raise forms.SettingError(f"the jump hosts go round in a circle: {' → '.join(circle)}", step)
        return self
