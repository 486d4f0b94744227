"""The service as a whole: two devices with different inputs, fallbacks that are told, the cache, priorities, restarts."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.actions import Action, Invocation
from appliance.core.alerts.rules import accelerators, model_drift
from appliance.core.catalog.models import (
    Measured,
    Named,
    Offered,
    Origin,
    Splitting,
    Versioned,
    model_actions,
)  # fmt: skip
from appliance.core.inference.image import decode
from appliance.core.inference.model import Answer, DeviceReading, Priority, Request, TensorSpec
from appliance.core.jobs import Jobs
from appliance.core.metrics import text
from appliance.core.model import Actor, Device, Health, JobState, Role
from appliance.core.state import Section
from appliance.errors import (
    DeadlineError,
    DeviceStalledError,
    DiskFullError,
    ImageError,
    ModelError,
    NotFoundError,
    QueueFullError,
)  # fmt: skip
from appliance.hw.onnx import OnnxAccelerator
from appliance.verbs import models as model_verbs
from appliance.verbs import render
from appliance.verbs.infer import found_lines, head
from tests.inference.registry_rig import SIDE, Rig, picture, running, write_model
from tests.support import wait_for


class ByteDevice:
    """An accelerator that takes bytes, row by row, as a HEF does, and computes the colours' model (ports.Accelerator)."""

    name, backend, kind = "Hailo", "hailo", "hef"

    def __init__(self) -> None:
        self.stalls = self.turned = False
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[tuple[tuple[int, ...], str]] = []

    def detect(self) -> Device:
        return Device("accelerator", self.name, Health.healthy, "there")

    def load(self, path: str) -> ByteModel:
        return ByteModel(self)

    def reading(self) -> DeviceReading:
        return DeviceReading(temperature_c=50.0)

    def reset(self) -> None:
        if self.stalls:
            raise DeviceStalledError("It does not answer.", "wait.")

    def close(self) -> None:
        self.gate.set()


class ByteModel:
    def __init__(self, device: ByteDevice) -> None:
        self._device = device
        self.inputs = (TensorSpec("images", (1, SIDE, SIDE, 3), "uint8"),)
        self.outputs = (TensorSpec("map", (1, 7, 1, 1), "float32"),)

    def infer(self, inputs: Mapping[str, np.ndarray]) -> Sequence[Any]:
        device, images = self._device, inputs["images"]
        device.seen.append((images.shape, str(images.dtype)))
        device.gate.wait(30)
        if device.stalls:
            raise DeviceStalledError("It does not answer.", "wait.")
        mean = images.reshape(-1, 3).mean(axis=0)[:: -1 if device.turned else 1] / 255
        found = np.zeros((1, 7, 1, 1), np.float32)
        found[0, 4:, 0, 0] = 6.0, 12 * (mean[0] - mean[2]), 12 * (mean[2] - mean[0])
        return [found]

    def close(self) -> None:
        pass


@asynccontextmanager
async def both(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Rig, ByteDevice]]:
    """A model with an ONNX file and a HEF, on two devices."""
    device = ByteDevice()
    rig = Rig(tmp_path / "home", accelerators=[device, OnnxAccelerator(1)], **settings)
    new = write_model(tmp_path / "new", "1")
    (new / "model.hef").write_bytes(b"compiled")
    digest = hashlib.sha256(b"compiled").hexdigest()
    manifest = new / "manifest.toml"
    more = f'kind = "onnx"\n\n[[files]]\npath = "model.hef"\nsha256 = "{digest}"\nkind = "hef"'
    manifest.write_text(manifest.read_text().replace('kind = "onnx"', more, 1))
    async with running(rig):
        await rig.parts.intake.add(str(new))
        await rig.parts.deciding.activate("colours", "1")
        yield rig, device


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "home")) as found:
        await found.serve("1")
        yield found


async def test_each_device_gets_its_own_form_of_the_input_and_both_find_the_same(tmp_path: Path) -> None:
    async with both(tmp_path) as (rig, device):
        rig.service.show()
        first = await rig.service.infer(picture("blue"), "a.png")
        assert (first.backend, first.device, first.fell_back) == ("hailo", "Hailo", False)
        assert set(device.seen) == {((1, SIDE, SIDE, 3), "uint8")}
        device.stalls = True
        second = await rig.service.infer(picture("blue", 65), "a.png")  # the same request goes on, on the CPU
        assert (second.backend, second.fell_back) == ("cpu", True)
        assert "does not answer" in second.reason
        assert [box.label for box in second.boxes] == [box.label for box in first.boxes] == ["blue"]
        assert second.boxes[0].score == pytest.approx(first.boxes[0].score, abs=0.01)


