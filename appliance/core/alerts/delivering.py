"""What the rules measure of the alert channels. None is told by the channel that it is about (see channels/grouping.py)."""

from __future__ import annotations

from appliance.core.alerts.channels.model import ChannelsStatus, ChannelStatus
from appliance.core.alerts.reading import Reading
from appliance.core.model import Health
from appliance.core.state import LiveState, Section

VALUES = {Health.healthy: 0.0, Health.degraded: 0.0, Health.unhealthy: 1.0}


def channels(state: LiveState) -> list[Reading]:
    """1 for each that does not deliver, 0 for each that does; nothing of one that is absent."""
    status = state.get(Section.channels).value
    found = status.channels if isinstance(status, ChannelsStatus) else ()
    return [_channel(each) for each in found] or [Reading("alert channels", None, "no alert channel is configured")]


def _channel(each: ChannelStatus) -> Reading:
    waits = f" ({each.waiting} waiting)" if each.waiting else ""
    return Reading(
        each.name, VALUES.get(each.health), f"the alert channel {each.name} is {each.health.value}: {each.reason}{waits}"
    )
