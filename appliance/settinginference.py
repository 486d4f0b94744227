"""Settings of inference: what runs models, and which versions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from appliance.settinggroups import Group, Percent, Seconds, env


class InferenceSettings(Group):
    """Models, pictures and recordings."""

    model_dir: Path | None = None
    """Directory of models; searched before the appliance's own ones."""
    model: str = ""
    """Name of the model to use where none is asked for; empty takes the first one found."""
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    """CPU threads of ONNX Runtime."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Lowest score of a finding that is reported."""
    max_file_mib: Annotated[int, Field(ge=1, le=1024)] = 64
    """Largest picture or recording, MiB."""
    max_megapixels: Annotated[int, Field(ge=1, le=150)] = 50
    """Largest picture, millions of pixels."""
    queue: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Requests of one priority that may wait; beyond it the oldest of a source is dropped, and any other is refused."""
    batch: Annotated[int, Field(ge=1, le=64)] = 8
    """Most requests that a device takes at once, where the model allows it."""
    deadline_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds after which nobody waits for an answer any more, where the caller gives no other time."""
    stall_seconds: Annotated[float, Field(gt=0, le=60)] = 1.5
    """Seconds without an answer after which an accelerator is held for stalled and is reset."""
    cache_entries: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Results that are remembered by input, model and parameters; 0 for none."""
    cache_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Most memory of the remembered results, MiB."""


class HailoSettings(Group):
    """The Hailo accelerator."""

    enabled: bool = Field(True, json_schema_extra=env("HAILO_ENABLED"))
    """Off: it is left alone, and models run on the CPU."""
    device_id: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9:._-]*$")] = Field(
        "0", json_schema_extra=env("HAILO_DEVICE_ID")
    )
    """Which of several: its number as they are listed, or its PCI address such as 0000:01:00.0."""
    python: str = ""
    """Interpreter that has the vendor's package hailo_platform, such as /usr/bin/python3; empty tries this one, then that."""


class ModelSettings(Group):
    """Versions of models: room for them, offers of new ones, and how a new one is watched."""

    disk_max_mib: Annotated[int, Field(ge=1)] = 4096
    """Most that the added versions take on disk, MiB; archived ones go first, and what goes is told."""
    version_max_mib: Annotated[int, Field(ge=1, le=65536)] = 1024
    """Largest version that is added, MiB, unpacked."""
    updates: Literal["ignore", "ask", "install"] = "ask"
    """What happens to offers over the topic models.updates. It is not signed: whoever may write to it may offer any model, and
    the hash in an offer proves only that the transfer was whole. ask: an offer waits for `model install`; install: it is
    installed by itself, so restrict who may write to the topic; ignore: none is kept."""
    canary_percent: Annotated[float, Field(gt=0, le=100)] = 10.0
    """Percent of the requests that a new version gets while it is watched, where its offer says nothing else."""
    canary_requests: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Requests after which a new version is judged."""
    canary_seconds: Seconds = 3600.0
    """Seconds after which it is judged by fewer; by fewer than a fifth of them it is not activated."""
    canary_error_percent: Percent = 2.0
    """By so much more of its requests than of the old version's may fail."""
    canary_latency_percent: Annotated[float, Field(ge=0, le=10_000)] = 50.0
    """By so much its p95 may be longer than the old version's."""
    drift_requests: Annotated[int, Field(ge=20, le=100_000)] = 200
    """Requests that make a baseline of labels and scores, and the window that is held against it."""
    drift_limit: Annotated[float, Field(gt=0, le=10)] = 0.25
    """Population stability index from which on drift is told; 0.1 is a small change, 0.25 a large one."""
