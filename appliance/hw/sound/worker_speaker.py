"""Playback, in the process that holds PortAudio: one sound after the other, as it comes."""

from __future__ import annotations

import json
import os
import select
import time
from array import array
from typing import Any

from appliance.hw.sound import choice
from appliance.hw.sound.ring import Bytes
from appliance.hw.sound.worker import Link, TroubleError, choose, opened

AHEAD = 1.0
"""Seconds of sound that may wait here; whoever makes it waits then."""
BEGIN = 0.06
"""Seconds of sound that are there before it begins, where more is to come."""
LATENCY = 0.06
"""Seconds of buffer asked of the device."""
SILENT = 1.0
"""Seconds without a callback after which the device counts as gone."""
FIRST = 3.0
"""The same for the first callback."""
LOOK = 0.2
"""Seconds between looks at the clock, and between signs of life."""
BLOCK = 0.01
"""Seconds of sound that the device takes at a time."""
FULL = 1 << 15
"""Factor 1 of the volume."""
TAIL = 0.02
"""Seconds of silence behind the last sample, before the device is closed."""


class Playing:
    """One sound on its way out.

    Args:
        link: To the appliance.
        sd: The library.
        row: The device.
        order: "number", "rate".
        bell: Rung when something has happened.
    """

    def __init__(self, link: Link, sd: Any, row: choice.Row, order: dict[str, Any], bell: int) -> None:
        self.number, self._source, self._row, self._link, self._bell = order["number"], order["rate"], row, link, bell
        self._called = self._begun_at = self._over_at = 0.0
        self._told = self.ended = self._finished = self._dry = False
        self._handed = self._underruns = 0
        self._started = 0.0

        def make(channels: int, rate: int) -> Any:
            return sd.RawOutputStream(
                device=row["index"], channels=channels, samplerate=rate, dtype="int16", blocksize=round(rate * BLOCK),
                latency=LATENCY, callback=self._callback, finished_callback=self._over,
            )  # fmt: skip

        rates = choice.rates(row, self._source)
        self._stream, self._channels, self._rate = opened(make, sd, row, choice.output_channels(row), rates)
        self._ring = Bytes(2 * self._channels * round((AHEAD + 1) * self._rate))
        self._converter: Any = None
        if self._rate != self._source:
            import soxr

            self._converter = soxr.ResampleStream(self._source, self._rate, 1, dtype="int16")

    # --- in PortAudio's thread

    def _callback(self, sound: Any, frames: int, times: Any, status: Any) -> None:
        now = time.monotonic()
        self._called = now
        latency = min(max(0.0, times.outputBufferDacTime - times.currentTime), 2.0)
        out = memoryview(sound).cast("B")
        ended = self.ended  # before the ring is looked at: nothing is written after it
        count = self._ring.take(out)
        out[count:] = bytes(len(out) - count)
        samples = count // (2 * self._channels)
        if samples and not self._begun_at:
            self._begun_at = now + latency
            os.eventfd_write(self._bell, 1)
        self._handed += samples
        if samples == frames:
            self._dry = False
        elif ended and not self._over_at:
            self._over_at = now + latency + samples / self._rate
            os.eventfd_write(self._bell, 1)
        elif not ended and not self._dry:
            self._underruns += 1
            self._dry = True
        self._underruns += bool(status.output_underflow)

    def _over(self) -> None:
        self._finished = True
        os.eventfd_write(self._bell, 1)

    # --- in the main thread

    @property
    def room(self) -> bool:
        """Whether more sound may come."""
        return self._ring.filled < 2 * self._channels * round(AHEAD * self._rate)

    def add(self, data: bytes, volume: float) -> None:
        """More of it: mono, 16 bit, at the rate of its order."""
        self._put(array("h", data), volume, last=False)

    def end(self, volume: float) -> None:
        """That was all."""
        self._put(array("h"), volume, last=True)
        self.ended = True

    def _put(self, mono: array[int], volume: float, *, last: bool) -> None:
        if self._converter is not None:
            import numpy as np

            chunk = self._converter.resample_chunk(np.frombuffer(mono, np.int16), last=last)
            mono = array("h", chunk.tobytes())
        factor = round(min(max(volume, 0.0), 1.0) * FULL)
        if factor != FULL:
            mono = array("h", [value * factor >> 15 for value in mono])
        wide = array("h", bytes(2 * self._channels * len(mono)))
        for channel in range(min(2, self._channels)):
            wide[channel :: self._channels] = mono
        self._ring.put(wide.tobytes())

    def step(self) -> bool:
        """Go on as far as possible now; whether it is over. Raises TroubleError where the device is gone."""
        now = time.monotonic()
        enough = self._ring.filled >= 2 * self._channels * round(BEGIN * self._rate)
        if not self._started and (enough or self.ended):
            self._started = now
            self._stream.start()
        if self._begun_at and not self._told:
            self._told = True
            self._link.say(event="sound", number=self.number, at=self._begun_at)
        if self._over_at and now >= self._over_at + TAIL:
            self._close(self._handed / self._rate)
            return True
        self._watch(now)
        return False

    def stop(self) -> None:
        """Be silent now; what has left the loudspeaker is told."""
        heard = min(max(0.0, time.monotonic() - self._begun_at), self._handed / self._rate) if self._begun_at else 0.0
        self._close(heard)

    def _close(self, heard: float) -> None:
        self._stream.abort()
        self._stream.close()
        self._link.say(event="done", number=self.number, heard=heard, underruns=self._underruns)

    def _watch(self, now: float) -> None:
        again = "plug it in again; the next sound tries it."
        if self._finished:
            raise TroubleError(f"{self._row['name']} is gone: PortAudio ended its stream.", again)
        if self._started and now > (self._called + SILENT if self._called else self._started + FIRST):
            raise TroubleError(f"{self._row['name']} takes no sound any more: unplugged, or it hangs.", again)

    @property
    def wakes(self) -> float:
        """Seconds until `step` has something to do without being woken."""
        return max(0.0, min(LOOK, self._over_at + TAIL - time.monotonic())) if self._over_at else LOOK


