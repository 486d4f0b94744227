"""What the parts of inference say to each other: requests, prepared inputs, findings, what a device and a model are like.

The parts: tasks/ (input → tensors, tensors → findings), engine/ (queues, batches, which device), registry/ (which version of
which model), sources/ (where frames come from), service (puts them together; the only one that knows all).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from appliance.core.findings import Box, Class, Keypoint, Mask, Pose, Segment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from appliance.core.inference.manifest import Manifest
    from appliance.core.inference.status import EngineStatus

__all__ = ["Box", "Class", "Keypoint", "Mask", "Pose", "Segment"]
"""Values of core.findings that belong to these; and all that is below."""


class Priority(enum.IntEnum):
    """Who goes first; the lower number."""

    critical = 0
    """Somebody waits for it: an operator, a voice command."""
    high = 1
    normal = 2
    low = 3
    """Frames of sources, background work: the first that is dropped."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output of a loaded model.

    Attributes:
        name: As the file has it.
        shape: None where it is free (a batch, a dynamic side).
        dtype: numpy's name, such as float32 or uint8.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class DeviceReading(msgspec.Struct, frozen=True):
    """What a device says of itself; None where it does not say.

    Attributes:
        temperature_c: °C.
        power_w: W.
        utilisation: 0…1, of the device's time.
        throttled: It works slower than it could, because of heat or power.
        firmware: Version.
        notices: What it told of its own accord since the last reading (alarms of heat, over-current, memory errors).
    """

    temperature_c: float | None = None
    power_w: float | None = None
    utilisation: float | None = None
    throttled: bool | None = None
    firmware: str | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One prepared input for the engine.

    Attributes:
        model: The version to run.
        tensors: By input name, each with a leading axis of 1.
        priority: Its queue.
        deadline: Monotonic seconds after which nobody wants the answer; None for no such time.
        kind: Of the file that the tensors are for: "onnx" or "hef"; empty where they fit any.
        others: The same input for files of another kind, by kind; each blocks, and is called where such a device runs it.
        source: Whose frame it is; where frames must be dropped, it is the oldest of the source that has most of them waiting.
    """

    model: ModelVersion
    tensors: Mapping[str, npt.NDArray[Any]]
    priority: Priority = Priority.normal
    deadline: float | None = None
    kind: str = ""
    others: Mapping[str, Callable[[], Mapping[str, npt.NDArray[Any]]]] = field(default_factory=dict)
    source: str = ""

    def inputs(self, kind: str) -> Mapping[str, npt.NDArray[Any]]:
        """The tensors for a file of this kind; blocks where they are others than `tensors`."""
        return self.others[kind]() if kind != self.kind and kind in self.others else self.tensors


@dataclass(frozen=True)
class Answer:
    """What a device made of a request.

    Attributes:
        outputs: The model's, in its order, each with a leading axis of 1 (Hailo's NMS by class: a list by class).
        output_names: Of the outputs, in the same order.
        backend: "hailo" or "cpu".
        device: The accelerator's name.
        inference_ms: The device's time for the batch that it was in.
        queued_ms: From the submission to the batch's begin.
        batch: How many requests shared that batch.
        reason: Why this device: "hailo is first", "hailo stalled", "no HEF of this model", …
        fell_back: It ran elsewhere than it should have.
    """

    outputs: Sequence[Any]
    output_names: tuple[str, ...]
    backend: str
    device: str
    inference_ms: float
    queued_ms: float
    batch: int
    reason: str
    fell_back: bool = False


class Stage(enum.StrEnum):
    """Of a version."""

    staging = "Staging"
    production = "Production"
    archived = "Archived"


@dataclass(frozen=True)
class ModelVersion:
    """One version of one model on this disk."""

    manifest: Manifest
    directory: Any  # pathlib.Path
    stage: Stage = Stage.production
    mark: str = ""
    """manifest.fingerprint of the manifest as it lies on the disk; empty where nobody asked."""

    @property
    def key(self) -> str:
        """name@version."""
        return f"{self.manifest.name}@{self.manifest.version}"


class Findings(msgspec.Struct, frozen=True):
    """What a model found; only what its task finds is filled."""

    boxes: tuple[Box, ...] = ()
    classes: tuple[Class, ...] = ()
    """Best first."""
    poses: tuple[Pose, ...] = ()
    masks: tuple[Mask, ...] = ()
    segments: tuple[Segment, ...] = ()
    embedding: tuple[float, ...] = ()
    """Of length 1 (L2)."""
    statistics: dict[str, float] = {}
    """Of windows of sensors."""


@dataclass(frozen=True)
class Sound:
    """A recording: samples × channels, float32, -1…1; or one axis for one channel."""

    samples: npt.NDArray[np.float32]
    rate: int
    source: str


@dataclass(frozen=True)
class Readings:
    """Values of a sensor with their times (seconds since the epoch), oldest first."""

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    source: str


Sample = Any
"""What a task takes: a ports.Picture, a Sound, or Readings."""


@dataclass(frozen=True)
class Prepared:
    """A sample as tensors, and what is needed to read the outputs.

    Attributes:
        batches: One mapping for each run of the model (recordings may need several), in order; leading axis 1 each, but for
            models that take a recording's windows along it.
        context: The task's own.
        carry: Input → output of the run before whose value it gets; empty where runs do not depend on each other.
    """

    batches: tuple[Mapping[str, npt.NDArray[Any]], ...]
    context: Any = None
    carry: Mapping[str, str] = field(default_factory=dict)


class Task(Protocol):
    """How samples become tensors and outputs become findings, for one manifest. Methods block; they are called in threads."""

    def prepare(self, sample: Sample) -> Prepared:
        """Raises ImageError, SoundError or ModelError."""

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """Findings of the outputs, one entry for each batch of `prepared`.

        Raises:
            ModelError: The outputs do not fit the manifest.
        """


class Engine(Protocol):
    """Runs requests on the devices there are."""

    async def run(self, request: Request) -> Answer:
        """Wait for a turn and run.

        Raises:
            QueueFullError: Its queue is full, or it was dropped for a more urgent one.
            DeadlineError: Its time passed.
            ModelError: The model failed on the device, and on its stand-in.
            AbsentError: No device can run this model.
        """

    async def load(self, version: ModelVersion) -> None:
        """Make ready, so that the first request need not wait. Raises ModelError."""

    async def unload(self, version: ModelVersion) -> None:
        """Free it, once its requests are done."""

    def status(self) -> EngineStatus:
        """What it does now; cheap, from memory alone."""


class Models(Protocol):
    """Which version serves."""

    def pick(self, name: str = "", task: str = "") -> ModelVersion:
        """The version for the next request; a split draws among several. Empty: the active one of the task, or of all.

        Raises:
            AbsentError: There is none.
            ModelError: None of that name.
        """

    def observe(
        self, version: ModelVersion, findings: Findings | None, milliseconds: float, *, drawn: bool = True, usual: bool = True
    ) -> None:
        """Tell of a request that this version served.

        Args:
            version: Which.
            findings: None where it failed.
            milliseconds: End to end.
            drawn: It was this registry's choice; only then it counts in a comparison of two versions.
            usual: At the usual threshold; only then its findings say anything of drift.
        """

    def missed(self, version: ModelVersion, milliseconds: float, *, drawn: bool = True) -> None:
        """Tell of a request that got no answer in time, or for which no device worked: it counts in a comparison alone."""


class Inferer(Protocol):
    """What sources and other domains ask (the service implements it)."""

    async def infer_sample(
        self, sample: Sample, *, source: str, model: str = "", priority: Priority = Priority.normal,
        deadline: float | None = None, keep: bool = True,
    ) -> Any:  # fmt: skip
        """Run on something decoded; an InferenceResult. `keep` writes it to the store and the topics.

        Raises:
            QueueFullError, DeadlineError, ModelError, AbsentError: As Engine.run.
        """


@dataclass
class Load:
    """What an engine has to do now, for the screen."""

    waiting: Mapping[Priority, int] = field(default_factory=dict)
    running: int = 0
