"""The public classes of hailo_platform, with the vendor's names, parameters and exceptions (HailoRT 4.23 and 5.2)."""

from __future__ import annotations

import contextlib
import queue
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort._pyhailort import (
    BOX,
    DvmTypes,
    FormatOrder,
    FormatType,
    NotificationId,  # noqa: F401 users take it from here
    PowerMeasurementTypes,
)


class HailoSchedulingAlgorithm(_pyhailort.SchedulingAlgorithm):
    pass


class HailoPowerMode(_pyhailort.PowerMode):
    pass


class HailoRTException(Exception):  # noqa: N818 the vendor's name
    pass


class HailoRTTimeout(HailoRTException):
    pass


class HailoRTStreamAborted(HailoRTException):
    pass


class HailoRTStreamAbortedByUser(HailoRTException):
    pass


class HailoRTInvalidOperationException(HailoRTException):
    pass


class HailoRTInvalidArgumentException(HailoRTException):
    pass


class HailoRTNotFoundException(HailoRTException):
    pass


class HailoRTInvalidHEFException(HailoRTException):
    pass


class HailoRTHEFNotCompatibleWithDevice(HailoRTException):
    pass


class HailoRTFirmwareControlFailedException(HailoRTException):
    pass


class HailoRTInvalidFrameException(HailoRTException):
    pass


class HailoRTNetworkGroupNotActivatedException(HailoRTException):
    pass


class HailoRTUnsupportedOpcodeException(HailoRTException):
    pass


class HailoRTDriverOperationFailedException(HailoRTException):
    pass


class HailoCommunicationClosedException(HailoRTException):
    pass


KINDS = {
    2: (HailoRTInvalidArgumentException, "Invalid argument. See hailort.log for more information"),
    4: (HailoRTTimeout, "Received a timeout - hailort has failed because a timeout had occurred"),
    6: (HailoRTInvalidOperationException, "Invalid operation. See hailort.log for more information"),
    18: (HailoRTFirmwareControlFailedException, "libhailort control operation failed"),
    26: (HailoRTInvalidHEFException, "Invalid HEF. See hailort.log for more information"),
    36: (
        HailoRTDriverOperationFailedException,
        "Failure in hailort driver ioctl. run 'dmesg | grep hailo' for more information",
    ),
    48: (HailoRTUnsupportedOpcodeException, "HailoRT has failed because an unsupported opcode was sent to device"),
    61: (HailoRTNotFoundException, "Item not found. See hailort.log for more information"),
    62: (HailoCommunicationClosedException, "Communication closed failure. Check server-client connection"),
    63: (HailoRTStreamAborted, "Stream was aborted"),
    93: (HailoRTHEFNotCompatibleWithDevice, "HEF file is not compatible with device. See hailort.log for more information"),
}


def from_status(code: int) -> HailoRTException:
    """The exception of a status, with the vendor's words; those without one of their own carry number and name."""
    if code in KINDS:
        kind, words = KINDS[code]
        return kind(words)
    return HailoRTException(f"libhailort failed with error: {code} ({_pyhailort.get_status_message(code)})")


@contextlib.contextmanager
def translated() -> Any:
    """Statuses become exceptions."""
    try:
        yield
    except _pyhailort.HailoRTStatusException as error:
        raise from_status(int(error.args[0])) from error


class HEF:
    def __init__(self, hef_source):
        if not isinstance(hef_source, (str, bytes)):
            raise ValueError("HEF can only be created from a file path (str) or a buffer (bytes)")
        with translated():
            self._net = _pyhailort.Net(hef_source)

    def get_network_group_names(self):
        return [self._net.about["name"]]

    def get_network_groups_infos(self):
        return [SimpleNamespace(name=self._net.about["name"], is_multi_context=self._net.about["multi_context"])]

    def get_output_vstream_infos(self, name=None):
        return [_info(each) for each in self._net.about["outputs"]]

    def get_input_vstream_infos(self, name=None):
        return [_info(each) for each in self._net.about["inputs"]]