class Player:
    """Plays what it is told to, until the appliance goes.

    Args:
        link: To the appliance.
        sd: The library.
        order: "name" and "volume".
    """

    def __init__(self, link: Link, sd: Any, order: dict[str, Any]) -> None:
        self._link, self._sd = link, sd
        self._volume = float(order["volume"])
        self._row = choose(sd, order["name"], "output")
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._stopped = 0
        """Sounds up to this number are not played."""
        self._playing: Playing | None = None

    def run(self) -> None:
        """Play. Raises TroubleError where the device fails."""
        self._link.say(event="ready", name=self._row["name"])
        while True:
            playing = self._playing
            readers: list[Any] = [self._link.urgent, self._bell]
            if playing is None or playing.room:
                readers.append(self._link.sock)
            ready, _, _ = select.select(readers, [], [], playing.wakes if playing else None)
            if self._bell in ready:
                os.eventfd_read(self._bell)
            self._obey()
            if self._link.sock in ready and (data := self._link.read(self._link.sock)) is not None:
                self._take(data)
            self._step(alive=not ready)

    def _obey(self) -> None:
        for order in self._link.orders():
            self._volume = float(order.get("volume", self._volume))
            self._stopped = max(self._stopped, order.get("stop", 0))
        if self._playing is not None and self._playing.number <= self._stopped:
            self._playing.stop()
            self._playing = None

    def _take(self, data: bytes) -> None:
        playing = self._playing
        if data[:1] == b"A":
            if playing is not None:  # else it was stopped
                playing.add(data[1:], self._volume)
            return
        message = json.loads(data)
        if message["op"] == "end":
            if playing is not None and playing.number == message["number"]:
                playing.end(self._volume)
        elif message["number"] > self._stopped:
            self._playing = Playing(self._link, self._sd, self._row, message, self._bell)
        else:
            self._link.say(event="done", number=message["number"], heard=0.0, underruns=0)

    def _step(self, *, alive: bool) -> None:
        if self._playing is None:
            return
        if self._playing.step():
            self._playing = None
        elif alive:
            self._link.say(event="alive")


def run(link: Link, sd: Any, order: dict[str, Any]) -> None:
    """Wait for sounds, and play them. Raises TroubleError."""
    player = Player(link, sd, order)
    try:
        player.run()
    except sd.PortAudioError as error:
        raise TroubleError(f"The speaker failed: {error}.", "plug it in again; the next sound tries it.") from error
