"""The Hailo accelerator (implements ports.Accelerator): a child process holds it, tensors go through shared memory.

The vendor's library is bound to the system's Python and to an old numpy, and its calls may hang: it lives in a process of its
own (hailo_worker.py), which is killed where it does not answer. Without card or library the device is absent, and says why.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.core.inference.hef import fields
from appliance.core.inference.hef import read as read_header
from appliance.core.inference.model import DeviceReading
from appliance.core.model import Device, Health
from appliance.errors import DeviceError, ModelError
from appliance.hw.hailo_child import Child
from appliance.hw.hailo_faults import TakenError
from appliance.hw.hailo_model import HailoModel

log = logging.getLogger(__name__)

SYSTEM = "/usr/bin/python3"
"""Where the vendor's packages install to on Raspberry Pi OS."""
INSTALL = "sudo apt-get install hailo-all && sudo reboot"
OLDEST = (4, 18)
"""The first HailoRT whose Python package has all that the worker calls."""
OPEN, LOAD, RESET = 15.0, 45.0, 20.0
"""Seconds for taking the device, for loading a model, and for a reset."""
GRACE = 0.2
"""Seconds more than the worker's own limit until it is killed."""
MONITOR = Path("/tmp/hmon_files")  # noqa: S108 where HailoRT writes (monitor_handler.hpp)
FRESH = 5.0
"""Seconds for which a file of the monitor counts."""
FORGET = 300.0
"""Seconds after which it is tried again, beside all else, whether a package can be imported that could not."""
NOTICES = 20
"""Notifications of the device that are kept until a reading tells them; older ones are in the log alone."""


