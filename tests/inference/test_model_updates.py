"""Offers over models.updates: a bad hash is refused; a good one is watched, and then serves; going back is one step."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from appliance.core.bus import Bus
from appliance.core.events import new_id
from appliance.core.inference.offers import Offers
from appliance.core.memory.object_files import ObjectFiles
from appliance.core.memory.objects import ObjectReplica
from appliance.core.streams.kafka_reader import KafkaReader, Record
from appliance.core.streams.traffic import Traffic
from appliance.core.streams.updates import Updates
from appliance.errors import AbsentError, ConflictError, ModelError, NotFoundError, TierUnavailableError
from tests.inference.registry_rig import Rig, archive, picture, write_model
from tests.servers.fixtures import Topics
from tests.servers.s3 import Bucket, S3Server
from tests.streams.kafka_rig import access
from tests.streams.outbox_rig import Rig as OutboxRig
from tests.support import wait_for


class Cloud:
    """Archives in a bucket, and the messages that offer them."""

    def __init__(self, bucket: Bucket, server: S3Server, home: Path) -> None:
        self.bucket, self.server, self.home = bucket, server, home

    def files(self, secret: str = "") -> ObjectFiles:
        b = self.bucket
        return ObjectFiles(ObjectReplica(b.endpoint, b.access_key, secret or b.secret_key, b.name, False, "pi"))

    def store(self, version: str, **wanted: Any) -> dict[str, Any]:
        """Make a version, put it there, and return the offer's data."""
        path, digest = archive(write_model(self.home / f"cloud-{version}", version, **wanted), self.home / f"{version}.tar")
        self.server.client().fput_object(self.bucket.name, f"models/{version}.tar", str(path))
        return {
            "model": "colours", "version": version, "artifact": f"s3://{self.bucket.name}/models/{version}.tar",
            "sha256": digest, "stage": "Production", "device_ids": ["pi"], "rollout": {"strategy": "canary", "percent": 50},
        }  # fmt: skip


