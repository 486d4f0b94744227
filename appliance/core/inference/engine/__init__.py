"""Runs prepared requests on the accelerators there are (implements core.inference.model.Engine).

Requests wait in bounded queues by priority (queue.py), are put together into batches where that pays (batching.py), and go
to the device that the policy picks (scheduler.py). Each device has its own threads (worker.py) and its own state (device.py);
one that stalls or is lost is reset and comes back after it has proved itself (watchdog.py), while its requests run elsewhere.

How to build one (the accelerators in the order of preference)::

    engine = build((HailoAccelerator(…), OnnxAccelerator(…)), clock, Limits(…), power=lambda: mode, on_event=publish)
    await engine.start()
    answer = await engine.run(request)
    await engine.stop()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from appliance.core.inference.engine.limits import Limits as Limits

if TYPE_CHECKING:
    from appliance.core.inference.engine.engine import DeviceEngine
    from appliance.core.inference.status import EngineEvent
    from appliance.core.ports import Accelerator, Clock


def build(
    accelerators: Sequence[Accelerator],
    clock: Clock,
    limits: Limits | None = None,
    *,
    power: Callable[[], str | None] = lambda: None,
    on_event: Callable[[EngineEvent], None] = lambda event: None,
) -> DeviceEngine:
    """An engine; nothing is started, loaded or opened yet.

    Args:
        accelerators: In the order of preference, best first.
        clock: For the times that people see, and for deadlines.
        limits: Bounds of queues, batches and times.
        power: Says "performance", "balanced", "power-saving", or None where nobody knows.
        on_event: Called on the event loop with what happens to devices, to be published and alerted on. Must not block.
    """
    from appliance.core.inference.engine.engine import DeviceEngine

    return DeviceEngine(accelerators, clock, limits or Limits(), power=power, on_event=on_event)
