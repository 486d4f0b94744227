"""In place of the vendor's compiled module: the enumerations, and a chip that a file controls."""

from __future__ import annotations

import ctypes
import enum
import json
import os
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

BOX = 5
MAGIC = 0x01484546


def _path() -> Path:
    return Path(os.environ["FAKE_HAILO"])


def control(name: str, default: Any = None) -> Any:
    """What the test's file says now."""
    return json.loads(_path().read_text()).get(name, default)


def note(what: str) -> None:
    """Tell the test what was called."""
    with _path().with_suffix(".log").open("a") as log:
        log.write(f"{os.getpid()} {what}\n")


def cure() -> None:
    """A reset of the chip ends what hangs."""
    told = json.loads(_path().read_text())
    if not told.get("reset_fails"):
        told = {name: value for name, value in told.items() if name not in {"hang", "lost_after"}}
        made = _path().with_suffix(".new")
        made.write_text(json.dumps(told))
        made.rename(_path())


def hang(where: str) -> None:
    """Wait for ever where the file says so: "deaf" holds the interpreter's lock as well."""
    wanted = control("hang")
    if wanted == where:
        threading.Event().wait()
    if wanted == f"{where}-deaf":
        note(wanted)
        ctypes.PyDLL(None).sleep(1000)


def hold(seconds: float) -> None:
    """Take so long with the interpreter's lock held, as the library does while it loads."""
    if seconds:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


__version__ = control("library", control("version", "4.23.0"))


class FormatType(enum.Enum):
    AUTO = 0
    UINT8 = 1
    UINT16 = 2
    FLOAT32 = 3


class FormatOrder(enum.Enum):
    AUTO = 0
    NHWC = 1
    NC = 6
    HAILO_NMS_WITH_BYTE_MASK = 20
    HAILO_NMS_BY_CLASS = 22
    HAILO_NMS_BY_SCORE = 23


class SchedulingAlgorithm:
    NONE = 0
    ROUND_ROBIN = 1


class PowerMode:
    PERFORMANCE = 0
    ULTRA_PERFORMANCE = 1


class DvmTypes(enum.Enum):
    AUTO = 0x7FFFFFFF
    OVERCURRENT_PROTECTION = 9


class PowerMeasurementTypes(enum.Enum):
    AUTO = 0x7FFFFFFF
    POWER = 2


class NotificationId(enum.Enum):
    HEALTH_MONITOR_TEMPERATURE_ALARM = 1
    HEALTH_MONITOR_DATAFLOW_SHUTDOWN = 2
    HEALTH_MONITOR_OVERCURRENT_ALARM = 3
    HEALTH_MONITOR_LCU_ECC_CORRECTABLE_ERROR = 4
    HEALTH_MONITOR_LCU_ECC_UNCORRECTABLE_ERROR = 5
    HEALTH_MONITOR_CPU_ECC_ERROR = 6
    HEALTH_MONITOR_CPU_ECC_FATAL = 7
    HEALTH_MONITOR_CLOCK_CHANGED_EVENT = 10


class HailoRTStatusException(Exception):  # noqa: N818 the vendor's name
    """Carries a status number, as the compiled module raises it."""


STATUS = {
    2: "HAILO_INVALID_ARGUMENT",
    4: "HAILO_TIMEOUT",
    6: "HAILO_INVALID_OPERATION",
    13: "HAILO_OPEN_FILE_FAILURE",
    26: "HAILO_INVALID_HEF",
    36: "HAILO_DRIVER_OPERATION_FAILED",
    48: "HAILO_UNSUPPORTED_OPCODE",
    61: "HAILO_NOT_FOUND",
    62: "HAILO_COMMUNICATION_CLOSED",
    63: "HAILO_STREAM_ABORT",
    73: "HAILO_DEVICE_IN_USE",
    74: "HAILO_OUT_OF_PHYSICAL_DEVICES",
    82: "HAILO_QUEUE_IS_FULL",
    92: "HAILO_HEF_NOT_SUPPORTED",
    93: "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE",
}


def get_status_message(code: int) -> str:
    return STATUS.get(code, "")


def fail(code: int) -> None:
    raise HailoRTStatusException(str(code))


class VDeviceParams:
    def __init__(self) -> None:
        self.device_ids: list[str] = []
        self.device_count = 1
        self.scheduling_algorithm = SchedulingAlgorithm.NONE
        self.group_id = ""
        self.multi_process_service = False


class Net:
    """What is inside a made-up HEF."""

    def __init__(self, path: str) -> None:
        try:
            data = Path(path).read_bytes()
        except OSError:
            fail(13)
        magic, version, size = struct.unpack_from(">III", data)
        if magic != MAGIC or version != 0 or len(data) < 32 + size:
            fail(26)
        self.about: dict[str, Any] = json.loads(data[32 + size :].split(b"\n", 1)[0])
        self.onnx = data[32 + size :].split(b"\n", 1)[1]
        self.session: Any = None

    def load(self) -> None:
        """Make ready to run."""
        import onnxruntime

        self.session = onnxruntime.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of one frame: N×C×H×W float32 in and out, by the names of the ONNX model's."""
        names = [each.name for each in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, inputs), strict=True))


class Chip:
    """Counts frames and draws attention to itself in the monitor's file."""

    frames = 0
    lock = threading.Lock()

    @classmethod
    def frame(cls) -> None:
        """One more; the device may get lost with it."""
        with cls.lock:
            cls.frames += 1
            lost = control("lost_after")
            if lost is not None and cls.frames > lost:
                fail(36)
        cls.monitor()

    @classmethod
    def monitor(cls) -> None:
        """HAILO_MONITOR: the share of time in which the device is busy, as scheduler_mon.proto has it."""
        directory = control("monitor")
        if not directory or os.environ.get("HAILO_MONITOR") != "1":
            return
        device = b"\x0a\x02id" + b"\x11" + struct.pack("<d", control("busy", 42.5))
        pid = str(os.getpid()).encode()
        path = Path(directory) / f"{os.getpid()}abcdef"
        path.write_bytes(b"\x0a" + bytes([len(pid)]) + pid + b"\x22" + bytes([len(device)]) + device)


class Callbacks:
    """Sends the notifications that the file lists, once each."""

    def __init__(self) -> None:
        self._wanted: dict[NotificationId, Any] = {}
        self._sent = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def set(self, callback: Any, wanted: NotificationId, opaque: Any) -> None:
        self._wanted[wanted] = (callback, opaque)

    def _watch(self) -> None:
        while True:
            for name, body in control("notices", [])[self._sent :]:
                self._sent += 1
                callback, opaque = self._wanted[NotificationId[name]]
                told = {each: SimpleNamespace(**facts) for each, facts in body.items()}
                callback(
                    0,
                    SimpleNamespace(notification_id=NotificationId[name], sequence=self._sent, body=SimpleNamespace(**told)),
                    opaque,
                )
            time.sleep(0.02)