def _info(each: dict[str, Any]) -> SimpleNamespace:
    nms = SimpleNamespace(number_of_classes=each.get("classes", 0), max_bboxes_per_class=each.get("boxes", 0))
    return SimpleNamespace(name=each["name"], nms_shape=nms)


class BoardInformation:
    def __init__(self) -> None:
        self.firmware_version = SimpleVersion(_pyhailort.control("firmware", [4, 23, 0]))
        self.device_architecture = _pyhailort.control("architecture", "HAILO8")


class SimpleVersion:
    def __init__(self, numbers: list[int]) -> None:
        self.major, self.minor, self.revision = numbers

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision} (release,app)"


class Control:
    def __init__(self, device):
        self._callbacks = _pyhailort.Callbacks()

    def identify(self):
        return BoardInformation()

    def chip_reset(self):
        _pyhailort.note("chip_reset")
        with translated():
            if not _pyhailort.control("chip_reset"):
                _pyhailort.fail(6)  # "Chip reset is not supported for PCIe device." (pcie_device.cpp)
            _pyhailort.cure()

    def nn_core_reset(self):
        _pyhailort.note("nn_core_reset")
        with translated():
            if _pyhailort.control("no_core_reset"):
                _pyhailort.fail(6)
            _pyhailort.cure()

    def get_chip_temperature(self):
        _pyhailort.hang("reading")
        first, second = _pyhailort.control("temperature", [50.0, 51.5])
        return SimpleNamespace(ts0_temperature=first, ts1_temperature=second, sample_count=1)

    def power_measurement(self, dvm=DvmTypes.AUTO, measurement_type=PowerMeasurementTypes.AUTO):
        with translated():
            power = _pyhailort.control("power", 2.5)
            if power is None:
                _pyhailort.note("power_measurement")
                _pyhailort.fail(48)
            return power

    def set_notification_callback(self, callback_func, notification_id, opaque):
        self._callbacks.set(callback_func, notification_id, opaque)

    def remove_notification_callback(self, notification_id):
        pass


class Device:
    @classmethod
    def scan(cls):
        return _pyhailort.control("devices", ["0000:01:00.0"])

    def __init__(self, device_id=None):
        if device_id is None:
            ids = Device.scan()
            if not ids:
                raise HailoRTException("HailoRT device not found in the system")
            device_id = ids[0]
        if device_id not in Device.scan():
            _pyhailort.fail(61)  # this call is not translated, in the vendor's package neither
        self._device_id = device_id
        self._control_object = Control(self)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.release()
        return False

    def release(self):
        pass

    @property
    def device_id(self):
        return self._device_id

    @property
    def control(self):
        return self._control_object


class AsyncInferCompletionInfo:
    def __init__(self, exception):
        self._exception = exception

    @property
    def exception(self):
        return self._exception


class InferModel:
    class InferStream:
        def __init__(self, infer_stream):
            self._told = infer_stream
            self._type = FormatType[infer_stream.get("dtype", "uint8").upper()]

        @property
        def name(self):
            return self._told["name"]

        @property
        def shape(self):
            if self.is_nms:
                numbers = self._told["classes"] * (1 + BOX * self._told["boxes"])
                return [numbers if self._order() == FormatOrder.HAILO_NMS_BY_CLASS else 4 * numbers]
            return list(self._told["shape"])

        @property
        def format(self):
            return SimpleNamespace(type=self._type, order=self._order(), flags=0)

        def _order(self):
            return FormatOrder[self._told.get("order", "NHWC")]

        def set_format_type(self, type):
            self._type = type

        def set_format_order(self, order):
            self._told = {**self._told, "order": order.name}

        @property
        def quant_infos(self):
            scale, zero = self._told["quant"]
            return [SimpleNamespace(qp_scale=scale, qp_zp=zero)]

        @property
        def is_nms(self):
            return "classes" in self._told

        def set_nms_score_threshold(self, threshold):
            self._told = {**self._told, "threshold": threshold}

        def set_nms_iou_threshold(self, threshold):
            pass

        def set_nms_max_proposals_per_class(self, max_proposals):
            pass

    def __init__(self, infer_model, hef_path):
        self._net = infer_model
        self._hef_path = hef_path
        self._inputs = [self.InferStream(each) for each in infer_model.about["inputs"]]
        self._outputs = [self.InferStream(each) for each in infer_model.about["outputs"]]

    @property
    def hef(self):
        return HEF(self._hef_path)

    def set_batch_size(self, batch_size):
        pass

    def set_power_mode(self, power_mode):
        pass

    def configure(self):
        _pyhailort.note("configure")
        _pyhailort.hang("load")
        _pyhailort.hold(_pyhailort.control("configure_seconds", 0))
        self._net.load()
        return ConfiguredInferModel(self._net, self)

    @property
    def input_names(self):
        return [each.name for each in self._inputs]

    @property
    def output_names(self):
        return [each.name for each in self._outputs]

    @property
    def inputs(self):
        return self._inputs

    @property
    def outputs(self):
        return self._outputs

    def input(self, name=""):
        return _one(self._inputs, name)

    def output(self, name=""):
        return _one(self._outputs, name)


