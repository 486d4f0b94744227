"""A microphone (implements ports.Microphone)."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import AsyncIterator, Mapping

from appliance.core.voice.model import FRAME, RATE, WIDTH, Frame, MicrophoneStatus
from appliance.errors import AbsentError, DeviceError
from appliance.hw.sound.child import START, Child

log = logging.getLogger(__name__)

HEADER = struct.Struct("<cdII")
"""b"A", time, lost, overruns; the sound follows."""
STALL = 2.5
"""Seconds without a frame after which the process counts as hung; it tells of a silent device itself, sooner."""
ZEROS = bytes(FRAME * WIDTH)


class PortAudioMicrophone:
    """Frames from one device, by a process of its own while somebody wants them.

    Args:
        environ: Environment variables of that process.
        name: Part of the device's name; "auto" for a ReSpeaker, else the system's default.
        rate: Samples a second that it is opened with.
    """

    def __init__(self, environ: Mapping[str, str], name: str, rate: int = RATE) -> None:
        self._environ, self._name, self._rate = environ, name, rate
        self._muted = False
        self._child: Child | None = None
        self._asked = 0
        """Times that frames were asked for, or were wanted no more: only the newest may go on."""
        self._opened = False
        """It was open once."""
        self._overruns_before = self._overruns = self._lost = self._reopened = 0
        self._device, self._channels, self._device_rate, self._since = name, 1, rate, 0.0
        self._problem, self._next_step = "", ""

    @property
    def muted(self) -> bool:
        """While it is, frames are zeros and nothing of the sound leaves the process that hears it."""
        return self._muted

    @muted.setter
    def muted(self, value: bool) -> None:
        self._muted = value
        if self._child is not None:
            self._child.post(muted=value)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._child.pid if self._child is not None else None

    async def frames(self) -> AsyncIterator[Frame]:
        """Open it, and give every frame until the iterator is closed. Whoever asks anew ends those who asked before.

        Raises:
            AbsentError: There is no such device, or no PortAudio.
            DeviceError: It went away, stalled, or refuses; the iterator may be asked for anew.
        """
        await self.close()
        asked, child = self._asked, None
        try:
            order = {"mode": "microphone", "name": self._name, "rate": self._rate, "muted": self._muted}
            child = await Child.start(self._environ, order)
            if asked != self._asked:
                raise DeviceError("The microphone was closed while it was opened.", "it is opened again when it is wanted.")
            self._child = child
            await self._open(child)
            while True:
                yield self._frame(await child.receive(STALL))
        except (AbsentError, DeviceError) as error:
            if child is self._child:
                self._problem, self._next_step = error.message, error.next_step
            raise
        finally:
            if child is not None:
                await child.close()
            if child is self._child:
                self._child, self._since = None, 0.0

    async def _open(self, child: Child) -> None:
        told = await child.event(START)
        child.post(muted=self._muted)  # it may have changed meanwhile
        self._device, self._channels, self._device_rate = told["name"], told["channels"], told["rate"]
        self._reopened += self._opened
        self._opened, self._since = True, time.time()
        self._overruns_before, self._overruns = self._overruns_before + self._overruns, 0
        self._problem = self._next_step = ""
        log.info("microphone %s is open: %d channels at %d Hz", told["name"], told["channels"], told["rate"])

    def _frame(self, data: bytes) -> Frame:
        _, at, lost, self._overruns = HEADER.unpack_from(data)
        self._lost += lost
        return Frame(ZEROS if self._muted else data[HEADER.size :], at, lost)

    def status(self) -> MicrophoneStatus:
        """How it is now."""
        overruns = self._overruns_before + self._overruns
        return MicrophoneStatus(
            self._device, self._channels, self._device_rate, self._since > 0, self._muted, overruns, self._lost,
            self._reopened, self._since, self._problem, self._next_step,
        )  # fmt: skip

    async def close(self) -> None:
        """Let go of the device; who reads frames, or is about to, is told."""
        self._asked += 1
        if self._child is not None:
            await self._child.close()