class HailoAccelerator:
    """The Hailo of this machine.

    Args:
        python: Interpreter that has hailo_platform; empty tries the system's, then this one.
        device_id: Its number as they are listed, or its PCI address.
        stall_seconds: Without an answer for so long, it is held for stalled.
        root: Where /dev is looked for.
        environ: Of the child; None for this process's.
        on_notice: Called, in a thread, with name and facts of the device's notifications (temperature, over-current, …).
        monitor: Where HailoRT writes how busy the device is.
        enabled: Off: it is left alone, and absent.
    """

    name = "Hailo"
    backend = "hailo"
    kind = "hef"

    def __init__(
        self,
        python: str = "",
        device_id: str = "0",
        stall_seconds: float = 1.5,
        *,
        root: Path = Path("/"),
        environ: Mapping[str, str] | None = None,
        on_notice: Callable[[str, dict[str, Any]], None] = lambda name, facts: None,
        monitor: Path = MONITOR,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._pythons = [python] if python else list(dict.fromkeys([SYSTEM, sys.executable]))
        self._device_id = device_id
        self._stall = stall_seconds
        self._root = root
        self._environ = dict(os.environ if environ is None else environ)
        self._tell = on_notice
        self._monitor = monitor
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._taken = False
        """Another program held it when it was opened last."""
        self._missing: tuple[str, float] = ("", 0.0)
        """Why the package cannot be imported, and until when that is believed."""
        self._trying = threading.Lock()
        """Held while it is tried whether that is so still."""
        self.about: dict[str, str] = {}
        """library, python, device, firmware, architecture: as far as they are known."""
        self._notices: deque[str] = deque(maxlen=NOTICES)
        """Not yet told by a reading, newest last."""

    def detect(self) -> Device:
        """Look for its device file; whether the package can be imported is known after the first use."""
        if not self._enabled:
            return Device("accelerator", self.name, Health.absent, "it is switched off", "set hailo.enabled to use it.")
        nodes = sorted(self._root.glob("dev/hailo*"))
        if not nodes:
            reason = "no /dev/hailo*: no Hailo card, or its driver is not loaded"
            return Device("accelerator", self.name, Health.absent, reason, f"fit the card, then: {INSTALL}")
        missing, until = self._missing
        if missing:
            if time.monotonic() >= until and self._trying.acquire(blocking=False):
                threading.Thread(target=self._try_again, name="hailo-import", daemon=True).start()
            return Device("accelerator", self.name, Health.absent, missing, INSTALL)
        firmware = self.about.get("firmware", "")
        told = f"{self.about.get('architecture', '')} firmware {firmware}, HailoRT {self.about.get('library', '')}".strip()
        return Device("accelerator", self.name, Health.healthy, told if firmware else f"/dev/{nodes[0].name}")

    def load(self, path: str) -> HailoModel:
        """Load a HEF; the first one also opens the device. Raises ModelError, DeviceError."""
        header = read_header(Path(path))
        child = self._opened()
        architecture = self.about.get("architecture", "")
        if not header.fits(architecture):
            raise ModelError(
                f"{Path(path).name} was compiled for {header.architecture}, this device is a {architecture}.",
                f"take the HEF that was compiled for {architecture}.",
            )
        return HailoModel(child, path, header, stall=self._stall, load=LOAD, grace=GRACE)

    def _opened(self) -> Child:
        with self._lock:
            return self._open()

    def _open(self) -> Child:
        """The child, with the device open; one that cannot have it is ended."""
        if self._child is None or self._child.gone:
            self._child, self._taken = self._start(), False
            try:
                told = self._child.ask("open", OPEN, slow=True, device=self._device_id)
            except ModelError as error:
                self._taken = isinstance(error, TakenError)
                self._end()
                raise
            self.about |= {name: str(told[name]) for name in ("device", "architecture")}
            self.about["firmware"] = str(told["firmware"]).partition(" ")[0]
        return self._child

    @property
    def preparing(self) -> bool:
        """It loads something, during which it answers nobody: the library holds its interpreter's lock."""
        child = self._child
        return child is not None and child.deaf

    def _start(self) -> Child:
        """A child that could import the package, by the first interpreter that has it. Raises DeviceError."""
        if (found := self.detect()).health is Health.absent:
            raise DeviceError(f"The Hailo is absent: {found.reason}.", found.next_step)
        return self._begin()

    def _try_again(self) -> None:
        """Whether the package can be imported by now; beside all else, for `detect` is cheap and nobody waits for it."""
        try:
            self._begin().kill()
        except DeviceError as error:
            log.debug("the Hailo is absent still: %s", error)
        finally:
            self._trying.release()

    def _begin(self) -> Child:
        reasons = []
        for python in self._pythons:
            try:
                child = Child(python, self._environ, self._noticed)
            except DeviceError as error:
                reasons.append(error.message.rstrip("."))
                continue
            told = child.hello()
            if "error" not in told:
                _new_enough(child, str(told["library"]))
                self._missing = ("", 0.0)
                self.about |= {"library": str(told["library"]), "python": python}
                return child
            child.kill()
            reasons.append(f"{python}: {told['text']}")
            if not told.get("missing"):  # it is there, and broken: another interpreter's would be a stranger
                break
        reason = "hailo_platform cannot be imported (" + "; ".join(reasons) + ")"
        self._missing = (reason, time.monotonic() + FORGET)
        raise DeviceError(f"The Hailo cannot be used: {reason}.", f"make driver, firmware and library equal: {INSTALL}")

    def reading(self) -> DeviceReading:
        """What it says of itself; nothing where it is not opened. Raises DeviceError."""
        child = self._child
        if child is None:
            return DeviceReading(firmware=self.about.get("firmware"))
        if child.gone:
            raise child.ended()
        told = child.ask("reading", self._stall + GRACE)
        return DeviceReading(
            temperature_c=told["temperature"],
            power_w=told["power"],
            utilisation=utilisation(self._monitor, child.pid),
            throttled=told["throttled"],
            firmware=self.about.get("firmware"),
            notices=tuple(self._notices.popleft() for _ in range(len(self._notices))),
        )

    def reset(self) -> None:
        """Kill the process, reset the chip and open it again; models must be loaded again. Raises DeviceError.

        A device that another program holds is not reset under its feet: it is only tried whether it can be had by now.
        """
        with self._lock:
            self._end()
            self._missing = ("", 0.0)
            if not self._taken:
                self._reset()
            self._open()

    def _reset(self) -> None:
        child = self._start()
        try:
            told = child.ask("reset", RESET, slow=True, device=self._device_id)
        finally:
            child.kill()
        if told["reset"]:
            log.warning("the Hailo was reset (%s)", told["reset"])
        else:
            log.warning("the Hailo's process is begun anew; the chip knows no reset (%s)", told["why"])

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            child = self._child
            if child is not None and not child.gone:
                try:
                    child.ask("close", 1.0)
                except ModelError as error:
                    log.warning("the Hailo was not closed in order: %s", error)
            self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for left in self._monitor.glob(f"{child.pid}??????"):
                with contextlib.suppress(OSError):
                    left.unlink()

    def _noticed(self, name: str, facts: dict[str, Any]) -> None:
        log.warning("the Hailo tells %s: %s", name, facts)
        told = ", ".join(f"{key} {value}" for key, value in facts.items())
        self._notices.append(name.removeprefix("HEALTH_MONITOR_").lower().replace("_", " ") + (f": {told}" if told else ""))
        self._tell(name, facts)


def _new_enough(child: Child, library: str) -> None:
    """Raises DeviceError for a library without what the worker calls."""
    numbers = tuple(int(part) for part in library.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        child.kill()
        oldest = ".".join(map(str, OLDEST))
        raise DeviceError(
            f"HailoRT {library} is too old; {oldest} or newer is needed.",
            "sudo apt-get update && sudo apt-get install --reinstall hailo-all && sudo reboot",
        )


def utilisation(directory: Path, pid: int) -> float | None:
    """The device's busy time, 0…1, from HailoRT's monitor (scheduler_mon.proto); None where it does not write one now."""
    for path in directory.glob(f"{pid}??????"):
        try:
            if time.time() - path.stat().st_mtime > FRESH:
                continue
            message = path.read_bytes()
            shares = [
                value
                for number, device in fields(message)
                if number == 4 and isinstance(device, bytes)
                for inner, value in fields(device)
                if inner == 2 and isinstance(value, float)
            ]
        except (OSError, ValueError, IndexError) as error:
            log.debug("the monitor's file %s cannot be read: %s", path, error)
            continue
        if shares:
            return min(1.0, max(0.0, max(shares) / 100))
    return None
