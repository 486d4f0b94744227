"""How often an address, or an account, may fail to log in; what every door of the appliance goes by."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

import msgspec

FREE = 5
"""Failures that cost nothing but the time of the check."""
LOCK, LONGEST = 10.0, 600.0
"""Seconds of the first lock, doubled with each further failure, and the longest one."""
FORGET = 900.0
"""Seconds after which an address's failures are forgotten."""
REMEMBERED = 1024
"""Addresses kept; the least recently seen goes first."""
BUSY, BUSY_WINDOW, BUSY_DELAY = 60, 60.0, 1.0
"""So many failures of all addresses in so many seconds, and every further password waits so long for its check."""


class Record(msgspec.Struct):
    """What is known of one address."""

    failures: int = 0
    last: float = 0.0
    locked_until: float = 0.0


class LoginLimiter:
    """Locks addresses that fail to log in; bounded in memory.

    Args:
        now: A clock that only goes forward, seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._recent = 0
        self._window = now()
        self.failures = 0
        """Failed logins since the start."""
        self.refused = 0
        """Attempts turned away unread since the start."""

    def delay(self) -> float:
        """Seconds that a password must wait before it is checked, because somebody tries many from many addresses."""
        self._turn_window()
        return BUSY_DELAY if self._recent >= BUSY else 0.0

    def _turn_window(self) -> None:
        if self._now() - self._window >= BUSY_WINDOW:
            self._window, self._recent = self._now(), 0

    def locked(self, address: str) -> float:
        """Seconds that the address must still wait; 0 where it may try."""
        record = self._records.get(address)
        left = record.locked_until - self._now() if record is not None else 0.0
        if left > 0:
            self.refused += 1
        return max(0.0, left)

    def left(self, address: str) -> float:
        """Seconds of the lock that are left, for those who only look; 0 where there is none."""
        record = self._records.get(address)
        return max(0.0, record.locked_until - self._now()) if record is not None else 0.0

    def failed(self, address: str) -> bool:
        """Note a failure; True where it locks the address anew."""
        now = self._now()
        record = self._records.get(address) or Record()
        if now - record.last > FORGET:
            record = Record()
        record.failures += 1
        record.last = now
        self.failures += 1
        self._turn_window()
        self._recent += 1
        self._records[address] = record
        self._records.move_to_end(address)
        while len(self._records) > REMEMBERED:
            self._drop_one(now)
        if record.failures <= FREE:
            return False
        record.locked_until = now + min(LONGEST, LOCK * 2.0 ** min(10, record.failures - FREE - 1))
        return True

    def _drop_one(self, now: float) -> None:
        """Forget the least recently seen, one that is not locked where there is one: nobody gets out of a lock by noise."""
        free = next((mark for mark, record in self._records.items() if record.locked_until <= now), None)
        del self._records[free if free is not None else next(iter(self._records))]

    def succeeded(self, address: str) -> None:
        """Forget an address's failures."""
        self._records.pop(address, None)

    def __len__(self) -> int:
        return len(self._records)


def source_of(address: str) -> str:
    """Who an address counts as: itself, or its /64 network, which IPv6 gives to one customer at least (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
