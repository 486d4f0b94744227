"""Sources with the appliance's own inference: a real model on a real video, and requests of people beside four sources."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
from PIL import Image

from appliance.core.clock import SystemClock
from appliance.core.inference.build import Ground, build
from appliance.core.inference.model import Priority
from appliance.core.inference.service import InferenceService
from appliance.core.model import InferenceResult
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.hw.onnx import OnnxAccelerator
from appliance.settings import Settings
from tests.inference.source_rig import SAMPLES, definition, running
from tests.support import capability

MODELS = SAMPLES.parent
BIKES = SAMPLES / "bikes.mp4"


@asynccontextmanager
async def inference(home: Path, results: list[InferenceResult]) -> AsyncIterator[InferenceService]:
    """The appliance's inference on the real model."""
    capability(BIKES.exists(), "the video of the tests (make setup)")
    capability((MODELS / "yolov3-tiny-coco/manifest.toml").exists(), "the detection model (make setup)")
    clock = SystemClock()

    async def note(*_: Any) -> None: ...

    async def keep(result: InferenceResult) -> None:
        results.append(result)

    store = Store(home / "inference.sqlite")
    store.open()
    settings = Settings.model_validate({"inference": {"model_dir": str(MODELS), "model": "yolov3-tiny-coco"}})
    service = build(Ground(
        settings=settings, accelerators=(OnnxAccelerator(threads=1),), models=home / "models", remote=None, store=store,
        state=LiveState(clock), clock=clock, note=note, on_result=keep,
    ))  # fmt: skip
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        store.close()


async def test_a_real_model_follows_what_is_in_a_real_video(tmp_path: Path) -> None:
    """The frames that the source looked at, and what it saw in them, are those of the video decoded by itself."""
    kept: list[InferenceResult] = []
    async with inference(tmp_path, kept) as service, running(tmp_path, inferer=service) as rig:
        rules = [{"name": "someone", "labels": ["person"], "seconds": 0.0, "score": 0.5}]
        source = definition("video", BIKES, drop="wait", rate=1.0, keep_results=True, rules=rules)
        await rig.service.add(source)
        status = await rig.until(lambda status: status.state == "ended", seconds=90)
        assert (status.frames, status.inferred, status.skipped, status.failed) == (250, 10, 240, 0)
        assert len(kept) == 10
        assert {result.priority for result in kept} == {"low"}
        frames = _frames(range(0, 250, 25))
        for result, rgb in zip(kept, frames, strict=True):
            alone = await service.infer_sample(_picture(rgb), source="alone", keep=False)
            assert [box.label for box in alone.boxes] == [box.label for box in result.boxes]
            for mine, theirs in zip(result.boxes, alone.boxes, strict=True):
                assert abs(mine.x_min - theirs.x_min) < 1
                assert abs(mine.score - theirs.score) < 0.01
        seen = [box for result in kept for box in result.boxes if box.label == "person" and box.score >= 0.5]
        assert bool(seen) == bool(status.events_total)
        assert seen, "there are people in it"
        event = status.events[-1]
        body = await rig.memory.memory.get(event.snapshot.removeprefix("sources:"), "sources")
        assert Image.open(io.BytesIO(body)).size == (640, 272)


def _frames(wanted: range) -> list[Any]:
    with av.open(str(BIKES)) as container:
        return [frame.to_ndarray(format="rgb24") for index, frame in enumerate(container.decode(video=0)) if index in wanted]


def _picture(rgb: Any) -> Any:
    from appliance.core.inference.sources.frames import Frame

    return Frame(rgb, "alone", 0.0, 0.0)


async def test_four_sources_starve_no_request_of_a_person(tmp_path: Path) -> None:
    kept: list[InferenceResult] = []
    async with inference(tmp_path, kept) as service, running(tmp_path, inferer=service) as rig:
        for index in range(4):
            source = definition("video", BIKES, repeat=True, rate=25.0)
            await rig.service.add(source.model_copy(update={"name": f"cam{index}"}))
        for index in range(4):
            await rig.until(lambda status: status.inferred >= 2, f"cam{index}", 60)
        (rgb,) = _frames(range(1))
        answers = []
        for _ in range(10):
            async with asyncio.timeout(30):
                answers.append(await service.infer_sample(_picture(rgb), source="person", priority=Priority.high, keep=False))
        assert {answer.priority for answer in answers} == {"high"}
        statuses = [rig.status(f"cam{index}") for index in range(4)]
        assert all(status.inferred >= 2 and status.failed == 0 for status in statuses), statuses
        assert sum(status.dropped for status in statuses) > 0, "they ask for more than the device can do"