async def test_a_device_that_stalls_is_told_shown_and_alerted_and_comes_back(tmp_path: Path) -> None:
    async with both(tmp_path) as (rig, device):
        device.stalls = True
        await rig.service.infer(picture(), "a.png")
        await wait_for(lambda: rig.told("inference.device-stalled"))
        status = rig.service.status()
        assert status.engine.devices[0].health is Health.unhealthy
        assert status.engine.last_fallbacks[0].wanted == "Hailo"
        report = await rig.service.health()
        assert (report.health, "Hailo" in report.reason) == (Health.degraded, True)
        rig.service.show()
        assert {each.subject: each.value for each in accelerators(rig.state)} == {"Hailo": 1.0, "ONNX Runtime": 0.0}
        scraped = text(rig.state)
        assert 'edge_accelerator_up{device="Hailo"} 0.0' in scraped
        assert "edge_cpu_inferences_total 1.0" in scraped
        assert "edge_hailo_inferences_total 0.0" in scraped
        assert "edge_preprocessing_total" in scraped
        device.stalls = False
        await wait_for(lambda: rig.service.status().engine.devices[0].health is Health.healthy, 30)
        rig.service.show()
        assert (await rig.service.infer(picture(size=70), "a.png")).backend == "hailo"
        assert accelerators(rig.state)[0].value == 0.0
        assert model_drift(rig.state)[0].value is None


async def test_a_remembered_result_says_so_and_measures_nothing(rig: Rig) -> None:
    first = await rig.service.infer(picture(), "a.png")
    again = await rig.service.infer(picture(), "b.png")
    assert (first.cached, again.cached, again.source, again.queued_ms) == (False, True, "b.png", None)
    assert (again.boxes, again.width, again.sha256) == (first.boxes, first.width, first.sha256)
    assert again.result_id != first.result_id
    status = rig.service.status()
    assert (status.total, status.cached, status.done_by, status.prepared) == (2, 1, {"cpu": 1}, 1)
    assert sum(count for _, count in status.histogram) == 1
    assert status.p50_ms == first.total_time_ms
    assert rig.row("1").served.requests == 1
    assert not (await rig.service.infer(picture(), "a.png", threshold=0.5)).cached
    await rig.serve("2", flip=True, expects="blue")
    assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "blue"  # another version: nothing remembered
    assert "remembered from before" in head(_plain(again))


def _plain(result: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(result)
    return found


async def test_results_that_are_not_kept_are_not_told_and_others_need_not_be(rig: Rig) -> None:
    rig.failure = DiskFullError("No room.", "make some.")
    with pytest.raises(DiskFullError):
        await rig.service.infer(picture(), "a.png")
    assert rig.service.recent() == ()
    sample = decode(picture(), "camera", 10**6)
    seen = await rig.service.infer_sample(sample, source="camera", keep=False, priority=Priority.low)
    assert (seen.boxes[0].label, seen.priority, seen.sha256, rig.results) == ("red", "low", "", [])
    rig.failure = None
    asked: list[str] = []
    engine, run = rig.service.parts.pipeline.engine, rig.service.parts.pipeline.engine.run

    async def watched(request: Request) -> Answer:
        asked.append(request.source)
        return await run(request)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "run", watched)
        await rig.service.infer_sample(sample, source="camera")
    assert [each.source for each in rig.results] == asked == ["camera"], "the engine takes turns by it"


async def test_a_thousand_at_once_are_done_or_refused_and_an_urgent_one_is_done(tmp_path: Path) -> None:
    async with both(tmp_path, inference={"model_dir": str(tmp_path / "none"), "threads": 1, "queue": 16}) as (rig, _):
        samples = decode(picture(), "camera", 10**6)
        low = [asyncio.create_task(rig.service.infer_sample(samples, source="c", priority=Priority.low)) for _ in range(1000)]
        await asyncio.sleep(0)
        urgent = await rig.service.infer(picture("blue"), "a.png", priority=Priority.critical)
        assert urgent.boxes[0].label == "blue"
        done = await asyncio.gather(*low, return_exceptions=True)
        errors = [each for each in done if isinstance(each, BaseException)]
        assert {type(each) for each in errors} == {QueueFullError}
        assert 0 < len(done) - len(errors) <= 1000
        assert rig.service.status().refused == len(errors)
        assert rig.service.status().errors == 0
        await rig.service.infer_sample(samples, source="c", priority=Priority.low)  # room again


