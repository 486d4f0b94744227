"""Settings of the machines that are reached over SSH."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from appliance import settingforms as forms
from appliance.settinggroups import Group, Port


class NodeAccess(Group):
    """One machine, such as [fleet.nodes.spark-agent]."""

    host: Annotated[str, Field(min_length=1), AfterValidator(forms.host)]
    """Name or address."""
    port: Annotated[Port, Field(ge=1)] = 22
    """TCP port of its SSH server."""
    user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?$")] = "root"
    """Who to be there."""
    key_file: Path | None = None
    """Private key to log in with; the appliance's own (`prime-spark fleet key`) where it is not set."""
    host_key: Annotated[str, Field(pattern=r"^(|SHA256:[A-Za-z0-9+/]{43})$")] = ""
    """Fingerprint of its host key, as `ssh-keygen -lf` prints it; a machine with another one is refused."""


class FleetSettings(Group):
    """The machines that the appliance reaches over SSH."""

    nodes: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")], NodeAccess] = Field({})
    """By name."""