def _one(streams: list[Any], name: str) -> Any:
    found = [each for each in streams if each.name == name] if name else streams
    if len(found) != 1:
        raise HailoRTNotFoundException("Item not found. See hailort.log for more information")
    return found[0]


class ConfiguredInferModel:
    class Bindings:
        class InferStream:
            def __init__(self, infer_stream, nms_info=None):
                self._stream = infer_stream
                self._nms = nms_info
                self._buffer = None
                self._detections: list[Any] = []

            def set_buffer(self, buffer):
                if not buffer.flags.c_contiguous:
                    raise HailoRTException("Buffer must be C_CONTIGUOUS")
                by_score = self._nms and self._stream.format.order == FormatOrder.HAILO_NMS_BY_SCORE
                if by_score and buffer.dtype != np.uint8:
                    raise HailoRTException(f"Buffer must be of type uint8. Got {buffer.dtype}.")
                self._buffer = buffer

            def get_buffer(self, tf_format=False):
                if tf_format is None or not self._nms:
                    return self._buffer
                if self._stream.format.order == FormatOrder.HAILO_NMS_BY_SCORE:
                    return self._detections
                return self._by_class()

            def _by_class(self) -> list[np.ndarray]:
                found, at = [], 0
                for _ in range(self._nms.number_of_classes):
                    count = int(self._buffer[at])
                    found.append(self._buffer[at + 1 : at + 1 + BOX * count].reshape(count, BOX))
                    at += 1 + BOX * count
                return found

        def __init__(self, bindings, input_names, output_names, nms_infos):
            self._inputs = {each.name: self.InferStream(each) for each in bindings.inputs}
            self._outputs = {each.name: self.InferStream(each, nms_infos.get(each.name)) for each in bindings.outputs}

        def input(self, name=""):
            return self._inputs[name or next(iter(self._inputs))]

        def output(self, name=""):
            return self._outputs[name or next(iter(self._outputs))]

        def get(self):
            return self

    def __init__(self, configured_infer_model, infer_model):
        self._net = configured_infer_model
        self._infer_model = infer_model
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.shutdown()

    def activate(self):
        raise HailoRTInvalidOperationException("Invalid operation. See hailort.log for more information")

    def deactivate(self):
        raise HailoRTInvalidOperationException("Invalid operation. See hailort.log for more information")

    def create_bindings(self, input_buffers=None, output_buffers=None):
        nms = {each.name: _info(each._told).nms_shape for each in self._infer_model.outputs if each.is_nms}
        bindings = self.Bindings(self._infer_model, self._infer_model.input_names, self._infer_model.output_names, nms)
        for name, buffer in (input_buffers or {}).items():
            bindings.input(name).set_buffer(buffer)
        for name, buffer in (output_buffers or {}).items():
            bindings.output(name).set_buffer(buffer)
        return bindings

    def wait_for_async_ready(self, timeout_ms=1000, frames_count=1):
        if frames_count > self.get_async_queue_size():
            raise HailoRTTimeout("Received a timeout - hailort has failed because a timeout had occurred")

    def run(self, bindings, timeout):
        self.run_async(bindings).wait(timeout)

    def run_async(self, bindings, callback=None):
        if len(bindings) > self.get_async_queue_size():
            with translated():
                _pyhailort.fail(82)
        job = AsyncInferJob(threading.Event())
        self._jobs.put((bindings, callback, job))
        return job

    def set_scheduler_timeout(self, timeout_ms):
        pass

    def set_scheduler_threshold(self, threshold):
        pass

    def set_scheduler_priority(self, priority):
        pass

    def get_async_queue_size(self):
        return _pyhailort.control("queue", 4)

    def shutdown(self):
        _pyhailort.note("shutdown")
        self._jobs.put(None)

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            bindings, callback, job = taken
            _pyhailort.hang("infer")
            problem = None
            try:
                with translated():
                    for each in bindings:
                        _pyhailort.Chip.frame()
                        self._frame(each)
            except HailoRTException as error:
                problem = error
            if callback:
                callback(completion_info=AsyncInferCompletionInfo(problem))
            job._job.set()

    def _frame(self, bindings: Any) -> None:
        given = {}
        for stream in self._infer_model.inputs:
            raw = bindings.input(stream.name).get_buffer()
            scale, zero = stream._told["quant"]
            if stream.format.type == FormatType.FLOAT32:  # the library quantises what comes as numbers
                raw = np.clip(np.rint(raw / scale + zero), 0, 255)
            values = ((raw.astype(np.float32) - zero) * scale).astype(np.float32)
            given[stream._told["onnx"]] = values.transpose(2, 0, 1)[None] if values.ndim == 3 else values[None]
        found = self._net.run(given)
        for stream in self._infer_model.outputs:
            self._put(stream, found[stream._told["onnx"]][0], bindings.output(stream.name))

    def _put(self, stream: Any, values: np.ndarray, target: Any) -> None:
        if stream.is_nms:
            _boxes(stream, values, target)
            return
        scale, zero = stream._told["quant"]
        if values.ndim == 3:
            values = values.transpose(1, 2, 0)
        quantised = np.clip(np.rint(values / scale + zero), 0, 255)
        target.get_buffer(None)[...] = (quantised - zero) * scale if stream.format.type == FormatType.FLOAT32 else quantised


