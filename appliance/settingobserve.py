"""Settings of what others may watch the appliance by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from appliance.settinggroups import Group
from appliance.settingllm import check_url


class TraceSettings(Group):
    """Traces for an OpenTelemetry collector. Off where no endpoint is set."""

    endpoint: Annotated[str, Field(max_length=300), AfterValidator(check_url)] = ""
    """Where OTLP over HTTP is taken, with its path, such as http://192.0.2.14:4318/v1/traces; empty for no traces."""
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the traces that is recorded, 0 to 1; of requests that bring a traceparent, its word counts."""
    queue: Annotated[int, Field(ge=16, le=65536)] = 2048
    """Spans that may wait for the collector; those beyond it are dropped, and counted."""
    secret: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")] = ""
    """Name of the secret that is the Authorization header, such as "Bearer …"; empty for none."""
    ca_file: Path | None = None
    """Certificates that are trusted; the system's where it is not set."""


class ObserveSettings(Group):
    """What others may watch the appliance by."""

    traces: TraceSettings = TraceSettings()
    """Traces."""
