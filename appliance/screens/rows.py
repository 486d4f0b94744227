"""Values as cells of tables, the same on every page that shows them."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.model import AlertState, AlertStatus, Device, JobStatus, QueueStatus, ServiceStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.widgets.charts import badge
from appliance.screens.widgets.grid import Cell
from appliance.screens.widgets.lines import Line, Piece

ACTIVE_ALERTS = frozenset({AlertState.pending, AlertState.firing, AlertState.acknowledged, AlertState.silenced})


def service_cells(status: ServiceStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """Name, health, reason; a simulated one says so."""
    name = f"{status.name} SIM" if status.simulated else status.name
    return ((name, "sim" if status.simulated else "text"), badge(status.health.value, glyphs), (status.reason, "text"))


def alert_cells(alert: AlertStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """What, state, for how long."""
    return ((alert.alert_id, "text"), badge(alert.state.value, glyphs), (f.since(alert.since), "muted"))


def device_lines(devices: Sequence[Device], width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """A line a device with its reason where there is room, else several on a line."""
    if len(devices) <= height:
        return [
            ((f" {kind_of(d):<12}", "sim" if d.simulated else "text"), pad(badge(d.health.value, glyphs)), (d.reason, "muted"))
            for d in devices
        ]
    lines: list[list[Piece]] = [[]]
    room = width
    for device in devices:
        sign, role = badge(device.health.value, glyphs)
        text = f" {sign[0]} {kind_of(device)} "
        if len(text) > room and lines[-1]:
            lines.append([])
            room = width
        lines[-1].append((text, role))
        room -= len(text)
    return [tuple(line) for line in lines]


def kind_of(device: Device) -> str:
    """The device's kind; a simulated one says so."""
    return f"{device.kind} SIM" if device.simulated else device.kind


def pad(piece: Piece, width: int = 12) -> Piece:
    """A piece of at least `width` cells."""
    return (piece[0].ljust(width), piece[1])


def queue_lines(queues: Sequence[QueueStatus], height: int) -> list[Line]:
    """A line a queue where there is room, else all on one."""
    if len(queues) <= height:
        return [((f" {q.name:<12}", "text"), (f"{q.depth} of {q.capacity} waiting   ", "muted"), dropped(q)) for q in queues]
    pieces: list[Piece] = []
    for queue in queues:
        pieces += [(f" {queue.name} ", "muted"), (str(queue.depth), "text"), *([dropped(queue)] if queue.dropped else [])]
    return [tuple(pieces)]


def dropped(queue: QueueStatus) -> Piece:
    """What a queue gave up."""
    return (f" {queue.dropped} dropped", "warn" if queue.dropped else "muted")


def job_cells(job: JobStatus, glyphs: Glyphs) -> tuple[Cell, ...]:
    """Name, state, progress, owner, age, what it does or why it failed."""
    progress = f.NONE if job.progress is None else f"{100 * job.progress:.0f} %"
    return (
        job.name,
        badge(job.state.value, glyphs),
        progress,
        (job.owner, "muted"),
        (f.clock(job.created), "muted"),
        job.error or job.message,
    )
