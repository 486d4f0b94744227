"""A HEF in the Hailo: inputs into shared memory, a request to the child, outputs out of it."""

from __future__ import annotations

import logging
import mmap
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from appliance.core.inference.hef import Hef
from appliance.core.inference.model import TensorSpec
from appliance.errors import DeviceError, ModelError
from appliance.hw.hailo_child import Child

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

log = logging.getLogger(__name__)

ALIGN = 4096
"""Bytes to which each tensor's place is rounded: a page, as the device's transfers want it."""
FRAMES = 8
"""For which memory is set aside at least."""
BOX = 5
"""Numbers of a box: y_min, x_min, y_max, x_max, score."""


@dataclass(frozen=True)
class Tensor:
    """An input or output as the HEF has it, for one frame.

    Attributes:
        kind: "plain", or of boxes "class" or "score".
        classes: Of boxes.
        boxes: Most of one class.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    kind: str = "plain"
    classes: int = 0
    boxes: int = 0

    @property
    def place(self) -> tuple[int, ...]:
        """Its shape in the shared memory: boxes stand by class, a count before each class's."""
        return self.shape if self.kind == "plain" else (self.classes * (1 + BOX * self.boxes),)

    @property
    def spec(self) -> TensorSpec:
        """For whoever uses the model: with a free batch axis. Boxes have (classes, 5, most of one class)."""
        shape = self.shape if self.kind == "plain" else (self.classes, BOX, self.boxes)
        return TensorSpec(self.name, (None, *shape), self.dtype)


