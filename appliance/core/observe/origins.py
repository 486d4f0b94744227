"""Which trace an event belongs to, until it went out: what waits on disk has no room for that, and needs none."""

from __future__ import annotations

from appliance.core.observe.spans import traceparent

MOST = 4096
"""Events that are remembered; older ones go out without their trace."""
HEADER = "traceparent"


class Origins:
    """traceparent by the id of the event; on the core loop."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    def keep(self, event_id: str) -> None:
        """The event was made within the present span, where there is one."""
        if told := traceparent():
            self._kept[event_id] = told
            while len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]

    def headers(self, event_id: str) -> list[tuple[str, bytes]]:
        """Of a message of Kafka that brings the event."""
        told = self._kept.get(event_id) if self._kept else None
        return [(HEADER, told.encode())] if told else []


def present_headers() -> list[tuple[str, bytes]]:
    """Of a message that is sent within the present span."""
    told = traceparent()
    return [(HEADER, told.encode())] if told else []


def origin_of(headers: object) -> str:
    """The traceparent of a message that came; empty where it has none that could be one."""
    for pair in headers if isinstance(headers, tuple | list) else ():
        name, value = pair
        if name == HEADER and isinstance(value, bytes) and len(value) <= 128:
            return value.decode("ascii", "replace")
    return ""