def _boxes(stream: Any, values: np.ndarray, target: Any) -> None:
    """Candidates (classes × boxes × 5) that are sure enough: by class with a count before each class's, or by score."""
    kept = [rows[rows[:, 4] >= stream._told.get("threshold", 0.3)] for rows in values]
    if stream.format.order == FormatOrder.HAILO_NMS_BY_SCORE:
        found = [
            SimpleNamespace(y_min=row[0], x_min=row[1], y_max=row[2], x_max=row[3], score=row[4], class_id=number)
            for number, rows in enumerate(kept)
            for row in rows
        ]
        target._detections = sorted(found, key=lambda each: -each.score)
        return
    flat = np.concatenate([part for rows in kept for part in (np.array([len(rows)], np.float32), rows.reshape(-1))])
    target.get_buffer(None)[: len(flat)] = flat


class AsyncInferJob:
    def __init__(self, job):
        self._job = job

    def wait(self, timeout_ms):
        if not self._job.wait(timeout_ms / 1000):
            raise HailoRTTimeout("Received a timeout - hailort has failed because a timeout had occurred")


class VDevice:
    def __init__(self, params=None, *, device_ids=None):
        _pyhailort.note("open")
        _pyhailort.hang("open")
        with translated():
            if not Device.scan():
                _pyhailort.fail(74)
            if _pyhailort.control("in_use"):
                _pyhailort.fail(73)
        self._ids = (params.device_ids if params is not None else device_ids) or Device.scan()[:1]

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.release()
        return False

    def release(self):
        _pyhailort.note("release")

    @staticmethod
    def create_params():
        return _pyhailort.VDeviceParams()

    def get_physical_devices(self):
        return [Device(each) for each in self._ids]

    def get_physical_devices_ids(self):
        return self._ids

    def create_infer_model(self, hef_source, name=""):
        with translated():
            return InferModel(_pyhailort.Net(hef_source), hef_source)
