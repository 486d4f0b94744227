"""Cameras on the Raspberry Pi's own connector, through picamera2 (libcamera), where it is installed.

picamera2 is on no wheel that we ship: on Raspberry Pi OS it is the package python3-picamera2, in the system's site-packages.
Its API as the Picamera2 manual has it (Raspberry Pi Ltd): Picamera2.global_camera_info, create_video_configuration, start,
capture_array, stop, close.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.core.model import Device, Health
from appliance.errors import AbsentError, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

STEP = "install python3-picamera2 (Raspberry Pi OS), in a virtual environment that sees the system's packages."
SIZE = (1280, 720)
"""Pixels, where none are asked for."""


class PiCameras:
    """Looks for the Pi's cameras, without loading their library.

    Args:
        root: Of the file system.
    """

    name = "pi cameras"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def __call__(self) -> Device:
        """Whether there are any."""
        sensors = self._sensors()
        if not sensors:
            reason = "no camera on the Pi's connector"
            step = "connect one with the power off, and start again."
            return Device("picamera", "Pi camera", Health.absent, reason, step)
        names = ", ".join(sensors)
        if importlib.util.find_spec("picamera2") is None:
            return Device("picamera", "Pi camera", Health.absent, f"{names} is there, but picamera2 is not installed", STEP)
        return Device("picamera", "Pi camera", Health.healthy, names)

    def _sensors(self) -> list[str]:
        """Image sensors that the kernel has bound to a driver: media entities are named "imx708 10-001a"."""
        found = []
        for entry in sorted((self._root / "sys/class/video4linux").glob("v4l-subdev*/name")):
            name = entry.read_text(errors="replace").split(" ", 1)[0].strip()
            if name.startswith(("imx", "ov", "arducam")):
                found.append(name)
        return found


class PiCamera:
    """One camera, open (implements core.inference.sources.frames.Camera).

    Args:
        which: 0 for the first.
        size: Such as "1280x720"; empty for the usual one.
        rate: Frames a second that are wanted.

    Raises:
        AbsentError: picamera2, or the camera, is not there.
        SourceError: It cannot be started.
    """

    def __init__(self, which: int, size: str, rate: float) -> None:
        self._camera = _open(which)
        width, _, height = size.partition("x")
        wanted = (int(width), int(height)) if size else SIZE
        try:
            # libcamera's RGB888 has its bytes in the order blue, green, red; BGR888 is red, green, blue in memory.
            configuration = self._camera.create_video_configuration(
                main={"size": wanted, "format": "BGR888"}, controls={"FrameRate": max(1.0, min(rate, 60.0))}
            )
            self._camera.configure(configuration)
            self._camera.start()
        except (RuntimeError, ValueError, OSError) as error:
            self._camera.close()
            raise SourceError(f"The Pi's camera {which} cannot be started: {error}.", "stop what else uses it.") from error

    def read(self, timeout: float) -> npt.NDArray[np.uint8]:
        """The next picture, height × width × 3, uint8, RGB. Raises SourceError where none comes."""
        job = self._camera.capture_array("main", wait=False)
        try:
            array: npt.NDArray[np.uint8] = job.get_result(timeout=timeout)
        except TimeoutError:
            raise SourceError("The Pi's camera sent no frame in time.", "look at its cable, with the power off.") from None
        except (RuntimeError, ValueError, OSError) as error:
            raise SourceError(f"The Pi's camera failed: {error}.", "look at its cable, with the power off.") from error
        return array

    def close(self) -> None:
        """Let go of it."""
        self._camera.stop()
        self._camera.close()


def _open(which: int) -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise AbsentError("picamera2 is not installed.", STEP) from error
    try:
        if which >= len(Picamera2.global_camera_info()):
            raise AbsentError(f"The Pi has no camera {which}.", "connect it with the power off, and start again.")
        return Picamera2(which)
    except (RuntimeError, IndexError, OSError) as error:
        raise AbsentError(f"The Pi's camera {which} cannot be opened: {error}.", "stop what else uses it.") from error