async def test_cancelled_callers_leave_nothing_behind_and_late_answers_are_told(tmp_path: Path) -> None:
    async with both(tmp_path) as (rig, device):
        device.gate.clear()
        tasks = [asyncio.create_task(rig.service.infer(picture(size=40 + each), "a.png")) for each in range(5)]
        await wait_for(lambda: len(device.seen) > 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(DeadlineError):
            await rig.service.infer(picture(size=90), "a.png", deadline=rig.clock.monotonic() + 0.05)
        device.gate.set()
        await rig.service.infer(picture(size=91), "a.png")
        assert rig.service._under_way.total() == 0
        assert rig.parts.registry.leases.count("colours@1") == 0


async def test_inputs_that_are_none_are_refused_with_a_next_step(rig: Rig) -> None:
    for data in (b"", b"words", picture()[:60]):
        with pytest.raises(ImageError) as raised:
            await rig.service.infer(data, "a.png")
        assert raised.value.next_step
    assert (rig.service.status().refused, rig.service.status().errors) == (3, 0)


async def test_the_service_can_be_started_again_and_goes_on(rig: Rig) -> None:
    for number in range(3):
        await rig.service.stop()
        await rig.service.start()
        assert (await rig.service.infer(picture(size=40 + number), "a.png")).boxes[0].label == "red"


async def test_the_actions_do_all_that_an_operator_needs(rig: Rig, tmp_path: Path) -> None:
    jobs = Jobs(rig.store, rig.state, rig.clock)
    actions: dict[str, Action] = {action.name: action for action in model_actions(rig.parts, jobs)}
    actor = Actor("ada", Role.admin, "ssh")

    async def call(name: str, params: Any = None) -> Any:
        return await actions[name].handler(Invocation(actor, name, "1"), params)

    added = await call("model.add", Origin(origin=str(write_model(tmp_path / "two", "2"))))
    assert (added.version, added.stage) == ("2", "Staging")
    assert "self-test" in (await call("model.verify", Versioned(name="colours", version="2")))["shown"]
    shadowed = await call("model.split", Splitting(name="colours", version="2", percent=100))
    assert (shadowed[0].mode, shadowed[0].candidate) == ("shadow", "2")
    await rig.service.infer(picture(size=50), "a.png")
    await wait_for(lambda: rig.service.status().splits[0].compared == 1)
    assert (await call("model.splits"))[0].agreement == 1.0
    await call("model.split-end", Named(name="colours"))
    assert (await call("model.activate", Versioned(name="colours", version="2"))).active
    assert (await call("model.rollback", Named(name="colours"))).version == "1"
    job = await jobs.wait((await call("model.bench", Measured(requests=20, parallel=2))).job_id)
    assert (job.state, job.progress) == (JobState.completed, 1.0)
    assert (job.result["requests"], job.result["devices"]) == (20, {"ONNX Runtime": 20})
    assert job.result["total_p50_ms"] >= job.result["device_p50_ms"] > 0
    assert "test.png" in job.result["input"]
    assert len(await call("model.list")) == 2
    with pytest.raises(NotFoundError):
        await call("model.show", Named(name="nothing"))
    assert [row.version for row in await call("model.show", Named(name="colours@2"))] == ["2"]
    assert (await call("model.archive", Versioned(name="colours", version="2"))).stage == "Archived"
    assert (await call("model.remove", Versioned(name="colours", version="2")))["freed_bytes"] > 0
    assert await call("model.offers") == []
    with pytest.raises(NotFoundError):
        await call("model.install", Offered(name="colours@9"))
    assert rig.state.get(Section.jobs).value


async def test_the_tables_say_what_there_is(rig: Rig, tmp_path: Path) -> None:
    await rig.add("2")
    await rig.parts.deciding.split("colours", "2", "shadow", 50.0)
    (rig.models / "colours" / "9").mkdir()
    (rig.models / "colours" / "9" / "manifest.toml").write_text("x = 1")
    await rig.parts.registry.scan()
    rows = [_plain(row) for row in rig.service.status().models]
    listed = render.formed(model_verbs.FORMS, "model.list", rows, 120, colour=False) or ""
    assert [line.split()[1] for line in listed.splitlines()[1:4]] == ["1", "2", "9"]
    assert "not a model manifest" in " ".join(listed.split())
    shown = render.formed(model_verbs.FORMS, "model.show", rows, 120, colour=False) or ""
    assert "licence MIT" in shown
    splits = (
        render.formed(
            model_verbs.FORMS, "model.splits", [_plain(row) for row in rig.service.status().splits], 120, colour=False
        )
        or ""
    )
    assert "shadow" in splits
    result = await rig.service.infer(picture(), "a.png")
    assert [line.split()[:2] for line in found_lines(_plain(result))] == [["1.00", "red"]]
    assert render.formed(model_verbs.FORMS, "memory.list", [], 80, colour=False) is None
    with pytest.raises(ModelError):
        await rig.service.infer(picture(), "a.png", model="colours@9")
