"""Sources that hang, leap, are begun twice, see nothing; and RTSP over one TCP connection."""

from __future__ import annotations

import asyncio
import os
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from appliance.core.inference.sources import zones
from appliance.core.inference.sources.definition import Rule
from appliance.core.inference.sources.frames import Frame
from appliance.core.inference.sources.model import SourceState
from appliance.core.inference.sources.pictures import FolderFeed
from appliance.core.inference.sources.reader import AHEAD, Times
from appliance.core.inference.sources.rules import Hit, Rules
from appliance.core.inference.sources.tally import Tally
from appliance.core.inference.sources.teller import Teller
from appliance.core.inference.sources.tracking import Seen, Tracker
from appliance.core.model import Box, Health
from appliance.errors import AbsentError, ModelError, SourceError, StoreError
from tests.inference.rtsp_rig import rtsp_over_tcp
from tests.inference.source_rig import HEIGHT, WIDTH, definition, jpeg, mjpeg, picture, running, video
from tests.support import wait_for

WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
CAR = Box("car", 0.9, 10, 10, 50, 50)


@pytest.mark.parametrize("box", [(40, 20, 80, 120), (130, 40, 190, 100), (-20, -20, 20, 0), (150, 100, 180, 150)])
def test_what_is_cut_off_by_the_pictures_edge_is_in_a_zone_that_reaches_it(box: tuple[float, ...]) -> None:
    place = zones.anchor(Box("person", 0.9, *box), WIDTH, HEIGHT, "foot")
    assert zones.contains(WHOLE, *place)
    assert not zones.contains([(x / 2, y / 2) for x, y in WHOLE], *place) or box[3] <= 0


