"""The child process that holds the Hailo, run by the interpreter that has the vendor's package; it imports nothing of ours but
what lies beside it (hailo_worker_model.py).

Written on the public API of hailo_platform, 4.x from 4.18 on (Hailo-8) and 5.x (Hailo-10, 15), alike in what is used here.
It is started with the numbers of a UNIX socket (SOCK_SEQPACKET: a message is a message) and of a pipe whose other end the
parent holds. Requests are JSON objects with "id" and "op"; each gets one answer with the same id. Tensors are in memory that
the parent shares: a file descriptor comes with the request "share", and "infer" says where in it inputs and outputs are.

A call into the vendor's library may never return, and most of them hold the interpreter's lock: the parent watches the time,
and kills this process; where the parent dies itself, the kernel does (the pipe, see _tie).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hailo_worker_model import Model, Refused, by_class, view  # type: ignore[import-not-found]  # beside this script

MESSAGE = 1 << 16
"""Bytes of the longest message."""
THREADS = 6
"""Requests under way at a time."""
SLOW = {"open", "load", "prepare", "unload"}
"""Requests during which the library may hold the interpreter's lock."""
NOTICES = [
    "HEALTH_MONITOR_" + name for name in (
        "TEMPERATURE_ALARM", "DATAFLOW_SHUTDOWN", "OVERCURRENT_ALARM", "LCU_ECC_UNCORRECTABLE_ERROR", "CPU_ECC_ERROR",
        "CPU_ECC_FATAL", "CLOCK_CHANGED_EVENT",
    )
]  # fmt: skip
"""Of the library's NotificationId, those that are passed on; a version that lacks one goes without it."""


