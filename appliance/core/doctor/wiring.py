"""From the settings to what the doctor looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from appliance.core.access.elsewhere import open_secrets
from appliance.core.clock import SystemClock
from appliance.core.doctor.model import DoctorContext, PortUse
from appliance.core.fleet.inventory_entry import configured
from appliance.core.inference import manifest
from appliance.core.model import Device
from appliance.core.streams.kafka import Access
from appliance.errors import ConfigError
from appliance.settings import Settings


class Places(Protocol):
    """Where the appliance keeps things."""

    @property
    def data(self) -> Path:
        """Databases."""

    @property
    def lock(self) -> Path:
        """The lock file of the one that runs."""

    @property
    def secrets(self) -> Path:
        """Files of mode 0600."""

    @property
    def models(self) -> Path:
        """Models that the operator added."""


UpsLooks = Callable[[Settings], tuple[Callable[[], Device], ...]]
"""From the settings to what looks for UPSes: the drivers are not the core's."""


def context_from(
    load: Callable[[], Settings], paths: Places, environ: Mapping[str, str], upses: UpsLooks | None = None
) -> DoctorContext:
    """This machine, under the settings that are loaded here; under the defaults where they are wrong, saying so. Blocks."""

    def context(settings: Settings) -> DoctorContext:
        return replace(context_for(settings, paths, environ), upses=upses(settings) if upses is not None else ())

    try:
        return context(load())
    except ConfigError as error:
        return replace(context(Settings()), config_error=error)


def _kafka(settings: Settings, paths: Places, environ: Mapping[str, str]) -> Access | None:
    if not settings.kafka.bootstrap_servers.strip():
        return None
    password = open_secrets(paths.secrets, environ, settings, SystemClock()).text("kafka.password")
    return Access(settings.kafka, password, "prime-spark-doctor")


def context_for(settings: Settings, paths: Places, environ: Mapping[str, str]) -> DoctorContext:
    """This machine, under these settings."""
    ports = [PortUse("127.0.0.1", settings.api.port, "api.port")]
    if settings.ssh.enabled:
        ports.insert(0, PortUse(settings.ssh.host, settings.ssh.port, "ssh.port"))
    return DoctorContext(
        environ=environ,
        home=paths.data,
        lock=paths.lock,
        ports=tuple(ports),
        nas_path=settings.nas.path,
        model_dirs=tuple(manifest.places(settings.inference.model_dir, paths.models)),
        kafka=_kafka(settings, paths, environ),
        machines=tuple(configured(settings.fleet)),
        haproxy=settings.deploy.haproxy,
        backups=settings.backup.targets,
        updates=settings.update,
        system_python=settings.hailo.python or DoctorContext.system_python,
    )
