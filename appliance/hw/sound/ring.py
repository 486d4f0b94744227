"""Rings between PortAudio's callback and the rest: one writes, one reads, nobody waits. Index updates are single stores."""

from __future__ import annotations


class Blocks:
    """A ring of blocks of sound, for capture: a block that finds no room is lost, and counted with the next that does.

    Args:
        blocks: Most that wait.
        samples: Of 16 bit, in each.
    """

    def __init__(self, blocks: int, samples: int) -> None:
        self.samples = samples
        self._sound = [memoryview(bytearray(2 * samples)).cast("h") for _ in range(blocks)]
        self._times = [0.0] * blocks
        self._lost = [0] * blocks
        self._written = self._taken = 0
        self._missing = 0
        """Samples that were lost since the last block that found room; the writer's."""
        self.overruns = 0
        """Times that sound was lost; the writer's."""
        self._over = False

    def put(self, sound: memoryview, time: float, lost: int = 0) -> bool:
        """Write a block; the writer's.

        Args:
            sound: `samples` values of 16 bit; may be strided.
            time: Monotonic clock (seconds) of its last sample.
            lost: Samples that the device itself lost before it.

        Returns:
            False where there was no room.
        """
        self._missing += lost
        if self._written - self._taken >= len(self._sound):
            self._missing += self.samples
            self.overruns += not self._over
            self._over = True
            return False
        at = self._written % len(self._sound)
        self._sound[at][:] = sound
        self._times[at], self._lost[at] = time, self._missing
        self._missing, self._over = 0, False
        self._written += 1  # last: from here on the reader may have it
        return True

    def peek(self) -> tuple[memoryview, float, int] | None:
        """The oldest block, its time, and the samples lost before it; the reader's. It stays until `drop`."""
        if self._taken == self._written:
            return None
        at = self._taken % len(self._sound)
        return self._sound[at], self._times[at], self._lost[at]

    def drop(self) -> None:
        """Be done with the oldest block."""
        self._taken += 1

    def silence(self, zeros: memoryview) -> None:
        """Make all blocks that wait silent; the reader's."""
        for at in range(self._taken, self._written):
            self._sound[at % len(self._sound)][:] = zeros


class Bytes:
    """A ring of bytes, for playback.

    Args:
        size: Most that wait.
    """

    def __init__(self, size: int) -> None:
        self._buffer = memoryview(bytearray(size))
        self._written = self._taken = 0

    @property
    def filled(self) -> int:
        """Bytes that wait."""
        return self._written - self._taken

    @property
    def room(self) -> int:
        """Bytes that may be written."""
        return len(self._buffer) - self.filled

    def put(self, data: bytes) -> None:
        """Write all of it; the writer's. Raises BufferError where there is not so much room."""
        if len(data) > self.room:
            raise BufferError(f"{len(data)} bytes, and room for {self.room}")
        at = self._written % len(self._buffer)
        first = min(len(data), len(self._buffer) - at)
        self._buffer[at : at + first] = data[:first]
        self._buffer[: len(data) - first] = data[first:]
        self._written += len(data)

    def take(self, into: memoryview) -> int:
        """Fill the front of `into` with what there is; how many bytes. The reader's."""
        count = min(self.filled, len(into))
        at = self._taken % len(self._buffer)
        first = min(count, len(self._buffer) - at)
        into[:first] = self._buffer[at : at + first]
        into[first:count] = self._buffer[: count - first]
        self._taken += count
        return count