class Worker:
    """Answers requests until the parent goes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_lock, self._count_lock = threading.Lock(), threading.Lock()
        self._vdevice: Any = None
        self._device: Any = None
        self._models: dict[int, Model] = {}
        self._shared: dict[int, mmap.mmap] = {}
        self._throttled: bool | None = None
        self._clock = 0
        """The highest that was told of."""
        self._loading, self._since, self._held = 0, 0.0, 0.0
        """Loading under way, since when, and seconds that it took so far: nobody else's time runs meanwhile."""
        self._told: set[str] = set()
        self._silent: set[str] = set()
        """What this board has told once, and what it cannot tell."""

    def serve(self) -> None:
        """Read requests; each is carried out in a thread, so that a slow one does not hold up the next."""
        with ThreadPoolExecutor(THREADS) as threads:
            while True:
                data, fds, _, _ = socket.recv_fds(self._sock, MESSAGE, 1)
                if not data:
                    os._exit(0)  # the parent is gone: a call that hangs must not keep this process
                threads.submit(self._answer, json.loads(data), fds)

    def say(self, message: dict[str, Any]) -> None:
        """Send one message; nothing where the parent is gone."""
        with self._send_lock, contextlib.suppress(OSError):
            self._sock.send(json.dumps(message).encode())

    def _answer(self, request: dict[str, Any], fds: list[int]) -> None:
        slow = request["op"] in SLOW
        try:
            self._count(slow)
            answer = getattr(self, "do_" + request["op"])(request, fds)
        except Exception as error:  # noqa: BLE001 it becomes the answer
            answer = _trouble(error)
        finally:
            self._count(-slow)
        self.say({"id": request["id"], **answer})

    def _count(self, change: int) -> float:
        """Loading begins (1), ends (-1), or goes on; the seconds that it took so far."""
        with self._count_lock:
            now = time.monotonic()
            self._held += (now - self._since) if self._loading else 0.0
            self._since, self._loading = now, self._loading + change
            return self._held

    # --- requests

    def do_open(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Take the device: its id, firmware and kind."""
        from hailo_platform import Device, HailoSchedulingAlgorithm, VDevice

        chosen = _choose(Device.scan(), request["device"])
        params = VDevice.create_params()
        params.scheduling_algorithm = HailoSchedulingAlgorithm.ROUND_ROBIN
        params.device_ids = [chosen]
        self._vdevice = VDevice(params)
        self._device = self._vdevice.get_physical_devices()[0]
        board = self._device.control.identify()
        self._listen()
        return {"device": chosen, "firmware": str(board.firmware_version), "architecture": str(board.device_architecture)}

    def do_load(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Load a HEF under a number; what it takes and gives."""
        if self._vdevice is None:
            raise Refused("The device was not opened.")
        from hailo_platform import FormatType

        model = Model(self._vdevice, request["path"], FormatType)
        self._models[request["model"]] = model
        return dict(model.about)

    def do_prepare(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Set a model up for inputs of these types; it may take as long as loading does."""
        self._models[request["model"]].configured(request["dtypes"])
        return {}

    def do_unload(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Free a model."""
        model = self._models.pop(request["model"], None)
        if model is not None:
            model.close()
        return {}

    def do_share(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Take memory of the parent's under a number."""
        try:
            self._shared[request["memory"]] = mmap.mmap(fds[0], request["size"])
        finally:
            os.close(fds[0])
        return {}

    def do_unshare(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Forget memory; it is given back with the last array in it."""
        self._shared.pop(request["memory"], None)
        return {}

    def do_infer(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Run a batch: one set of bindings for each frame, as one asynchronous job."""
        import numpy as np

        ends = time.monotonic() + request["seconds"] - self._count(0)
        model, memory = self._models[request["model"]], self._shared[request["memory"]]
        configured = model.configured([each["dtype"] for each in request["inputs"]])
        frames, later = [], []
        for frame in range(request["count"]):
            bindings = configured.create_bindings()
            for each in request["inputs"]:
                bindings.input(each["name"]).set_buffer(view(np, memory, each, each["dtype"], frame))
            for each, told in zip(request["outputs"], model.outputs, strict=True):
                stream = bindings.output(each["name"])
                if told["kind"] == "score":
                    stream.set_buffer(np.empty(told["shape"], np.uint8))
                    later.append((stream, told, view(np, memory, each, "float32", frame)))
                else:
                    stream.set_buffer(view(np, memory, each, "float32", frame))
            frames.append(bindings)
        self._run(configured, frames, ends)
        for stream, told, target in later:
            by_class(stream.get_buffer(), told, target)
        return {}

    def _run(self, configured: Any, frames: list[Any], ends: float) -> None:
        """As many frames at once as the library queues: it would wait in vain for room for more."""
        problems: list[Exception] = []

        def completed(completion_info: Any) -> None:
            if completion_info.exception is not None:
                problems.append(completion_info.exception)

        most = max(1, configured.get_async_queue_size())
        for at in range(0, len(frames), most):
            some = frames[at : at + most]
            self._wait(ends, configured.wait_for_async_ready, len(some))
            self._wait(ends, configured.run_async(some, completed).wait)
            if problems:
                raise problems[0]

    def _wait(self, ends: float, wait: Any, *more: int) -> None:
        """Wait as long as there is time, and again where something was loaded meanwhile: its end could not be told."""
        while True:
            left = ends + self._count(0) - time.monotonic()
            try:
                wait(max(1, int(left * 1000)), *more)
                return
            except _base() as error:
                if type(error).__name__ != "HailoRTTimeout" or ends + self._count(0) - time.monotonic() <= 0.001:
                    raise

    def do_reading(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Temperature and power; null where the board does not tell."""
        heat = self._asked("temperature", "get_chip_temperature")
        power = self._asked("power", "power_measurement")
        hottest = None if heat is None else max(heat.ts0_temperature, heat.ts1_temperature)
        return {"temperature": hottest, "power": None if power is None else float(power), "throttled": self._throttled}

    def _asked(self, what: str, call: str) -> Any:
        """What a sensor says; one that never said anything is not there. Raises where the temperature is not told any more."""
        if what in self._silent or self._device is None:
            return None
        try:
            value = getattr(self._device.control, call)()
            self._told.add(what)
        except _base() as error:
            if what in self._told and what == "temperature":
                raise
            if what not in self._told:
                self._silent.add(what)
                self.say({"event": "note", "text": f"{what} cannot be measured: {error}"})
            return None
        return value

    def do_reset(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Reset the chip, or where it does not know that (over PCIe), its core; where neither, a new process may be a cure."""
        from hailo_platform import Device

        why: list[str] = []
        with Device(_choose(Device.scan(), request["device"])) as device:
            for name in ("chip_reset", "nn_core_reset"):
                try:
                    getattr(device.control, name)()
                except _base() as error:
                    why.append(f"{name}: {error}")
                else:
                    return {"reset": name, "why": "; ".join(why)}
        return {"reset": "", "why": "; ".join(why)}

    def do_close(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Let go of the device."""
        for number in list(self._models):
            self._models.pop(number).close()
        self._device = None
        if self._vdevice is not None:
            self._vdevice.release()
            self._vdevice = None
        return {}

    # --- notifications

    def _listen(self) -> None:
        from hailo_platform.pyhailort.pyhailort import NotificationId

        for name in NOTICES:
            if (wanted := getattr(NotificationId, name, None)) is None:
                continue
            try:
                self._device.control.set_notification_callback(self._noticed, wanted, name)
            except _base() as error:
                self.say({"event": "note", "text": f"no notifications {name}: {error}"})
            else:
                self._throttled = bool(self._throttled)

    def _noticed(self, device: Any, notification: Any, opaque: Any) -> None:
        """Called by the library, which ends the process where this raises."""
        try:
            facts = self._facts(opaque, notification.body)
        except Exception as error:  # noqa: BLE001 it becomes the answer
            facts = {"problem": f"{type(error).__name__}: {error}"}
        self.say({"event": "notice", "name": opaque, "facts": facts})

    def _facts(self, name: str, body: Any) -> dict[str, Any]:
        if name == "HEALTH_MONITOR_CLOCK_CHANGED_EVENT":
            told = body.health_monitor_clock_changed_notification
            self._clock = max(self._clock, told.previous_clock, told.current_clock)
            self._throttled = told.current_clock < self._clock
            return {"from": told.previous_clock, "to": told.current_clock}
        if name == "HEALTH_MONITOR_TEMPERATURE_ALARM":
            told = body.health_monitor_temperature_alarm_notification
            return {"zone": str(told.temperature_zone), "celsius": max(told.ts0_temperature, told.ts1_temperature)}
        if name == "HEALTH_MONITOR_OVERCURRENT_ALARM":
            return {"zone": str(body.health_monitor_overcurrent_alert_notification.overcurrent_zone)}
        return {}


def _choose(ids: list[str], wanted: str) -> str:
    """The device by its number in the list or by its id."""
    if not ids:
        raise _base()("HailoRT device not found in the system")
    if wanted in ids:
        return wanted
    if wanted.isdigit() and int(wanted) < len(ids):
        return ids[int(wanted)]
    raise Refused(f"There is no device {wanted}; there are {', '.join(ids)}.")


def _base() -> Any:
    """The vendor's base of exceptions."""
    from hailo_platform import HailoRTException

    return HailoRTException


def _trouble(error: Exception) -> dict[str, Any]:
    """An error as an answer: its class, its words, and the library's status where the words have it.

    Calls that the vendor's package does not wrap raise HailoRTStatusException with the bare number.
    """
    status = re.search(r"failed with error: (\d+)", str(error)) or re.fullmatch(r"(\d+)", str(error))
    return {"error": type(error).__name__, "text": str(error)[:500], "status": int(status[1]) if status else None}


def _tie(lifeline: int) -> None:
    """End with the parent, also in a call that never returns: the kernel sends SIGIO when the other end closes (O_ASYNC)."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it has closed already
        os._exit(0)


def main() -> None:
    """Import the vendor's package, say hello, serve."""
    _tie(int(sys.argv[2]))
    sock = socket.socket(fileno=int(sys.argv[1]))
    worker = Worker(sock)
    about: dict[str, Any] = {"event": "hello", "python": sys.version.split()[0], "pid": os.getpid()}
    sys.path = [place for place in sys.path if place != os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120
    try:
        import hailo_platform
    except Exception as error:  # noqa: BLE001 it becomes the answer: no package, parts of several versions, a broken library
        worker.say({**about, **_trouble(error), "missing": isinstance(error, ModuleNotFoundError)})
        return
    worker.say({**about, "library": str(hailo_platform.__version__)})
    worker.serve()


if __name__ == "__main__":
    main()
