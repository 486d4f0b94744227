"""Capture, in the process that holds PortAudio: callback, ring, conversion, sending."""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import time
from typing import Any

from appliance.hw.sound import choice
from appliance.hw.sound.ring import Blocks
from appliance.hw.sound.worker import Link, TroubleError, choose, opened

RATE = 16000
SAMPLES = 512
"""Of a frame (core.voice.model.FRAME)."""
HEADER = struct.Struct("<cdII")
"""b"A", time, lost, overruns; the sound follows."""
WAITING = 2.0
"""Seconds of sound that may wait for the appliance; what comes then is lost, and counted."""
SILENT = 1.0
"""Seconds without a callback after which the device counts as gone: PortAudio tells nothing of a source that vanished."""
FIRST = 3.0
"""The same for the first callback."""
LATENCY = 0.1
"""Seconds of buffer asked of the device: the longest that this process may be held up."""
LOOK = 0.2
"""Seconds between looks at the clock."""
LONGEST_AGE = 1.0
"""Seconds; what a device claims beyond them is not believed."""
ZEROS = bytes(2 * SAMPLES)


class Converter:
    """Sound of the device's rate to frames at RATE.

    Args:
        rate: Of the device.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left = b""
        self._lost = 0.0
        self._stream: Any = None
        if rate != RATE:
            import soxr

            self._stream = soxr.ResampleStream(rate, RATE, 1, dtype="int16")

    def feed(self, sound: memoryview, at: float, lost: int) -> list[tuple[bytes, float, int]]:
        """Frames that are whole now: their sound, the time of the last sample, and samples lost before."""
        self._lost += lost * RATE / self._rate
        data = sound.tobytes()
        if self._stream is not None:
            import numpy as np

            data = self._stream.resample_chunk(np.frombuffer(data, np.int16)).tobytes()
        self._left += data
        frames = []
        while len(self._left) >= 2 * SAMPLES:
            pcm, self._left = self._left[: 2 * SAMPLES], self._left[2 * SAMPLES :]
            missing, self._lost = round(self._lost), 0.0
            frames.append((pcm, at - len(self._left) / 2 / RATE, missing))
        return frames


class Capture:
    """One open microphone.

    Args:
        link: To the appliance.
        sd: The library.
        order: "name" and "rate" as the settings have them, and "muted".
    """

    def __init__(self, link: Link, sd: Any, order: dict[str, Any]) -> None:
        self._link = link
        self._muted = bool(order["muted"])
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._hears_since = 0.0
        """Monotonic: what sounded before is not told, though the device gives it later."""
        self._called = 0.0
        self._finished = False
        self._ends = 0.0
        """Clock of the device when the last block ended."""
        self._device_overruns = 0
        self._unsent: list[tuple[bytes, float, int]] = []
        self.row = choose(sd, order["name"], "input")

        def make(channels: int, rate: int) -> Any:
            return sd.RawInputStream(
                device=self.row["index"], channels=channels, samplerate=rate, dtype="int16", blocksize=rate * SAMPLES // RATE,
                latency=LATENCY, callback=self._callback, finished_callback=self._over,
            )  # fmt: skip

        rates = choice.rates(self.row, order["rate"])
        self.stream, self.channels, self.rate = opened(make, sd, self.row, choice.input_channels(self.row), rates)
        block = self.rate * SAMPLES // RATE
        self._ring = Blocks(max(4, round(WAITING * self.rate / block)), block)
        self._silence = memoryview(bytearray(2 * block)).cast("h")
        self._converter = Converter(self.rate)

    # --- in PortAudio's thread

    def _callback(self, sound: Any, frames: int, times: Any, status: Any) -> None:
        now = time.monotonic()
        self._called = now
        age, length = times.currentTime - times.inputBufferAdcTime, frames / self.rate
        known = length <= age <= LONGEST_AGE  # else it cannot be the age of the first sample
        lost = 0
        if status.input_overflow:
            self._device_overruns += 1
            lost = self._gap(times.inputBufferAdcTime)
        self._ends = times.inputBufferAdcTime + length
        samples = memoryview(sound).cast("B").cast("h")[:: self.channels]
        ended = now - (age - length if known else 0.0)
        silent = self._muted or ended - length < self._hears_since
        self._ring.put(self._silence if silent else samples, ended, lost)
        os.eventfd_write(self._bell, 1)

    def _gap(self, begins: float) -> int:
        """Samples between the last block and this one, by the device's clock: PortAudio says only that there were some."""
        return max(0, min(round((begins - self._ends) * self.rate), round(60 * self.rate))) if self._ends else 0

    def _over(self) -> None:
        self._finished = True
        os.eventfd_write(self._bell, 1)

    # --- in the main thread

    def run(self) -> None:
        """Send what is heard until the appliance goes. Raises TroubleError where the device does."""
        self.stream.start()
        begun = time.monotonic()
        self._link.say(event="open", name=self.row["name"], channels=self.channels, rate=self.rate)
        while True:
            writers: list[Any] = [self._link.sock] if self._unsent else []
            readers: list[Any] = [self._link.sock, self._link.urgent, self._bell]
            select.select(readers, writers, [], LOOK)
            self._obey()
            self._move()
            self._watch(begun)

    def _obey(self) -> None:
        for order in self._link.orders():
            was, self._muted = self._muted, bool(order["muted"])
            if was and not self._muted:
                self._hears_since = time.monotonic()
            if self._muted:  # what was taken before must not come out when it hears again
                self._ring.silence(self._silence)
                self._unsent = [(ZEROS, at, lost) for _, at, lost in self._unsent]
                self._converter = Converter(self.rate)
        while (data := self._link.read(self._link.sock)) is not None:
            json.loads(data)

    def _move(self) -> None:
        with contextlib.suppress(BlockingIOError):  # woken by something else
            os.eventfd_read(self._bell)
        while self._flush() and (block := self._ring.peek()) is not None:
            self._unsent = self._converter.feed(*block)
            self._ring.drop()

    def _flush(self) -> bool:
        """Send what is ready; whether all went."""
        overruns = self._ring.overruns + self._device_overruns
        while self._unsent:
            pcm, at, lost = self._unsent[0]
            sent = self._link.send(HEADER.pack(b"A", at, min(lost, 2**32 - 1), overruns) + (ZEROS if self._muted else pcm))
            if not sent:
                return False
            self._unsent.pop(0)
        return True

    def _watch(self, begun: float) -> None:
        again = "plug it in again; it is opened by itself."
        if self._finished:
            raise TroubleError(f"{self.row['name']} is gone: PortAudio ended its stream.", again)
        if time.monotonic() > (self._called + SILENT if self._called else begun + FIRST):
            raise TroubleError(f"{self.row['name']} gives no sound any more: unplugged, or it hangs.", again)


def run(link: Link, sd: Any, order: dict[str, Any]) -> None:
    """Open a microphone and send what it hears. Raises TroubleError."""
    capture = Capture(link, sd, order)
    try:
        capture.run()
    except sd.PortAudioError as error:
        raise TroubleError(f"{capture.row['name']} failed: {error}.", "plug it in again; it is opened by itself.") from error