def test_the_times_of_a_file_may_begin_anywhere_and_leap(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [50.0]
    monkeypatch.setattr("appliance.core.inference.sources.reader.time.monotonic", lambda: clock[0])
    times, waited = Times(), []
    for position in (3600.0, 3600.2, 3600.4, 9000.0, 9000.2, 9000.4):
        waited.append(round(times.until(position), 3))
        clock[0] += waited[-1]
    assert waited == [0, 0.2, 0.2, AHEAD, 0.2, 0.2]


async def test_a_recording_of_a_camera_that_ran_for_hours_is_shown_at_its_pace(tmp_path: Path) -> None:
    path = tmp_path / "late.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(picture(4 + index), format="rgb24")
            frame.pts, frame.time_base = 25 * 3600 + index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", path))
        assert (await rig.ended()).frames == 50


async def test_a_file_that_never_answers_is_told_and_few_threads_hang_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.runner.GIVEN_UP", 0.0)
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", path, timeout=0.5))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert ("does not answer" in status.reason, status.next_step) == (True, "look whether its disk answers.")
        assert (await rig.service.health()).health is Health.degraded
        stuck = lambda: rig.service._tallies["cam"].stuck  # noqa: E731
        await wait_for(lambda: len(stuck()) == 2)
        for _ in range(3):  # whoever begins it anew has no more of them hang
            await rig.service.switch("cam", enabled=False)
            await rig.service.switch("cam", enabled=True)
            await rig.until(lambda status: status.state is SourceState.retrying)
            assert len(stuck()) == 2
        threads = stuck()
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # let them go
        await wait_for(lambda: not any(reader.alive for reader in threads))


async def test_a_source_that_sees_nothing_is_no_healthy_one(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            rig.inferer.fault = ModelError("The model is damaged.", "fetch it again.")
            await rig.service.add(definition("stream", camera.url))
            await rig.until(lambda status: status.failed >= 3)
            report = await rig.service.health()
            assert report.health is Health.degraded
            assert "no frame of cam can be looked at: The model is damaged." in report.reason
            rig.inferer.fault = None
            await rig.until(lambda status: status.inferred)
            assert (await rig.service.health()).health is Health.healthy


async def test_a_file_that_waits_loses_no_frame_while_no_device_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.runner.TURN", 0.02)
    async with running(tmp_path) as rig:
        rig.inferer.fault = AbsentError("The inference engine does not run.")
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait"))
        await rig.until(lambda status: status.failed >= 5)
        rig.inferer.fault = None
        assert (await rig.ended()).inferred == 20


async def test_what_runs_is_not_begun_a_second_time(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", video(tmp_path / "v.mp4", 60, 30)))
        await rig.until(lambda status: status.frames > 10)
        await rig.service.switch("cam", enabled=True)
        assert (await rig.ended()).frames == 60
        await rig.service.switch("cam", enabled=True)  # it had ended: now it does
        assert (await rig.until(lambda status: status.state is SourceState.ended and status.frames > 60)).frames == 120


async def test_a_service_that_is_started_again_reads_each_source_once(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", camera.url))
            await rig.until(lambda status: status.frames)
            await rig.service.start()
            await rig.until(lambda status: status.state is SourceState.running)
            assert [task.get_name() for task in asyncio.all_tasks()].count("source cam") == 1


async def test_a_feed_that_cannot_be_closed_is_tried_again_as_any_other(tmp_path: Path) -> None:
    class Feed:
        damaged = 0

        def read(self) -> None:
            raise SourceError("It broke.", "mend it.")

        def close(self) -> None:
            raise RuntimeError("not now")

    async with running(tmp_path, opener=lambda *_: Feed()) as rig:
        await rig.service.add(definition("stream", "http://127.0.0.1:9/video"))
        status = await rig.until(lambda status: status.reconnects > 2 and status.state is SourceState.retrying)
        assert (status.reason, status.next_step) == ("It broke.", "mend it.")


def test_an_object_that_was_unseen_for_too_long_is_another_one() -> None:
    tracker = Tracker(0.4, 2.0, 5.0)
    numbers = [tracker.update([CAR], now)[0].track_id for now in (0.0, 0.2, 0.4, 2.0, 40.0, 40.2)]
    assert numbers == [1, 1, 1, 1, 2, 2]
    slow = Tracker(0.4, 2.0, 5.0)  # a model that takes 3 s a frame: they come as they come
    assert {seen.track_id for step in range(1, 20) for seen in slow.update([CAR], 3.0 * step)} <= {1, 2}


def test_numbers_that_begin_anew_meet_no_stay_of_the_time_before() -> None:
    rules = Rules((), (Rule(name="any", cooldown=0.0),), gap=10.0)
    assert len(rules.update((Seen(1, CAR, 0.0),), {1: ()}, 0.0)) == 1
    rules.begin_anew()
    assert len(rules.update((Seen(1, CAR, 5.0),), {1: ()}, 5.0)) == 1


async def test_clips_that_a_slow_disk_keeps_waiting_are_bounded() -> None:
    source = definition("video", "/v.mp4", rules=[{"name": "any", "clip": 1.0, "cooldown": 0.0, "snapshot": False}])
    kept, may = [], asyncio.Event()

    class Slow:
        async def keep(self, key: str, *_: Any) -> str:
            kept.append(key)
            await may.wait()
            return key

    async def publish(_: Any) -> None:
        pass

    tally = Tally()
    teller = Teller(source, Slow(), publish, tally)  # type: ignore[arg-type]
    for step in range(20):
        frame = Frame(picture(5), "cam", float(step), float(step))
        await teller.note(frame)
        await teller.tell(Hit(source.rules[0], Seen(step, CAR, 0.0), 0.0), frame)
        await teller.go_on(step + 0.6)
    assert len(teller._saving) == 2
    assert tally.not_kept == 18
    assert "clips are being recorded or kept already" in tally.events[0].problem
    may.set()
    await teller.finish()
    assert len(kept) == 2


async def test_rtsp_over_tcp_gives_frames_and_its_silence_and_return_are_noticed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with rtsp_over_tcp() as camera:
            await rig.service.add(definition("stream", camera.url, timeout=1.0))
            status = await rig.until(lambda status: status.inferred >= 10, seconds=30)
            assert (status.width, status.height) == (WIDTH, HEIGHT)
            assert all("RTP/AVP/TCP" in asked for asked in camera.transports)
            assert len({left for left in rig.inferer.seen if left >= 0}) > 3, "the square moves"
            camera.hang.set()
            status = await rig.until(lambda status: status.state is SourceState.retrying, seconds=30)
            assert "in time" in status.reason
            camera.hang.clear()
            before = rig.status().inferred
            status = await rig.until(lambda status: status.inferred > before + 5, seconds=30)
            assert status.state is SourceState.running
            assert status.reconnects >= 1
        status = await rig.until(lambda status: status.state is SourceState.retrying, seconds=30)
        assert status.next_step


async def test_a_camera_that_does_not_send_over_tcp_says_to_try_udp(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with rtsp_over_tcp() as camera:
            camera.tcp = False
            await rig.service.add(definition("stream", camera.url, timeout=2.0))
            status = await rig.until(lambda status: status.state is SourceState.retrying, seconds=30)
            assert "--transport udp" in status.next_step


async def test_a_folder_whose_disk_does_not_answer_is_told_and_one_that_rests_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.runner.GIVEN_UP", 0.0)
    monkeypatch.setattr("appliance.core.inference.sources.pictures.SCAN", 0.05)
    answers, folder = threading.Event(), tmp_path / "folder"
    folder.mkdir()
    async with running(tmp_path) as rig:
        await rig.service.add(definition("folder", folder, timeout=0.5))
        reader: Any = await wait_for(lambda: rig.service._runners["cam"]._reader)
        began = await wait_for(lambda: reader.beat)
        await wait_for(lambda: reader.beat > began + 1.5)  # longer than a driver may be silent, and no picture has come
        assert (rig.status().state, len(rig.service._tallies["cam"].stuck)) == (SourceState.opening, 0)
        monkeypatch.setattr(FolderFeed, "_listing", lambda _: answers.wait(20))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "does not answer" in status.reason
        answers.set()


async def test_pictures_that_come_while_a_folder_is_away_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.pictures.SCAN", 0.05)
    folder, away = tmp_path / "nas", tmp_path / "away"
    folder.mkdir()
    (folder / "old.jpg").write_bytes(jpeg(picture(10)))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("folder", folder))
        await wait_for(lambda: (reader := rig.service._runners["cam"]._reader) and reader._feed)
        (folder / "one.jpg").write_bytes(jpeg(picture(20)))
        await rig.until(lambda status: status.inferred == 1)
        folder.rename(away)
        await rig.until(lambda status: status.state is SourceState.retrying)
        (away / "two.jpg").write_bytes(jpeg(picture(60)))  # a camera puts it there by itself
        away.rename(folder)
        await rig.until(lambda status: status.inferred == 2)
        assert [call[0] for call in rig.inferer.calls] == [str(folder / "one.jpg"), str(folder / "two.jpg")]


async def test_a_source_whose_password_cannot_be_removed_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise StoreError("The disk fails.", "see dmesg.")

    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", camera.url))
            await rig.until(lambda status: status.frames)
            with monkeypatch.context() as broken:
                broken.setattr(rig.secrets, "remove", fails)
                with pytest.raises(StoreError):
                    await rig.service.remove("cam")
            before = rig.status().frames
            await rig.until(lambda status: status.frames > before)
            await rig.service.remove("cam")
            assert rig.service.statuses() == ()
