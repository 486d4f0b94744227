"""How often an address may try to log in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

FREE = 5
"""Failures that cost nothing but the time of the check."""
LOCK, LONGEST = 10.0, 600.0
"""Seconds of the first lock, doubled with each further failure, and the longest one."""
FORGET = 900.0
REMEMBERED = 1024
"""Addresses kept; the least recently seen goes first."""


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
        self.failures = 0
        self.refused = 0

    def locked(self, address: str) -> float:
        """Seconds that the address must still wait; 0 where it may try."""
        record = self._records.get(address)
        left = record.locked_until - self._now() if record is not None else 0.0
        if left > 0:
            self.refused += 1
        return max(0.0, left)

    def failed(self, address: str) -> bool:
        """Note a failure; True where it locks the address anew."""
        now = self._now()
        record = self._records.get(address) or Record()
        if now - record.last > FORGET:
            record = Record()
        record.failures += 1
        record.last = now
        self.failures += 1
        self._records[address] = record
        self._records.move_to_end(address)
        while len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        if record.failures <= FREE:
            return False
        record.locked_until = now + min(LONGEST, LOCK * 2.0 ** min(10, record.failures - FREE - 1))
        return True

    def succeeded(self, address: str) -> None:
        """Forget an address's failures."""
        self._records.pop(address, None)

    def __len__(self) -> int:
        return len(self._records)