class Memory:
    """Memory that the child sees too; without a name, so that nothing is left behind whoever is killed."""

    def __init__(self, child: Child, size: int) -> None:
        self.number, self.size = child.number(), size
        self._child = child
        descriptor = os.memfd_create("hailo", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            self.map = mmap.mmap(descriptor, size)
            child.ask("share", 5.0, [descriptor], memory=self.number, size=size)
        except OSError as error:
            raise ModelError(f"There is not enough memory for {size} bytes of tensors.", "free memory.") from error
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Let the child forget it; the map goes with the last array in it."""
        self._child.ask("unshare", 5.0, memory=self.number)


class HailoModel:
    """A loaded HEF (implements ports.AcceleratorModel).

    Inputs may come in the HEF's own type (mostly uint8) or as float32, which the library quantises; and as N×C×H×W where the
    HEF has N×H×W×C. Their names may differ from the HEF's where their order is the same. Outputs are float32; NMS by class
    comes as one list for each frame, of an array (boxes × 5: y_min, x_min, y_max, x_max, score) for each class.

    Args:
        child: Holds the device.
        path: Of the file.
        header: Of the file.
        stall: Seconds without an answer, for a run.
        load: The same, for loading.
        grace: Seconds more until the child is killed.
    """

    def __init__(self, child: Child, path: str, header: Hef, *, stall: float, load: float, grace: float) -> None:
        self._child, self._stall, self._load, self._grace = child, stall, load, grace
        self._number = child.number()
        self._lock = threading.Lock()
        self._free: list[Memory] = []
        self.header = header
        told = child.ask("load", load, slow=True, model=self._number, path=path)
        self._ins = tuple(Tensor(each["name"], tuple(each["shape"]), each["dtype"]) for each in told["inputs"])
        self._outs = tuple(
            Tensor(each["name"], tuple(each["shape"]), "float32", each["kind"], each.get("classes", 0), each.get("boxes", 0))
            for each in told["outputs"]
        )
        self._prepared = {tuple(each.dtype for each in self._ins)}
        """Types of inputs for which it is set up in the device."""
        self.multi_context = any(group["multi_context"] for group in told["groups"])
        """The model does not fit into the chip at once: parts of it are exchanged during a run."""
        self.inputs = tuple(each.spec for each in self._ins)
        self.outputs = tuple(each.spec for each in self._outs)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Sequence[Any]:
        """See the port; blocks for at most the stall time, but where it is set up for other types of inputs first."""
        values = self._matched(inputs)
        count = values[0].shape[0]
        dtypes = [value.dtype.name for value in values]
        self._prepare(tuple(dtypes))
        places, size = self._layout(dtypes, max(count, FRAMES))
        memory = self._memory(size)
        try:
            self._write(memory, values, places, dtypes)
            wanted = {
                "inputs": [_told(each, places[each.name], dtype) for each, dtype in zip(self._ins, dtypes, strict=True)],
                "outputs": [_told(each, places[each.name], "float32") for each in self._outs],
            }
            ask = {"model": self._number, "memory": memory.number, "count": count, "seconds": self._stall, **wanted}
            self._child.ask("infer", self._stall + self._grace, **ask)
            outputs = [self._read(memory, each, places[each.name], count) for each in self._outs]
        except DeviceError:
            raise  # the child is gone, and its memory with it
        except ModelError:
            self._give_back(memory)
            raise
        self._give_back(memory)
        return outputs

    def _prepare(self, dtypes: tuple[str, ...]) -> None:
        """Set up for inputs of other types than before; that is as long as loading, and no stall."""
        if dtypes not in self._prepared:
            self._child.ask("prepare", self._load, slow=True, model=self._number, dtypes=list(dtypes))
            self._prepared.add(dtypes)

    def _matched(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The values in the HEF's order, checked, as N×H×W×C."""
        if len(inputs) != len(self._ins):
            raise ModelError(f"The HEF takes {len(self._ins)} inputs, {len(inputs)} came.", self._fix())
        named = all(each.name in inputs for each in self._ins)
        given = [inputs[each.name] for each in self._ins] if named else list(inputs.values())
        values = [self._fitted(each, value) for each, value in zip(self._ins, given, strict=True)]
        if len({value.shape[0] for value in values}) != 1 or values[0].shape[0] < 1:
            raise ModelError("The inputs hold different numbers of samples, or none.", "give the same number in each.")
        return values

    def _fitted(self, each: Tensor, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if value.dtype.name not in {each.dtype, "float32"}:
            raise ModelError(
                f"The input {each.name} has type {value.dtype.name}, the HEF takes {each.dtype} or float32.", self._fix()
            )
        if value.shape[1:] == each.shape:
            return value
        if value.ndim == 4 and len(each.shape) == 3 and (*value.shape[2:], value.shape[1]) == each.shape:
            return value.transpose(0, 2, 3, 1)
        sides, wanted = ("×".join(map(str, shape)) for shape in (value.shape, ("N", *each.shape)))
        raise ModelError(f"The input {each.name} has shape {sides}, the HEF takes {wanted}.", self._fix())

    def _fix(self) -> str:
        return (
            "it takes "
            + ", ".join(f"{each.name} {each.shape} {each.dtype}" for each in self._ins)
            + "; mend the model's manifest."
        )

    def _layout(self, dtypes: list[str], frames: int) -> tuple[dict[str, int], int]:
        """Where each tensor's frames begin, by name, and the bytes of all."""
        import numpy as np

        at, places = 0, {}
        sizes = [
            (each.name, prod(each.place) * np.dtype(dtype).itemsize) for each, dtype in zip(self._ins, dtypes, strict=True)
        ]
        for name, size in [*sizes, *((each.name, prod(each.place) * 4) for each in self._outs)]:
            places[name] = at
            at += -(-size * frames // ALIGN) * ALIGN
        return places, at

    def _memory(self, size: int) -> Memory:
        with self._lock:
            for memory in self._free:
                if memory.size >= size:
                    self._free.remove(memory)
                    return memory
            small, self._free = self._free, []
        for memory in small:  # larger batches came: the small ones are not wanted any more
            memory.free()
        return Memory(self._child, size)

    def _give_back(self, memory: Memory) -> None:
        with self._lock:
            self._free.append(memory)

    def _write(self, memory: Memory, values: list[npt.NDArray[Any]], places: dict[str, int], dtypes: list[str]) -> None:
        for each, value, dtype in zip(self._ins, values, dtypes, strict=True):
            _array(memory, places[each.name], dtype, value.shape)[...] = value

    def _read(self, memory: Memory, each: Tensor, place: int, count: int) -> Any:
        array = _array(memory, place, "float32", (count, *each.place))
        if each.kind == "plain":
            return array.copy()
        return [_boxes(array[frame].copy(), each.classes) for frame in range(count)]

    def close(self) -> None:
        """Free the device's memory."""
        if self._child.gone:
            return
        with self._lock:
            memories, self._free = self._free, []
        self._child.ask("unload", 10.0, slow=True, model=self._number)
        for memory in memories:
            memory.free()


def _told(each: Tensor, place: int, dtype: str) -> dict[str, Any]:
    return {"name": each.name, "shape": list(each.place), "offset": place, "dtype": dtype}


def _array(memory: Memory, place: int, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    import numpy as np

    return np.frombuffer(memory.map, dtype, prod(shape), place).reshape(shape)


def _boxes(numbers: npt.NDArray[np.float32], classes: int) -> list[npt.NDArray[np.float32]]:
    """The library's buffer of one frame as arrays by class: a count, then so many boxes, for each class.

    Raises:
        DeviceError: A count is none.
    """
    at, found = 0, []
    most = (len(numbers) // max(1, classes) - 1) // BOX
    for _ in range(classes):
        if not 0 <= numbers[at] <= most:  # nor is it a number at all
            raise DeviceError(
                "The Hailo's boxes cannot be read: their counts are wrong.", "reset it: the HEF or the firmware is damaged."
            )
        count = int(numbers[at])
        end = at + 1 + BOX * count
        found.append(numbers[at + 1 : end].reshape(count, BOX))
        at = end
    return found
