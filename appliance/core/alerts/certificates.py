"""What the rules measure of certificates: the days that are left of each."""

from __future__ import annotations

from appliance.core.alerts.reading import Reading
from appliance.core.model import ServiceStatus
from appliance.core.state import LiveState, Section

DAYS = "certificate_days"
"""Detail of a service that shows a certificate."""


def left(state: LiveState) -> list[Reading]:
    """Days until the certificate of each service ends; below 0 once it has ended."""
    statuses: tuple[ServiceStatus, ...] = state.get(Section.services).value or ()
    found = [_reading(each.name, each.details[DAYS]) for each in statuses if isinstance(each.details.get(DAYS), float | int)]
    return found or [Reading("certificates", None, "no service shows a certificate")]


def _reading(name: str, days: float) -> Reading:
    if days > 0:
        return Reading(name, days, f"that of {name} ends in {days:.1f} days")
    return Reading(name, days, f"that of {name} has expired {-days:.1f} days ago")
