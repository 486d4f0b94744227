"""Values as cells of tables, the same on every page that shows them."""

from __future__ import annotations

from appliance.core.model import AlertState, AlertStatus, Device, JobStatus, QueueStatus, ServiceStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Cell

ACTIVE_ALERTS = frozenset({AlertState.pending, AlertState.firing, AlertState.acknowledged, AlertState.silenced})


def service_cells(status: ServiceStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """Name, health, reason; a simulated one says so."""
    name = f"{status.name} SIM" if status.simulated else status.name
    return ((name, "sim" if status.simulated else "text"), badge(status.health.value, glyphs), (status.reason, "text"))


def alert_cells(alert: AlertStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """What, state, for how long."""
    return ((alert.alert_id, "text"), badge(alert.state.value, glyphs), (f.since(alert.since), "muted"))


def device_cells(device: Device, glyphs: Glyphs) -> tuple[Cell, ...]:
    """Kind, health, reason; a simulated one says so."""
    kind = f"{device.kind} SIM" if device.simulated else device.kind
    return ((kind, "sim" if device.simulated else "text"), badge(device.health.value, glyphs), (device.reason, "muted"))


def queue_cells(queue: QueueStatus) -> tuple[Cell, ...]:
    """Name, depth, capacity, drops."""
    return ((queue.name, "text"), str(queue.depth), (str(queue.capacity), "muted"), (str(queue.dropped), "warn" if queue.dropped else "muted"))


def job_cells(job: JobStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """Name, state, progress, owner, age, what it does or why it failed."""
    progress = f.NONE if job.progress is None else f"{100 * job.progress:.0f} %"
    return (job.name, badge(job.state.value, glyphs), progress, (job.owner, "muted"), (f.clock(job.created), "muted"), job.error or job.message)
