"""Puts inference together from the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.inference import manifest as manifests
from appliance.core.inference.cache import ResultCache
from appliance.core.inference.engine import Limits as EngineLimits
from appliance.core.inference.engine import build as build_engine
from appliance.core.inference.parts import Limits, Parts
from appliance.core.inference.pipeline import Pipeline
from appliance.core.inference.registry.deciding import Deciding
from appliance.core.inference.registry.intake import Intake, Remote
from appliance.core.inference.registry.proving import Proving
from appliance.core.inference.registry.publishing import Publishing
from appliance.core.inference.registry.records import Records
from appliance.core.inference.registry.registry import Registry, Setup
from appliance.core.inference.registry.shelf import Shelf
from appliance.core.inference.registry.updating import Updating
from appliance.core.inference.registry.watching import Note
from appliance.core.inference.seals import Sealed, Seals
from appliance.core.inference.service import InferenceService
from appliance.core.inference.status import EngineEvent
from appliance.core.inference.tasks import task_for
from appliance.core.model import InferenceResult
from appliance.core.ports import Accelerator, Clock
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.settings import Settings


@dataclass(frozen=True)
class Ground:
    """What inference stands on.

    Attributes:
        accelerators: In the order of preference.
        models: The appliance's own directory of models.
        remote: S3; None where none is configured.
        note: Tells of events.
        on_result: Keeps a result.
        power: Says the power mode, or None where nobody knows.
    """

    settings: Settings
    accelerators: Sequence[Accelerator]
    models: Path
    remote: Remote | None
    store: Store
    state: LiveState
    clock: Clock
    note: Note
    on_result: Callable[[InferenceResult], Awaitable[None]]
    power: Callable[[], str | None] = lambda: None


def build(ground: Ground) -> InferenceService:
    """The service; nothing is opened or loaded yet."""
    wanted, clock = ground.settings.inference, ground.clock
    services: list[InferenceService] = []

    def on_event(event: EngineEvent) -> None:
        services[0].device_event(event)

    seals = Seals()
    sealed = [Sealed(each, seals) for each in ground.accelerators]
    engine = build_engine(sealed, clock, _engine_limits(ground), power=ground.power, on_event=on_event)
    limits = Limits(
        waiting=wanted.queue, deadline=wanted.deadline_seconds, threshold=wanted.score_threshold,
        max_bytes=wanted.max_file_mib * 2**20, max_pixels=wanted.max_megapixels * 1_000_000,
    )  # fmt: skip
    pipeline = Pipeline(engine, task_for, lambda manifest, data, source: open_bytes(manifest, data, source, limits), seals)
    shelf = Shelf(manifests.places(wanted.model_dir, ground.models), ground.models)
    registry = Registry(Setup(shelf, Records(ground.store), ground.settings.models, wanted.model, clock, ground.note))
    deciding = Deciding(registry, pipeline)
    intake = Intake(registry, deciding, pipeline, ground.remote)
    parts = Parts(
        engine=engine, pipeline=pipeline, registry=registry, deciding=deciding, intake=intake,
        proving=Proving(registry, pipeline),
        updating=Updating(registry, deciding, intake),
        publishing=Publishing(registry, intake, f"s3://{ground.settings.s3.bucket}/models/"),
        cache=ResultCache(wanted.cache_entries, wanted.cache_mib * 2**20),
        state=ground.state, clock=clock, on_result=ground.on_result, limits=limits,
    )  # fmt: skip
    services.append(InferenceService(parts))
    return services[0]


def _engine_limits(ground: Ground) -> EngineLimits:
    wanted = ground.settings.inference
    usual = EngineLimits()
    return EngineLimits(
        waiting=wanted.queue,
        max_batch={**usual.max_batch, "hailo": wanted.batch, "cpu": min(wanted.batch, usual.max_batch["cpu"])},
        stall={**usual.stall, "hailo": wanted.stall_seconds},
    )


def open_bytes(manifest: manifests.Manifest, data: bytes, source: str, limits: Limits) -> object:
    """A file's bytes as the manifest's task takes them; blocks. Raises ImageError, SoundError."""
    from appliance.core.inference import image, sound

    return sound.decode(data, source) if manifest.sound is not None else image.decode(data, source, limits.max_pixels)
