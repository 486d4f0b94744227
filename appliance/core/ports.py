"""What the core asks of the world outside it. Drivers in hw/ implement these; the core never names a driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from appliance.core.inference.model import DeviceReading, TensorSpec
    from appliance.core.model import Device, HealthReport, HostSample
    from appliance.core.voice.model import ArrayStatus, Frame, MicrophoneStatus, SoundDevice, SpeakerStatus


class Clock(Protocol):
    """Two clocks: one that people read and that may jump, one that only goes forward."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


class Service(Protocol):
    """Something with a life of its own, supervised (see core.services)."""

    name: str
    summary: str
    depends: tuple[str, ...]

    async def start(self) -> None:
        """Become ready. Raise to be retried with backoff; raise AbsentError where hardware or configuration lacks."""

    async def run(self) -> None:
        """Work until cancelled. Returning early counts as a failure."""

    async def stop(self) -> None:
        """Release everything; called after run was cancelled, also after a failed start."""

    async def health(self) -> HealthReport:
        """Say how it is now, from evidence."""


class HostProbe(Protocol):
    """Reads the machine that the appliance runs on."""

    def read(self) -> HostSample:
        """One reading; blocks for some milliseconds."""


class AcceleratorModel(Protocol):
    """A model loaded into one accelerator. Methods block."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Sequence[Any]:
        """Run one batch.

        Args:
            inputs: Arrays by input name, in the model's layout; the first axis is the batch.

        Returns:
            The model's outputs in its own order; Hailo's NMS by class comes as the device's library gives it.

        Raises:
            ModelError: The inputs do not fit, or the model fails on them.
            DeviceError: The device failed; DeviceStalledError where it does not answer.
        """

    def close(self) -> None:
        """Free the device's memory."""


class Accelerator(Protocol):
    """Runs models. Methods block, but for `detect`, which is cheap."""

    name: str
    backend: str
    """"cpu" or "hailo", as results have it."""
    kind: str
    """Of the files that it runs: "onnx" or "hef"."""

    def detect(self) -> Device:
        """Say cheaply whether the device is there, and why not."""

    def load(self, path: str) -> AcceleratorModel:
        """Load a model file. Raises ModelError, DeviceError."""

    def reading(self) -> DeviceReading:
        """Temperature, power and the rest, as far as the device says. Raises DeviceError."""

    def reset(self) -> None:
        """Bring a stalled device back; models must be loaded again. Raises DeviceError."""

    def close(self) -> None:
        """Let go of the device."""


class Keyboard(Protocol):
    """A bare keyboard, read without a terminal."""

    async def keys(self, on_key: Callable[[str], Awaitable[None]]) -> None:
        """Call `on_key` with the name of each key pressed ("s", "?", "F5", "esc") until cancelled."""

    def sources(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(what is read now, what is there and cannot be read, with the reason)."""


class StatusLed(Protocol):
    """One light."""

    def show(self, pattern: str) -> None:
        """Show "healthy" (on), "degraded" (slow blink), "unhealthy" (fast blink) or "off"."""

    def close(self) -> None:
        """Give the pin back."""


class Host(Protocol):
    """The machine that the appliance runs on, as something that can be switched off."""

    async def missing(self) -> str:
        """Why it cannot be halted from here, with the next step; empty where it can."""

    async def halt(self) -> str:
        """Begin an orderly halt; says what was done. Raises AbsentError where that is not possible, DeviceError."""


class Restarter(Protocol):
    """The machine that the appliance runs on, as something that can be started again."""

    async def restart(self) -> str:
        """Begin an orderly restart; says what was done. Raises AbsentError where that is not possible, DeviceError."""


class Picture(Protocol):
    """A decoded picture: height × width × 3, uint8, RGB."""

    rgb: npt.NDArray[np.uint8]
    source: str


class Ran(Protocol):
    """What a command on another machine came to."""

    @property
    def exit_status(self) -> int:
        """0 where it did well."""

    @property
    def stdout(self) -> bytes:
        """What it said."""

    @property
    def stderr(self) -> bytes:
        """What it complained of."""


class RemoteShell(Protocol):
    """Commands on other machines, by their names in the inventory."""

    def nodes(self) -> Sequence[str]:
        """Names that can be reached by `run`."""

    async def run(self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0) -> Ran:
        """Run one command (arguments are quoted for the shell there; secrets go through `stdin`, never through arguments).

        Raises:
            NotFoundError: There is no such node.
            UnreachableError: It does not answer, refuses us, or shows another host key: nothing ran.
            ShellError: It was cut off, or took longer than `limit` seconds: it may have run.
        """


class Sound(Protocol):
    """The sound devices of this machine. What drives them is apart (a broken sound system ends its own process, not ours)."""

    def detect(self) -> Device:
        """Say cheaply, without opening anything, whether a microphone is there, and why not; blocks for some milliseconds."""

    async def devices(self) -> tuple[SoundDevice, ...]:
        """What PortAudio lists now. Raises AbsentError where it is not installed, DeviceError where it fails."""

    async def close(self) -> None:
        """Let go of everything."""


class Microphone(Protocol):
    """Sound from one device, at core.voice.model.RATE, one channel."""

    muted: bool
    """While it is, frames are zeros and nothing of the sound leaves the driver."""

    def frames(self) -> AsyncIterator[Frame]:
        """Open it, and give every frame until the iterator is closed. Gaps are told in `Frame.lost`, never filled.

        Raises:
            AbsentError: There is no such device.
            DeviceError: It went away, stalled, or refuses; the iterator may be asked for anew.
        """

    def status(self) -> MicrophoneStatus:
        """How it is now."""


class Speaker(Protocol):
    """Sound out of one device."""

    volume: float
    """0 to 1."""

    async def play(self, pcm: AsyncIterator[bytes], rate: int, on_sound: Callable[[], None] | None = None) -> float:
        """Play mono 16-bit sound as it comes; returns once the last of it was heard, or at once where `stop` was called.

        Args:
            pcm: The sound.
            rate: Its samples a second.
            on_sound: Called when the first of it is heard.

        Returns:
            Seconds that were heard.

        Raises:
            AbsentError: There is no such device.
            DeviceError: It went away, stalled, or refuses.
        """

    def stop(self) -> None:
        """Be silent at once; from any task."""

    def status(self) -> SpeakerStatus:
        """How it is now."""


class MicrophoneArray(Protocol):
    """What a microphone array offers beside its sound. Methods block for milliseconds, but for `detect`, which is cheap."""

    def detect(self) -> Device:
        """Say whether it is there, and why not."""

    def status(self) -> ArrayStatus:
        """Direction, voice activity, all parameters. Raises DeviceError, AbsentError."""

    def direction(self) -> int:
        """Degrees, 0 to 359. Raises DeviceError, AbsentError."""

    def set(self, name: str, value: float) -> float:
        """Set a parameter; returns it as it was read back. Raises InvalidArgumentsError, DeviceError, AbsentError."""

    def lights(self, pattern: str) -> None:
        """Show "off", "listening", "thinking", "speaking", "muted" or "trouble". Raises DeviceError, AbsentError."""

    def close(self) -> None:
        """Let go of it."""
