"""Settings of deployments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settinggroups import Group


class DeploySettings(Group):
    """Services on the nodes. What is deployed stands in the specifications (`prime-spark deploy apply`), not here."""

    enabled: bool = True
    """Off: what is deployed is left as it is, and not looked at."""
    folder: Annotated[str, Field(pattern=r"^/[^\s]{1,200}$")] = "/var/lib/prime-spark-deploy"
    """Where files of versions lie on every node."""
    unit_folder: Annotated[str, Field(pattern=r"^/[^\s]{1,200}$")] = "/etc/systemd/system"
    """Where units lie on every node."""
    haproxy: Annotated[str, Field(min_length=1, max_length=200)] = "haproxy"
    """The balancer's program, by name or path."""
