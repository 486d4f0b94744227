"""A HEF in the Hailo's child process, and how its tensors lie in the shared memory: part of hailo_worker.py.

It is found beside that file, which is run as a script: it imports nothing of ours.
"""

from __future__ import annotations

import mmap
import threading
from typing import Any

BOX = 5
"""Numbers of a box: y_min, x_min, y_max, x_max, score."""


class Refused(Exception):  # noqa: N818 it is an answer
    """The request cannot be carried out, and the device is not to blame."""


class Model:
    """A HEF that was loaded; `types` are the library's FormatType."""

    def __init__(self, vdevice: Any, path: str, types: Any) -> None:
        self._vdevice, self._path, self._types = vdevice, path, types
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
        with self._lock:
            if tuple(dtypes) not in self._ready:
                model = self._vdevice.create_infer_model(self._path)
                for stream, dtype in zip(model.inputs, dtypes, strict=True):
                    stream.set_format_type(getattr(self._types, dtype.upper()))
                for stream, told in zip(model.outputs, self.outputs, strict=True):
                    if told["kind"] != "score":
                        stream.set_format_type(self._types.FLOAT32)
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


def view(np: Any, memory: mmap.mmap, place: dict[str, Any], dtype: str, frame: int) -> Any:
    """A frame's tensor in the shared memory."""
    count = 1
    for side in place["shape"]:
        count *= side
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer(memory, dtype, count, place["offset"] + frame * size).reshape(place["shape"])


def by_class(detections: Any, told: dict[str, Any], target: Any) -> None:
    """Boxes that came by score, laid out as those that come by class: for each class a count, then its boxes."""
    at = 0
    for number in range(told["classes"]):
        mine = [each for each in detections if each.class_id == number][: told["boxes"]]
        target[at] = len(mine)
        at += 1
        for each in mine:
            target[at : at + BOX] = (each.y_min, each.x_min, each.y_max, each.x_max, each.score)
            at += BOX
