"""Requests into one run of a model, its outputs back to the requests, and how many at once pay."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appliance.core.inference.model import Request, TensorSpec
from appliance.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

Tensors = Mapping[str, Any]
GAIN = 0.9
"""A larger batch must take less than this part of the smaller one's time for each request."""
WEIGHT = 0.2
"""Of the newest value in an exponential mean."""


def batches(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether several requests fit into one run: the first axis of every input and output is free."""
    return bool(inputs and outputs) and all(spec.shape and spec.shape[0] is None for spec in (*inputs, *outputs))


def alike(one: Tensors, other: Tensors) -> bool:
    """Whether two requests' tensors can stand in one batch: same names, types and shapes, and a first axis of 1."""
    return one.keys() == other.keys() and all(
        value.ndim > 0 and value.shape[0] == 1 and value.shape == other[name].shape and value.dtype == other[name].dtype
        for name, value in one.items()
    )


async def inputs(requests: Sequence[Request], kind: str) -> list[Tensors]:
    """The tensors of each for a device that takes files of this kind; what must be made first is made in a thread."""
    if all(each.kind in {"", kind} or kind not in each.others for each in requests):
        return [each.tensors for each in requests]
    return await asyncio.to_thread(lambda: [each.inputs(kind) for each in requests])


def join(requests: Sequence[Tensors]) -> Tensors:
    """One request's tensors for all."""
    if len(requests) == 1:
        return requests[0]
    import numpy as np

    return {name: np.concatenate([each[name] for each in requests]) for name in requests[0]}


def split(outputs: Sequence[Any], count: int) -> list[list[Any]]:
    """The outputs of each request; arrays keep a first axis of 1, lists (Hailo's NMS by class) hold one entry for each.

    Raises:
        ModelError: The model gave another number of results than it got inputs.
    """
    import numpy as np

    for output in outputs:
        if len(output) != count:
            raise ModelError(
                f"The model gave {len(output)} results for {count} inputs.", "its batch axis is wrong: export it with batch 1."
            )
    return [
        [output[at : at + 1] if isinstance(output, np.ndarray) else output[at] for output in outputs] for at in range(count)
    ]


def alone(outputs: Sequence[Any]) -> list[Any]:
    """The outputs of a run with one request."""
    import numpy as np

    return [output if isinstance(output, np.ndarray) or len(output) != 1 else output[0] for output in outputs]


def zeros(inputs: Sequence[TensorSpec]) -> dict[str, npt.NDArray[Any]]:
    """Inputs to prove a device with; free sides are 1."""
    import numpy as np

    return {spec.name: np.zeros([side or 1 for side in spec.shape], np.dtype(spec.dtype)) for spec in inputs}


class Pace:
    """How long one model's runs take on one device, and which batch pays; learnt from the runs.

    Args:
        most: Largest batch that is allowed.
        hold: Seconds that a run of several may take.
    """

    def __init__(self, most: int, hold: float = float("inf")) -> None:
        self._most = most
        self._hold = hold
        self._each: dict[int, float] = {}
        """Seconds for each request, by the size of the batch: powers of two."""
        self.mean: float | None = None
        """Seconds of a run, whatever its size; None before the first."""

    def learn(self, count: int, seconds: float) -> None:
        """A run of so many took so long."""
        size = 1 << (count.bit_length() - 1)
        before = self._each.get(size)
        each = seconds / count
        self._each[size] = each if before is None else before + WEIGHT * (each - before)
        self.mean = seconds if self.mean is None else self.mean + WEIGHT * (seconds - self.mean)

    def forbid(self) -> None:
        """Batches fail on this model."""
        self._most = 1

    def size(self, waiting: int) -> int:
        """How many to run at once, of so many that wait: doubled as long as that pays, one step beyond what is known."""
        size = 1
        while 2 * size <= min(waiting, self._most) and size in self._each:
            each = self._each.get(2 * size, self._each[size])
            if 2 * size * each > self._hold or (2 * size in self._each and each >= GAIN * self._each[size]):
                break
            size *= 2
        return size

    def each(self) -> float:
        """Seconds of work that one request of many is; 0 before the first run."""
        return min(self._each.values(), default=0.0)

    def expected(self, count: int = 1) -> float | None:
        """Seconds of a run of so many; None before the first."""
        size = max((known for known in self._each if known <= count), default=None)
        return self.mean if size is None else self._each[size] * count
