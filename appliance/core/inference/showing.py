"""How inference is, for the screen, the metrics and the supervisor."""

from __future__ import annotations

from appliance.core.inference.counting import Counting
from appliance.core.inference.parts import Parts
from appliance.core.inference.pipeline import BACKENDS, WORKING, kinds_of
from appliance.core.inference.registry.registry import Registry
from appliance.core.inference.registry.rows import split_rows, version_rows
from appliance.core.inference.status import EngineStatus, InferenceStatus
from appliance.core.model import Health, HealthReport
from appliance.errors import AbsentError, ModelError


def status(parts: Parts, counts: Counting) -> InferenceStatus:
    """Everything, as it is now."""
    engine, rows = parts.engine.status(), version_rows(parts.registry)
    return InferenceStatus(
        model=serving(parts.registry), backend=_backend(parts.registry, engine), total=counts.total, errors=counts.errors,
        p50_ms=counts.share(0.5), p95_ms=counts.share(0.95), error_rate=counts.error_rate(), refused=counts.refused,
        done_by=dict(counts.done_by), cached=counts.cached, prepared=counts.prepared, histogram=counts.histogram(),
        per_second=counts.per_second(parts.clock.monotonic()), engine=engine, models=rows,
        models_bytes=sum(row.size for row in rows if row.removable),
        models_limit=parts.registry.setup.settings.disk_max_mib * 2**20, dropped_models=tuple(parts.intake.dropped),
        splits=split_rows(parts.registry, parts.updating.verdict), cache=parts.cache.status(),
    )  # fmt: skip


def _backend(registry: Registry, engine: EngineStatus) -> str:
    """Where the model that serves where none is asked for would run now; empty where nothing can run it."""
    try:
        kinds = kinds_of(registry.active())
    except (AbsentError, ModelError):
        return ""
    able = (device.backend for device in engine.devices if device.health in WORKING and BACKENDS[device.backend] in kinds)
    return next(able, "")


def serving(registry: Registry) -> str:
    """Name of the model that serves where none is asked for; empty for none."""
    try:
        return registry.active().manifest.name
    except (AbsentError, ModelError):
        return ""


def health(parts: Parts, counts: Counting, waiting: int) -> HealthReport:
    """Absent without a model, degraded while a device does not work."""
    try:
        version = parts.registry.active()
    except AbsentError as error:
        return HealthReport(Health.absent, error.message, error.next_step)
    except ModelError as error:
        return HealthReport(Health.unhealthy, error.message, error.next_step)
    devices = parts.engine.status().devices
    for device in devices:
        if device.health is Health.unhealthy:
            return HealthReport(Health.degraded, f"{device.name}: {device.reason}", device.next_step)
    loaded = [device.name for device in devices if version.key in device.loaded]
    where = f"loaded on {', '.join(loaded)}" if loaded else "loads at first use"
    return HealthReport(Health.healthy, f"{version.key}, {where}", details={"waiting": waiting, "refused": counts.refused})
