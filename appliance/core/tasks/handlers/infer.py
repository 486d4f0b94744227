"""The task types inference, vision and hailo_inference: a model on a file of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from appliance.core.inference.model import Priority
from appliance.core.model import InferenceResult
from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import ImageError, InvalidArgumentsError, SoundError, TaskError

PRIORITIES = {1: Priority.low, 2: Priority.normal, 3: Priority.high, 4: Priority.high}
"""Of the engine, by that of the task."""
SEEN = ("", "detection", "classification", "pose", "segmentation")


class Inferrer(Protocol):
    """What the handlers need of the inference service."""

    async def infer_file(self, path: Path, **wanted: Any) -> InferenceResult:
        """Run a model on a file. Raises InferenceError, AbsentError."""


class Picture(Form, frozen=True, kw_only=True):
    """A file, and how to look at it."""

    path: str
    model: str = ""
    task: Literal["", "detection", "classification", "pose", "segmentation", "audio", "embedding"] = ""
    threshold: float | None = None


class InferenceHandler:
    """Runs models (implements executor.Handler).

    Args:
        name: The type of task.
        summary: In words.
        inference: Runs them.
        able: Whether they can run now.
        backend: What the result must come from, such as "hailo"; empty for whatever.
    """

    def __init__(self, name: str, summary: str, inference: Inferrer, able: Callable[[], bool], backend: str = "") -> None:
        self.name = name
        self.summary = summary
        self._inference = inference
        self._able = able
        self._backend = backend

    def available(self) -> bool:
        """See executor.Handler."""
        return self._able()

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        wanted = read(Picture, payload, self.name)
        if not wanted.path.startswith("/") or "\0" in wanted.path:
            raise InvalidArgumentsError(f"{wanted.path[:100]!r} is no absolute path.", "give a file of this worker's machine.")
        if self.name == "vision" and wanted.task not in SEEN:
            raise InvalidArgumentsError(f"vision does no {wanted.task}.", "use the type inference.")
        try:
            result = await self._inference.infer_file(
                Path(wanted.path), model=wanted.model, task=wanted.task, threshold=wanted.threshold,
                priority=PRIORITIES.get(order.priority, Priority.normal),
            )  # fmt: skip
        except (ImageError, SoundError) as error:  # the file will be the same
            raise TaskError(error.message, error.next_step, final=True) from error
        if self._backend and result.backend != self._backend:
            told = f"{result.model} ran on {result.backend}, not on {self._backend}"
            raise TaskError(f"{told}: {result.reason or 'it has no file for that device'}.", "see Inference.", final=True)
        return msgspec.to_builtins(result)
