"""From the settings to what the doctor looks at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import appliance
from appliance.core.doctor.model import DoctorContext, PortUse
from appliance.paths import Paths
from appliance.settings import Settings


def context_for(settings: Settings, paths: Paths, environ: Mapping[str, str]) -> DoctorContext:
    """This machine, under these settings."""
    ports = [PortUse("127.0.0.1", settings.api.port, "api.port")]
    if settings.ssh.enabled:
        ports.insert(0, PortUse(settings.ssh.host, settings.ssh.port, "ssh.port"))
    own = [settings.inference.model_dir] if settings.inference.model_dir else []
    shipped = Path(appliance.__file__).resolve().parent.parent / ".models"
    return DoctorContext(
        environ=environ,
        home=paths.data,
        lock=paths.lock,
        ports=tuple(ports),
        nas_path=settings.nas.path,
        model_dirs=(*own, paths.models, shipped, Path("/usr/share/prime-spark/models")),
    )
