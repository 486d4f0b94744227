"""The child process that holds the Hailo, run by the interpreter that has the vendor's package; it imports nothing of ours.

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

MESSAGE = 1 << 16
"""Bytes of the longest message."""
THREADS = 6
"""Requests under way at a time."""
BOX = 5
"""Numbers of a box: y_min, x_min, y_max, x_max, score."""
NOTICES = [
    "HEALTH_MONITOR_" + name for name in (
        "TEMPERATURE_ALARM", "DATAFLOW_SHUTDOWN", "OVERCURRENT_ALARM", "LCU_ECC_UNCORRECTABLE_ERROR", "CPU_ECC_ERROR",
        "CPU_ECC_FATAL", "CLOCK_CHANGED_EVENT",
    )
]  # fmt: skip
"""Of the library's NotificationId, those that are passed on; a version that lacks one goes without it."""


class Refused(Exception):  # noqa: N818 it is an answer
    """The request cannot be carried out, and the device is not to blame."""


class Model:
    """A HEF that was loaded."""

    def __init__(self, vdevice: Any, path: str) -> None:
        self._vdevice, self._path = vdevice, path
        self._ready: dict[tuple[str, ...], Any] = {}
        """Configured models by the types of their inputs."""
        self._lock = threading.Lock()
        model = vdevice.create_infer_model(path)
        infos = {info.name: info for info in model.hef.get_output_vstream_infos()}
        self.inputs = [{"name": each.name, "shape": list(each.shape), "dtype": _dtype(each)} for each in model.inputs]
        self.outputs = [_output(each, infos.get(each.name)) for each in model.outputs]
        groups = model.hef.get_network_groups_infos()
        self.about = {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "groups": [{"name": group.name, "multi_context": bool(group.is_multi_context)} for group in groups],
        }
        self.configured([each["dtype"] for each in self.inputs])

    def configured(self, dtypes: list[str]) -> Any:
        """The model set up for inputs of these types; outputs are float32."""
        from hailo_platform import FormatType

        with self._lock:
            if tuple(dtypes) not in self._ready:
                model = self._vdevice.create_infer_model(self._path)
                for stream, dtype in zip(model.inputs, dtypes, strict=True):
                    stream.set_format_type(getattr(FormatType, dtype.upper()))
                for stream, told in zip(model.outputs, self.outputs, strict=True):
                    if told["kind"] != "score":
                        stream.set_format_type(FormatType.FLOAT32)
                self._ready[tuple(dtypes)] = (model, model.configure())
            return self._ready[tuple(dtypes)][1]

    def close(self) -> None:
        """Give the device's memory back."""
        ready, self._ready = self._ready, {}
        for _, configured in ready.values():
            configured.shutdown()


def _dtype(stream: Any) -> str:
    """uint8, uint16 or float32, of the stream's format."""
    name = str(getattr(stream.format.type, "name", stream.format.type)).lower()
    return name if name in {"uint8", "uint16", "float32"} else "uint8"


def _output(stream: Any, info: Any) -> dict[str, Any]:
    """What an output is: plain numbers, or boxes by class or by score."""
    if not stream.is_nms:
        return {"name": stream.name, "kind": "plain", "shape": list(stream.shape)}
    order = str(getattr(stream.format.order, "name", stream.format.order))
    if "MASK" in order:
        raise Refused(f"The output {stream.name} holds masks ({order}), which are not supported; compile the HEF without them.")
    kind = "score" if "SCORE" in order else "class"
    boxes = {"classes": info.nms_shape.number_of_classes, "boxes": info.nms_shape.max_bboxes_per_class}
    return {"name": stream.name, "kind": kind, "shape": list(stream.shape), **boxes}


class Worker:
    """Answers requests until the parent goes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_lock = threading.Lock()
        self._vdevice: Any = None
        self._device: Any = None
        self._models: dict[int, Model] = {}
        self._shared: dict[int, mmap.mmap] = {}
        self._throttled: bool | None = None
        self._clock = 0
        """The highest that was told of."""
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
        try:
            answer = getattr(self, "do_" + request["op"])(request, fds)
        except Exception as error:  # noqa: BLE001 it becomes the answer
            answer = _trouble(error)
        self.say({"id": request["id"], **answer})

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
        model = Model(self._vdevice, request["path"])
        self._models[request["model"]] = model
        return model.about

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

        ends = time.monotonic() + request["seconds"]
        model, memory = self._models[request["model"]], self._shared[request["memory"]]
        configured = model.configured([each["dtype"] for each in request["inputs"]])
        frames, later = [], []
        for frame in range(request["count"]):
            bindings = configured.create_bindings()
            for each in request["inputs"]:
                bindings.input(each["name"]).set_buffer(_view(np, memory, each, each["dtype"], frame))
            for each, told in zip(request["outputs"], model.outputs, strict=True):
                stream = bindings.output(each["name"])
                if told["kind"] == "score":
                    stream.set_buffer(np.empty(told["shape"], np.uint8))
                    later.append((stream, told, _view(np, memory, each, "float32", frame)))
                else:
                    stream.set_buffer(_view(np, memory, each, "float32", frame))
            frames.append(bindings)
        self._run(configured, frames, ends)
        for stream, told, target in later:
            _by_class(stream.get_buffer(), told, target)
        return {}

    @staticmethod
    def _run(configured: Any, frames: list[Any], ends: float) -> None:
        """As many frames at once as the library queues: it would wait in vain for room for more."""
        problems: list[Exception] = []

        def completed(completion_info: Any) -> None:
            if completion_info.exception is not None:
                problems.append(completion_info.exception)

        def left() -> int:
            return max(1, int((ends - time.monotonic()) * 1000))

        most = max(1, configured.get_async_queue_size())
        for at in range(0, len(frames), most):
            some = frames[at : at + most]
            configured.wait_for_async_ready(timeout_ms=left(), frames_count=len(some))
            configured.run_async(some, completed).wait(left())
            if problems:
                raise problems[0]

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


def _view(np: Any, memory: mmap.mmap, place: dict[str, Any], dtype: str, frame: int) -> Any:
    """A frame's tensor in the shared memory."""
    count = 1
    for side in place["shape"]:
        count *= side
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer(memory, dtype, count, place["offset"] + frame * size).reshape(place["shape"])


def _by_class(detections: Any, told: dict[str, Any], target: Any) -> None:
    """Boxes that came by score, laid out as those that come by class: for each class a count, then its boxes."""
    at = 0
    for number in range(told["classes"]):
        mine = [each for each in detections if each.class_id == number][: told["boxes"]]
        target[at] = len(mine)
        at += 1
        for each in mine:
            target[at : at + BOX] = (each.y_min, each.x_min, each.y_max, each.x_max, each.score)
            at += BOX


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