def record(data: dict[str, Any], offset: int = 0) -> Record:
    body = {"v": 1, "id": new_id(), "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return Record("models.updates", 0, offset, 0.0, b"", json.dumps(body).encode())


@pytest.fixture
def cloud(s3: Bucket, s3_server: S3Server, tmp_path: Path) -> Cloud:
    return Cloud(s3, s3_server, tmp_path)


class Device:
    """A rig whose service runs, with the streams' half of the offers."""

    def __init__(self, rig: Rig, outbox: OutboxRig) -> None:
        self.rig = rig
        self.updates = Updates("pi", Bus(outbox.journal), outbox.outbox.letters, outbox.clock)
        self.updates.installer = Offers(rig.parts.updating)
        rig.parts.updating.pause = lambda *_: 0.01

    async def offer(self, data: dict[str, Any]) -> None:
        await self.updates.take(record(data))

    def state(self, version: str) -> str:
        return next((each.state for each in self.updates.shown() if each.version == version), "")

    async def until(self, version: str, *states: str) -> str:
        await wait_for(lambda: self.state(version) in states, 30)
        return next(each.note for each in self.updates.shown() if each.version == version)

    async def ask(self, until: Callable[[], bool], colours: tuple[str, ...] = ("red", "blue")) -> set[str]:
        """Requests, one after the other, until something holds; the versions that answered."""
        seen: set[str] = set()
        for number in range(2000):
            if until():
                return seen
            result = await self.rig.service.infer(picture(colours[number % len(colours)], 40 + number % 300, number), "a.png")
            assert result.boxes[0].label == colours[number % len(colours)]
            seen.add(result.model_version)
            await asyncio.sleep(0)
        raise AssertionError("it did not come to that")


@asynccontextmanager
async def device(
    cloud: Cloud, tmp_path: Path, secret: str = "", remote: bool = True, s3: dict[str, Any] | None = None, **models: Any
) -> AsyncIterator[Device]:
    wanted = {"updates": "install", "canary_requests": 10, "canary_seconds": 60, "canary_latency_percent": 10_000, **models}
    rig = Rig(tmp_path / "home", remote=cloud.files(secret) if remote else None, models=wanted, s3=s3 or {})
    (tmp_path / "outbox").mkdir(parents=True, exist_ok=True)
    outbox = OutboxRig(tmp_path / "outbox")
    await outbox.open()
    await rig.start()
    task = asyncio.create_task(rig.service.run())
    try:
        yield Device(rig, outbox)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rig.stop()
        await outbox.stop()


async def test_a_good_offer_is_watched_and_then_serves_and_can_be_taken_back(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        data = cloud.store("2")
        await pi.offer(data)
        await pi.offer(data)  # repeated: the same one
        assert "50 %" in await pi.until("2", "canary")
        split = pi.rig.service.status().splits[0]
        assert (split.mode, split.candidate, split.percent, split.wanted) == ("canary", "2", 50.0, 10)
        assert await pi.ask(lambda: pi.state("2") == "active") == {"1", "2"}
        assert pi.rig.row("2").active
        assert (await pi.rig.service.infer(picture(), "b.png")).model_version == "2"
        steps = [facts["state"] for facts in pi.rig.told("model.update")]
        assert steps == ["queued", "downloading", "verifying", "canary", "active"]
        await pi.offer(data)
        assert pi.state("2") == "active"
        with pytest.raises(ConflictError):
            await pi.rig.parts.updating.install("colours@2")
        await pi.rig.parts.updating.rollback("colours", "an operator asked for it")
        assert (await pi.rig.service.infer(picture(size=77), "b.png")).model_version == "1"
        assert pi.state("2") == "rolled back"


async def test_a_bad_hash_is_refused_and_nothing_of_it_stays(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        await pi.offer({**cloud.store("2"), "sha256": "0" * 64})
        assert "SHA-256" in await pi.until("2", "refused")
        assert [row.version for row in pi.rig.service.status().models] == ["1"]
        assert not list(pi.rig.models.glob(".staging/*"))
        await pi.offer(cloud.store("3", expects="blue"))
        assert "self-test" in await pi.until("3", "refused")
        await pi.offer({**cloud.store("4"), "version": "5"})
        assert "colours 4, not colours 5" in await pi.until("5", "refused")
        await pi.offer({**cloud.store("6"), "artifact": f"s3://{cloud.bucket.name}/nothing"})
        assert "is not there" in await pi.until("6", "refused")
        assert pi.rig.row("1").active
        await pi.offer(cloud.store("2"))  # the right hash: another offer, and a good one
        await pi.until("2", "canary")


async def test_a_version_that_fails_in_its_canary_is_taken_back_and_nobody_noticed(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        await pi.offer(cloud.store("2", breaks_on_blue=True))
        await pi.until("2", "canary")
        await pi.ask(lambda: pi.state("2") == "rolled back")  # every request had its right answer
        assert (pi.rig.row("1").active, pi.rig.row("2").stage) == (True, "Staging")
        assert pi.rig.service.status().errors == 0
        assert pi.rig.service.status().splits == ()
        assert "failed" in pi.rig.told("model.rolled-back")[0]["why"]


async def test_time_without_requests_activates_nothing(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        await pi.offer(cloud.store("2"))
        await pi.until("2", "canary")
        pi.rig.clock.ahead += 61  # type: ignore[attr-defined]
        assert "too few to judge by" in await pi.until("2", "rolled back")
        assert pi.rig.row("1").active


async def test_an_offer_waits_for_the_operator_where_the_settings_say_so(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path, updates="ask") as pi:
        await pi.rig.serve("1")
        await pi.offer({**cloud.store("2"), "rollout": {"strategy": "immediate", "percent": 100}})
        assert "model install" in await pi.until("2", "offered")
        assert [row.version for row in pi.rig.service.status().models] == ["1"]
        with pytest.raises(NotFoundError):
            await pi.rig.parts.updating.install("colours@3")
        await pi.rig.parts.updating.install("colours@2")
        await pi.until("2", "active")
        assert pi.rig.row("2").active


async def test_stages_and_other_devices(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.offer({**cloud.store("1"), "device_ids": ["another"]})
        await pi.offer({**cloud.store("2"), "stage": "Staging"})
        assert "model activate" in await pi.until("2", "staged")
        assert (pi.rig.row("2").stage, pi.rig.row("2").active, pi.state("1")) == ("Staging", False, "")
        await pi.offer({**cloud.store("3"), "device_ids": []})  # nothing serves: there is nothing to compare it with
        await pi.until("3", "active")
        await pi.offer({**cloud.store("2"), "stage": "Archived", "sha256": "1" * 64})
        await wait_for(lambda: pi.rig.row("2").stage == "Archived", 20)
        await pi.offer({**cloud.store("3"), "stage": "Archived", "sha256": "2" * 64})
        await wait_for(lambda: any("serves" in each.note for each in pi.updates.shown() if each.state == "refused"), 20)


async def test_a_restart_goes_on_with_what_was_under_way(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        await pi.offer(cloud.store("2"))
        await pi.until("2", "canary")
    async with device(cloud, tmp_path) as pi:
        await pi.until("2", "canary")
        assert pi.rig.service.status().splits[0].candidate == "2"
        await pi.ask(lambda: pi.state("2") == "active")
        assert len(pi.rig.told("model.activated")) == 1


async def test_a_newer_offer_overtakes_and_an_operator_may_end_a_canary(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        for version in ("2", "3"):
            await pi.offer(cloud.store(version))
            await pi.until(version, "canary")
        await pi.until("2", "superseded")
        assert pi.rig.service.status().splits[0].candidate == "3"
        await pi.rig.parts.deciding.end_split("colours")
        assert "ended" in await pi.until("3", "superseded")
        assert pi.rig.row("1").active


async def test_s3_that_is_away_is_tried_again_and_what_is_too_large_is_not(
    cloud: Cloud, s3_server: S3Server, tmp_path: Path
) -> None:
    async with device(cloud, tmp_path, secret="wrong") as pi:
        await pi.offer(cloud.store("1"))
        assert "refuses" in await pi.until("1", "failed")
    async with device(cloud, tmp_path) as pi:
        await pi.rig.parts.updating.install("colours@1")
        await pi.until("1", "active")
        remote = cloud.files()
        with pytest.raises(ModelError, match="the limit is"):
            await remote.download(f"s3://{cloud.bucket.name}/models/1.tar", tmp_path / "large", 100)
        with pytest.raises(ModelError, match="s3://BUCKET/KEY"):
            await remote.download("s3://only-a-bucket", tmp_path / "none", 100)
        assert [name for name, _ in await remote.list(f"s3://{cloud.bucket.name}/models/")] == ["1.tar"]
        s3_server.kill()
        with pytest.raises(TierUnavailableError):
            await remote.download(f"s3://{cloud.bucket.name}/models/1.tar", tmp_path / "gone", 10**6)
        await remote.close()
    async with device(cloud, tmp_path / "other", remote=False) as pi:
        with pytest.raises(AbsentError, match=r"s3\.endpoint|No S3"):
            await pi.rig.parts.intake.add("s3://a/b")


async def test_a_directory_in_s3_is_a_version_too(cloud: Cloud, tmp_path: Path) -> None:
    async with device(cloud, tmp_path) as pi:
        source = write_model(tmp_path / "plain", "8")
        for path in source.iterdir():
            cloud.server.client().fput_object(cloud.bucket.name, f"plain/8/{path.name}", str(path))
        await pi.rig.parts.intake.add(f"s3://{cloud.bucket.name}/plain/8/")
        assert pi.rig.row("8").stage == "Staging"


async def test_a_version_that_was_published_is_offered_as_it_was_told(cloud: Cloud, tmp_path: Path) -> None:
    """From one appliance, by S3, to another one."""
    async with device(cloud, tmp_path / "first", s3={"bucket": cloud.bucket.name}) as pi:
        assert await pi.rig.parts.publishing.stored() == []
        await pi.rig.serve("1")
        told = await pi.rig.parts.publishing.publish("colours", "1")
        assert [each["address"] for each in await pi.rig.parts.publishing.stored()] == [told["address"]]
        assert (await pi.rig.parts.publishing.publish("colours", "1"))["sha256"] == told["sha256"]  # the same every time
        with pytest.raises(NotFoundError):
            await pi.rig.parts.publishing.publish("colours", "2")
    async with device(cloud, tmp_path / "second") as pi:
        await pi.offer(told["offer"])
        await pi.until("1", "active")
        assert (await pi.rig.service.infer(picture(), "a.png")).boxes[0].label == "red"
    async with device(cloud, tmp_path / "third", remote=False) as pi:
        with pytest.raises(AbsentError):
            await pi.rig.parts.publishing.stored()


async def test_offers_come_by_kafka(cloud: Cloud, kafka: Topics, tmp_path: Path) -> None:
    topic = f"{kafka.prefix}models.updates"
    await kafka.server.create_topic(topic, 1)
    async with device(cloud, tmp_path) as pi:
        await pi.rig.serve("1")
        reader = KafkaReader(access(kafka.bootstrap), Traffic(pi.rig.clock.monotonic), f"{kafka.prefix}device")
        bad, good = {**cloud.store("2"), "sha256": "0" * 64}, cloud.store("3")
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        for data in (bad, good):
            body = json.dumps({"v": 1, "id": new_id(), "timestamp": "2026-01-01T00:00:00Z", "data": data}).encode()
            await producer.send_and_wait(topic, body)
        await producer.stop()
        await reader.start([topic])

        async def follow() -> None:
            while True:
                for each in await reader.take():
                    await pi.updates.take(each)
                    await reader.commit(each)

        task = asyncio.create_task(follow())
        try:
            assert "SHA-256" in await pi.until("2", "refused")
            await pi.until("3", "canary")
            await pi.ask(lambda: pi.state("3") == "active")
            assert pi.rig.row("3").active
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await reader.stop()


def test_the_hash_is_of_the_archive(cloud: Cloud) -> None:
    data = cloud.store("1")
    assert data["sha256"] == hashlib.sha256((cloud.home / "1.tar").read_bytes()).hexdigest()
