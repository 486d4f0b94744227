"""Reads the weights of a PyTorch file (.pth, from before it was a zip file) without PyTorch; nothing in it is run."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Reader(pickle.Unpickler):
    """Builds tensors' descriptions; any other class or function that the file names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which is no weight")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Tensors by name.

    Raises:
        ValueError: It is no such file.
        pickle.UnpicklingError: It holds more than weights.
    """
    file = io.BytesIO(data)

    def load() -> Any:
        return _Reader(file, encoding="latin1").load()

    if load() != MAGIC:
        raise ValueError("it is no PyTorch file of the old form")
    load()  # the protocol's version
    load()  # sizes of C's types
    tensors, keys = load(), load()
    kinds = {storage[2]: DTYPES[storage[1]] for storage, *_ in tensors.values()}
    stores: dict[str, npt.NDArray[Any]] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        stores[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key])
    return {name: _tensor(stores[storage[2]], *rest) for name, (storage, *rest) in tensors.items()}


def _tensor(store: npt.NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> npt.NDArray[Any]:
    steps = tuple(step * store.itemsize for step in stride)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(store[offset:], size, steps, writeable=False))
