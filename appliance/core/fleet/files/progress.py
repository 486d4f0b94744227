"""How far a transfer is: bytes, rate, time left, the file that goes now. And how fast it may go."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from aiolimiter import AsyncLimiter

from appliance.core.printable import printable

EVERY = 0.5
"""Seconds between two reports."""
SPAN = 10.0
"""Seconds over which the rate is taken."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Count:
    """What one node's transfer has moved.

    Args:
        told: Called when something moved.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self.total = 0
        """Bytes that are to go."""
        self.done = 0
        """Bytes that went, or need not go again."""
        self.files = 0
        self.of_files = 0
        self.current = ""

    def expect(self, size: int, files: int = 1) -> None:
        """More is to go."""
        self.total += size
        self.of_files += files

    def name(self, text: str) -> None:
        """This file goes now."""
        self.current = text
        self._told()

    def moved(self, count: int) -> None:
        """Bytes went."""
        self.done += count
        self._told()

    def finished(self) -> None:
        """A file is where it belongs."""
        self.files += 1
        self._told()

    def back(self, count: int) -> None:
        """Bytes went for nothing."""
        self.done = max(0, self.done - count)


class Meter:
    """Counts what goes over the links, all nodes together.

    Args:
        report: Told (fraction or None, text) every half second at most.
        clock: Monotonic seconds.
    """

    def __init__(self, report: Callable[[float | None, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._counts: dict[str, Count] = {}
        self._samples: deque[tuple[float, int]] = deque(maxlen=200)
        self._told = float("-inf")

    def of(self, node: str) -> Count:
        """A count that begins anew; an earlier attempt's is forgotten."""
        self._counts[node] = Count(self._tell)
        return self._counts[node]

    def done(self, node: str) -> int:
        """Bytes that a node's last attempt moved, or found there."""
        return self._counts[node].done if node in self._counts else 0

    def _sum(self, name: str) -> int:
        return sum(getattr(each, name) for each in self._counts.values())

    def rate(self) -> float | None:
        """Bytes a second over the last ten seconds; None before there are two looks."""
        if len(self._samples) < 2:
            return None
        (first, low), (last, high) = self._samples[0], self._samples[-1]
        return max(0.0, (high - low) / (last - first)) if last > first else None

    def left(self) -> float | None:
        """Seconds until all is there, as it goes now; None where nothing goes."""
        rate = self.rate()
        return max(0, self._sum("total") - self._sum("done")) / rate if rate else None

    def text(self) -> str:
        """ "3 of 10 files, 12.0 MiB of 40.0 MiB, 5.0 MiB/s, 6 s left: name"."""
        parts = [f"{self._sum('files')} of {self._sum('of_files')} files"]
        parts += [f"{size(self._sum('done'))} of {size(self._sum('total'))}"]
        rate, left = self.rate(), self.left()
        parts += [f"{size(rate)}/s"] if rate is not None else []
        parts += [f"{left:.0f} s left"] if left is not None else []
        names = [each.current for each in self._counts.values() if each.files < each.of_files and each.current]
        return ", ".join(parts) + (f": {printable(names[-1])[:80]}" if names else "")

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told < EVERY:
            return
        self._told = now
        total, done = self._sum("total"), self._sum("done")
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > SPAN:
            self._samples.popleft()
        self._report(min(1.0, done / total) if total else None, self.text())


class Pace:
    """Lets so many bytes a second through; all transfers of one job share it.

    Args:
        rate: Bytes a second; None for as fast as it goes.
    """

    def __init__(self, rate: float | None) -> None:
        self._limiter = AsyncLimiter(rate, 1.0) if rate else None

    async def pieces(self, block: bytes) -> AsyncIterator[bytes]:
        """A block in pieces, each when it may go."""
        if self._limiter is None:
            yield block
            return
        most = max(1, int(self._limiter.max_rate / 4))
        for start in range(0, len(block), most):
            piece = block[start : start + most]
            await self._limiter.acquire(len(piece))
            yield piece


def size(count: float) -> str:
    """Bytes as people read them."""
    at = 0
    while count >= 1024 and at < len(UNITS) - 1:
        count, at = count / 1024, at + 1
    return f"{count:.0f} {UNITS[at]}" if at == 0 else f"{count:.1f} {UNITS[at]}"
