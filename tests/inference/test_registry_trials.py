"""Trials of a version are fair, end, and harm no caller; figures say what they are about; offers come once, and all of them."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.core.bus import Bus
from appliance.core.inference.counting import Counting
from appliance.core.inference.model import Findings
from appliance.core.inference.offers import Offers
from appliance.core.inference.registry import deciding, proving, updating
from appliance.core.model import Health
from appliance.core.streams.updates import Updates, parse
from appliance.errors import AbsentError, CommandRefusedError, DeadlineError, ModelError
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.registry_rig import Rig, archive, picture, running, write_model
from tests.inference.test_model_updates import record
from tests.inference.test_service import ByteDevice
from tests.inference.test_service_values import PLAIN
from tests.streams.outbox_rig import Rig as OutboxRig
from tests.support import wait_for


class Shelf:
    """One object in S3 (registry.intake.Remote)."""

    def __init__(self, path: Path, names: list[tuple[str, int]] | None = None) -> None:
        self.path, self.names = path, names or []

    async def download(self, address: str, into: Path, largest: int) -> None:
        await asyncio.to_thread(shutil.copyfile, self.path / address.rpartition("/")[2] if self.names else self.path, into)

    async def upload(self, path: Path, address: str) -> None:
        raise NotImplementedError

    async def list(self, address: str) -> list[tuple[str, int]]:
        return self.names

    async def close(self) -> None:
        pass


def offered(tmp_path: Path, version: str, **wanted: Any) -> tuple[Shelf, dict[str, Any]]:
    """An archive, and the data of the message that offers it."""
    path, digest = archive(write_model(tmp_path / f"cloud-{version}", version, **wanted), tmp_path / f"{version}.tar")
    return Shelf(path), {"model": "colours", "version": version, "artifact": "s3://b/k", "sha256": digest,
                         "stage": "Production", "device_ids": [], "rollout": {"strategy": "canary", "percent": 50}}  # fmt: skip


@asynccontextmanager
async def listening(tmp_path: Path, rig: Rig, *, run: bool = True) -> AsyncIterator[Updates]:
    """The streams' half, joined to the rig's."""
    (tmp_path / "outbox").mkdir(exist_ok=True)
    outbox = OutboxRig(tmp_path / "outbox")
    await outbox.open()
    updates = Updates("pi", Bus(outbox.journal), outbox.outbox.letters, outbox.clock)
    updates.installer = Offers(rig.parts.updating)
    task = asyncio.create_task(rig.service.run()) if run else None
    try:
        yield updates
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await outbox.stop()


def state(updates: Updates, version: str) -> str:
    return next((each.state for each in updates.shown() if each.version == version), "")


def test_an_offer_names_an_archive_for_a_directory_has_no_hash(tmp_path: Path) -> None:
    _, data = offered(tmp_path, "2")
    with pytest.raises(CommandRefusedError, match="artifact"):
        parse(record({**data, "artifact": "s3://b/models/2/"}).value)


async def test_a_directory_is_never_taken_with_a_hash_that_nobody_looks_at(tmp_path: Path) -> None:
    source = write_model(tmp_path / "cloud", "2")
    names = [("", 0), *((path.name, path.stat().st_size) for path in source.iterdir())]  # "": the folder's own placeholder
    async with running(Rig(tmp_path / "home", remote=Shelf(source, names))) as rig:
        for origin in ("s3://b/models/2/", str(source)):
            with pytest.raises(ModelError, match="no SHA-256 of its own"):
                await rig.parts.intake.add(origin, sha256="0" * 64)
        await rig.parts.intake.add("s3://b/models/2/")
        assert rig.row("2").stage == "Staging"


async def test_an_archive_that_nobody_foresaw_ends_its_offer_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, data = offered(tmp_path, "2")
    rig = Rig(tmp_path / "home", remote=shelf, models={"updates": "install"})

    async def fails(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    async with running(rig), listening(tmp_path, rig) as updates:
        await rig.serve("1")
        with monkeypatch.context() as patched:
            patched.setattr(rig.parts.intake, "add", fails)
            await updates.take(record(data))
            await wait_for(lambda: state(updates, "2") == "failed")
        await rig.parts.updating.install("colours@2")
        await wait_for(lambda: state(updates, "2") == "canary")


async def test_the_same_archive_goes_from_stage_to_stage_and_a_repeated_offer_is_one(tmp_path: Path) -> None:
    shelf, data = offered(tmp_path, "2")
    rig = Rig(tmp_path / "home", remote=shelf, models={"updates": "install"})
    async with running(rig), listening(tmp_path, rig) as updates:
        for stage, reached in (("Staging", "staged"), ("Production", "active"), ("Staging", "active")):
            await updates.take(record({**data, "stage": stage}))
            await wait_for(lambda reached=reached: reached in {each.state for each in updates.shown()})
        assert rig.row("2").active
        await rig.serve("3")
        await updates.take(record({**data, "stage": "Archived"}))
        await wait_for(lambda: "archived" in {each.state for each in updates.shown()})
        assert len(rig.parts.updating.all()) == 3


async def test_a_topic_that_is_read_again_does_not_use_up_the_room_of_a_new_offer(tmp_path: Path) -> None:
    shelf, data = offered(tmp_path, "2")
    rig = Rig(tmp_path / "home", remote=shelf)
    async with running(rig), listening(tmp_path, rig, run=False) as updates:
        for number in range(30):
            await updates.take(record(data, number))
        await updates.take(record({**data, "version": "3"}))
        assert (state(updates, "3"), updates.passed) == ("offered", 0)


async def test_offers_that_pile_up_wait_for_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updating, "MOST", 3)
    shelf, data = offered(tmp_path, "2")
    rig = Rig(tmp_path / "home", remote=shelf, models={"updates": "install"})
    async with running(rig), listening(tmp_path, rig, run=False) as updates:
        for number in range(5):
            await updates.take(record({**data, "version": f"{number}"}))
        assert [each.state for each in updates.shown()] == ["offered"] * 2 + ["queued"] * 3
        assert "3 offers wait already" in updates.shown()[0].note
        await rig.parts.updating.install("colours@4")
        assert state(updates, "4") == "queued"


async def test_a_canary_that_was_ended_does_not_begin_again_after_a_cut_of_the_power(tmp_path: Path) -> None:
    shelf, data = offered(tmp_path, "2")
    rig = Rig(tmp_path / "home", remote=shelf, models={"updates": "install"})
    async with running(rig):
        await rig.serve("1")
        async with listening(tmp_path, rig) as updates:
            await updates.take(record(data))
            await wait_for(lambda: state(updates, "2") == "canary")
        await rig.parts.deciding.end_split("colours")  # its loops do not run any more: they did not see it
    rig = Rig(tmp_path / "home", remote=shelf, models={"updates": "install"})
    async with running(rig), listening(tmp_path, rig) as updates:
        await wait_for(lambda: state(updates, "2") == "superseded")
        assert rig.service.status().splits == ()
        assert rig.row("1").active


async def test_requests_that_name_a_version_promote_nothing(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        await rig.add("2")
        await rig.parts.deciding.split("colours", "2", "canary", 1.0, until=rig.clock.wall() + 100, wanted=5)
        for number in range(8):
            await rig.service.infer(picture(size=40 + number), "a.png", model="colours@2")
        await rig.parts.updating.look("colours")
        split = rig.service.status().splits[0]
        assert (split.of_candidate.requests, rig.row("1").active) == (0, True)
        assert rig.row("2").served.requests == 8


async def test_a_canary_that_answers_too_late_is_taken_back(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        await rig.add("2")
        await rig.parts.deciding.split("colours", "2", "canary", 100.0, until=rig.clock.wall() + 1000, wanted=50)
        await rig.service.infer(picture(), "a.png", model="colours@2")
        model = rig.parts.engine._devices[0].loaded["colours@2"].model  # type: ignore[attr-defined]
        infer = model.infer

        def late(inputs: Mapping[str, Any]) -> Any:
            time.sleep(0.2)
            return infer(inputs)

        model.infer = late
        for number in range(3):
            with pytest.raises(DeadlineError):
                await rig.service.infer(picture(size=40 + number), "a.png", deadline=rig.clock.monotonic() + 0.05)
        await rig.parts.updating.look("colours")
        assert "all of its 3 requests failed" in rig.told("model.rolled-back")[0]["why"]
        assert (await rig.service.infer(picture(size=99), "a.png")).model_version == "1"


async def test_the_active_version_answers_where_a_trial_has_no_device(tmp_path: Path) -> None:
    device = ByteDevice()
    rig = Rig(tmp_path / "home", accelerators=[device, OnnxAccelerator(1)])
    async with running(rig):
        await rig.serve("1")
        new = write_model(tmp_path / "new", "2")
        (new / "model.onnx").write_bytes(b"compiled")
        (new / "model.onnx").rename(new / "model.hef")
        text = (new / "manifest.toml").read_text().replace("model.onnx", "model.hef").replace('"onnx"', '"hef"')
        old = text.split('sha256 = "')[1][:64]
        (new / "manifest.toml").write_text(text.replace(old, hashlib.sha256(b"compiled").hexdigest()))
        await rig.parts.intake.add(str(new))
        await rig.parts.deciding.split("colours", "2", "ab", 100.0)
        assert (await rig.service.infer(picture(), "a.png")).model_version == "2"
        device.stalls = True
        for number in range(3):
            assert (await rig.service.infer(picture(size=40 + number), "a.png")).model_version == "1"
        assert rig.service.status().splits[0].of_candidate.errors == 3


async def test_a_shadow_is_held_to_the_threshold_of_the_request(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        await rig.add("2")
        await rig.parts.deciding.split("colours", "2", "shadow", 100.0)
        assert (await rig.service.infer(picture(), "a.png", threshold=1.0)).boxes == ()
        await wait_for(lambda: rig.service.status().splits[0].compared == 1)
        assert rig.service.status().splits[0].agreement == 1.0


async def test_a_shadow_that_does_not_come_to_run_is_skipped_and_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        await rig.add("2")
        await rig.parts.deciding.split("colours", "2", "shadow", 100.0)
        run = rig.parts.pipeline.run

        async def late(version: Any, *wanted: Any, **more: Any) -> Any:
            if version.manifest.version == "2":
                raise DeadlineError("More urgent ones came.", "wait.")
            return await run(version, *wanted, **more)

        monkeypatch.setattr(rig.parts.pipeline, "run", late)
        await rig.service.infer(picture(), "a.png")
        await wait_for(lambda: rig.service.status().splits[0].skipped == 1)
        assert rig.service.status().splits[0].of_candidate.errors == 0
        assert "colours@1" in (await rig.service.health()).reason


async def test_health_is_told_of_the_active_version_whatever_is_tried(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        await rig.add("2")
        await rig.parts.deciding.split("colours", "2", "ab", 100.0)
        assert "colours@1" in (await rig.service.health()).reason


async def test_a_caller_who_waits_for_a_proof_is_told_when_inference_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path / "home")
    write_model(rig.given / "colours", "1")
    begun = asyncio.Event()

    async def never(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(proving, "examine", never)
    async with running(rig):
        with pytest.raises(DeadlineError, match="being proven"):
            await rig.service.infer(picture(), "a.png", deadline=rig.clock.monotonic() + 0.02)
        asked = asyncio.create_task(rig.service.infer(picture(), "a.png"))
        await wait_for(lambda: begun.is_set() and rig.service._under_way.total() == 1)
        await rig.service.stop()
        with pytest.raises(AbsentError, match="stopped before"):
            await asked
        assert rig.service.status().refused == 2


async def test_a_callers_threshold_and_a_vector_say_nothing_of_drift(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home", models={"drift_requests": 20})) as rig:
        await rig.serve("1")
        for number in range(20):
            await rig.service.infer(picture(size=40 + number), "a.png")
        for number in range(24):
            await rig.service.infer(picture(size=40 + number), "a.png", threshold=1.0)
        assert rig.row("1").drift.window == 0
        assert rig.told("model.drift") == []
        watching = rig.parts.registry.watching
        for number in range(60):
            watching.add("vectors@1", Findings(embedding=(1.0, 0.0) if number < 20 else (0.0, 1.0)), 1.0)
        assert watching.drift("vectors@1") is None


async def test_a_name_that_nobody_knows_is_the_callers_fault(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        await rig.serve("1")
        for name in ("nobody", "colours@9"):
            with pytest.raises(ModelError):
                await rig.service.infer(picture(), "a.png", model=name)
        status = rig.service.status()
        assert ((await rig.service.health()).health, status.errors, status.refused) == (Health.healthy, 0, 2)


async def test_a_baseline_that_completes_during_a_proof_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Rig(tmp_path / "home", models={"drift_requests": 20})) as rig:
        await rig.serve("1")
        for number in range(19):
            await rig.service.infer(picture(size=40 + number), "a.png")
        examine = deciding.examine

        async def while_requests_come(*wanted: Any) -> Any:
            proof = await examine(*wanted)
            await rig.service.infer(picture(size=99), "a.png")
            await wait_for(lambda: rig.parts.registry.facts["colours@1"].baseline is not None)
            return proof

        monkeypatch.setattr(deciding, "examine", while_requests_come)
        await rig.parts.deciding.activate("colours", "1")
        await wait_for(lambda: not rig.parts.registry._tasks)
        kept = (await rig.parts.registry.setup.records.facts())["colours@1"]
        assert kept.baseline is not None
        assert kept.proven.keys() == {"onnx"}


def test_results_a_second_are_of_the_time_that_passed() -> None:
    counts = Counting()
    assert counts.per_second(100.0) is None
    for tenth in range(30):
        counts.done(PLAIN, 100.0 + tenth / 10)
    assert counts.per_second(100.9) is None
    assert counts.per_second(103.0) == 10.0
    assert counts.per_second(110.0) == 3.0
    assert counts.per_second(130.0) == 0.0
