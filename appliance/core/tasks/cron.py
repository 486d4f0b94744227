"""When a schedule is due: cron's five fields in a time zone, on the library cronsim, which handles the change of summer time as
Debian's cron does: what falls into the hour that is left out runs just after it, and what falls into the hour that comes twice
runs once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from appliance.errors import InvalidArgumentsError

MOST = 1000
"""Most runs that are looked through, where some were missed."""
NAMED = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name. Raises InvalidArgumentsError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidArgumentsError(f"{name[:60]!r} is no time zone.", 'write it such as "Europe/Berlin" or "UTC".') from None


def fields_of(text: str) -> str:
    """The five fields, checked. Raises InvalidArgumentsError."""
    fields = NAMED.get(text.strip().lower(), " ".join(text.split()))
    try:
        if len(fields.split()) != 5:
            raise CronSimError("there must be five fields")
        next(CronSim(fields, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        told = f"{text[:60]!r} is no schedule that ever comes: {error or 'no such day'}."
        raise InvalidArgumentsError(told, 'write minute, hour, day, month, weekday, such as "30 3 * * 1-5".') from None
    return fields


def following(cron: str, zone: str, after: float) -> Iterator[float]:
    """The moments after one, wall clock, without an end where the schedule has none.

    Args:
        cron: Five fields.
        zone: Name of the time zone.
        after: Wall clock.

    Raises:
        InvalidArgumentsError: The zone is unknown.
    """
    start = datetime.fromtimestamp(after, zone_of(zone))
    for moment in CronSim(cron, start):
        yield moment.timestamp()


def next_after(cron: str, zone: str, after: float) -> float | None:
    """The next moment; None where there is none. Raises InvalidArgumentsError."""
    return next((each for each in islice(following(cron, zone, after), 50) if each > after), None)


def missed(cron: str, zone: str, since: float, now: float) -> list[float]:
    """The moments after `since` up to now; the newest `MOST` of them at most."""
    found = _between(cron, zone, since, now)
    if len(found) < MOST:
        return found
    back = CronSim(cron, datetime.fromtimestamp(now, zone_of(zone)), reverse=True)
    near = min(moment.timestamp() for moment in islice(back, MOST))
    return _between(cron, zone, max(since, near - 1), now)


def _between(cron: str, zone: str, since: float, now: float) -> list[float]:
    """The first `MOST` moments after `since`, up to now."""
    found: list[float] = []
    for moment in islice(following(cron, zone, since), MOST):
        if moment > now:
            break
        if moment > since:
            found.append(moment)
    return found
