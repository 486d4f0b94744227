"""What a device holds and counts: models, runs, figures."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from appliance.core.inference.engine.batching import Pace
from appliance.core.inference.engine.worker import Worker
from appliance.core.inference.model import ModelVersion
from appliance.core.ports import AcceleratorModel
from appliance.errors import ModelError


@dataclass(eq=False)
class Loaded:
    """A model in a device.

    Attributes:
        version: Which.
        model: The device's.
        pace: How long it takes.
        batchable: Several requests fit into one run.
        users: Runs that use it now.
        requests: That it answered here.
        retired: It is to be closed, once nobody uses it.
        refused: Batches in a row that failed: where it goes on, the model's batch axis is to blame, and no single input.
    """

    version: ModelVersion
    model: AcceleratorModel
    pace: Pace
    batchable: bool
    users: int = 0
    requests: int = 0
    retired: bool = False
    refused: int = 0


@dataclass(eq=False)
class Run:
    """A batch on the device.

    Attributes:
        began: Monotonic seconds.
        expected: Seconds that it should take; None where that is not known.
        worker: The thread for it.
        generation: Of the device, when it began.
        hung: The thread did not come back.
    """

    began: float
    loaded: Loaded
    expected: float | None
    worker: Worker
    generation: int = 0
    hung: bool = False


@dataclass
class Tally:
    """What was counted since the start."""

    done: int = 0
    failed: int = 0
    stalls: int = 0
    resets: int = 0
    busy: float = 0.0
    """Seconds in which something ran, since the last look."""
    since: float = 0.0
    looked: float = 0.0
    share: float | None = None
    broken: OrderedDict[str, tuple[ModelError, float]] = field(default_factory=OrderedDict)
    strikes: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Failures of a model since its last success."""
