"""Sources that are files: pictures, folders, videos; whole, damaged, half-written, gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.core.inference.model import Priority
from appliance.core.inference.sources.model import SourceState
from appliance.errors import DeadlineError, ModelError, QueueFullError
from tests.inference.source_rig import definition, encode_video, jpeg, picture, running, video
from tests.support import wait_for


async def test_every_frame_of_a_video_is_looked_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait"))
        status = await rig.ended()
        assert (status.frames, status.inferred, status.dropped, status.skipped) == (20, 20, 0, 0)
        assert status.reason == ""
        assert len(rig.inferer.seen) == 20
        assert all(abs(left - (4 + 3 * index)) <= 3 for index, left in enumerate(rig.inferer.seen))
        assert {call[1] for call in rig.inferer.calls} == {Priority.low}
        assert (status.width, status.height) == (160, 120)


async def test_the_rate_bounds_what_is_looked_at(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait", rate=5.0))
        status = await rig.ended()
        assert (status.frames, status.inferred, status.skipped) == (20, 10, 10)


async def test_in_real_time_the_newest_frame_wins_and_the_others_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.inferer.pause = 0.3
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="latest"))
        status = await rig.ended()
        assert status.dropped > 5
        assert status.inferred + status.dropped == status.frames == 20
        assert rig.inferer.most_at_once == 1
        assert rig.inferer.calls[0][2] is not None, "a live frame's result is wanted by no one later"


async def test_a_video_begins_again_where_it_is_repeated(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait", repeat=True))
        status = await rig.until(lambda status: status.frames > 45)
        assert status.state is SourceState.running
        assert (await rig.service.switch("cam", enabled=False)).state is SourceState.stopped


async def test_a_video_without_times_is_looked_at_at_its_rate(tmp_path: Path) -> None:
    """Bare H.264 has no times; its frames are taken to be 1/25 s apart."""
    path = video(tmp_path / "v.h264", 50, 25, form="h264", codec="libx264")
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", path, drop="wait", rate=5.0))
        status = await rig.ended()
        assert status.frames == 50
        assert 9 <= status.inferred <= 11


async def test_a_fault_that_nobody_foresaw_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.service.AGAIN", 0.05)
    async with running(tmp_path) as rig:
        rig.inferer.fault = ZeroDivisionError("odd")  # type: ignore[assignment]
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait"))
        status = await rig.until(lambda status: status.problem)
        assert "not foreseen: ZeroDivisionError" in status.problem
        rig.inferer.fault = None
        assert (await rig.ended()).inferred >= 19


async def test_a_video_that_ends_in_the_middle_of_a_frame_is_read_so_far(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    encode_video([picture(4 + index) for index in range(40)], str(whole), movflags="faststart")
    body = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(body[: len(body) * 6 // 10])
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", cut, drop="wait"))
        status = await rig.ended()
        assert 5 < status.inferred < 40
        assert status.reconnects == 0, "what was read is not read again"
        assert "breaks off after" in status.reason
        assert "copy it again" in status.next_step


async def test_a_video_without_its_index_says_what_it_is(tmp_path: Path) -> None:
    body = video(tmp_path / "whole.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(body[: len(body) // 2])  # its index stands at its end
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", cut, drop="wait"))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "is no video, or a damaged one" in status.reason
        assert status.next_step
        cut.write_bytes(body)
        assert (await rig.ended()).inferred == 20, "it was mended meanwhile"


async def test_an_unknown_codec_is_named_as_such(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mkv", form="matroska")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/ASP", b"V_XYZ/OTHER/ONE"))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", path))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "codec that is not supported" in status.reason, status.reason
        assert "H.264" in status.next_step


async def test_a_recording_without_pictures_is_no_source(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", path))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "has no pictures in it" in status.reason


async def test_a_missing_file_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", tmp_path / "later.mp4", drop="wait"))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "is not there" in status.reason
        assert status.next_try
        made = video(tmp_path / "made.mp4")
        made.rename(tmp_path / "later.mp4")
        assert (await rig.ended()).inferred == 20


async def test_one_picture_is_looked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(jpeg(picture(50)))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("picture", path, drop="wait"))
        status = await rig.ended()
        assert (status.frames, status.inferred) == (1, 1)
        assert rig.inferer.calls[0][0] == str(path)


async def test_a_folder_gives_each_new_picture_once_and_no_half_one(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "old.jpg").write_bytes(jpeg(picture(10)))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("folder", folder, drop="wait"))
        await rig.until(lambda status: status.state is SourceState.opening)
        reader = await wait_for(lambda: rig.service._runners["cam"]._reader)
        await wait_for(lambda: reader.progress.beat)
        half = jpeg(picture(60))
        await _until_watched(rig, folder)
        with (folder / "slow.jpg").open("wb") as writing:
            writing.write(half[:600])
            writing.flush()
            (folder / "quick.jpg").write_bytes(jpeg(picture(80)))
            await rig.until(lambda _: any("quick" in call[0] for call in rig.inferer.calls))
            assert not any("slow" in call[0] for call in rig.inferer.calls), "it is still being written"
            writing.write(half[600:])
        await rig.until(lambda _: any("slow" in call[0] for call in rig.inferer.calls))
        (folder / ".part.jpg").write_bytes(jpeg(picture(20)))
        (folder / ".part.jpg").rename(folder / "moved.jpg")
        status = await rig.until(lambda _: any("moved" in call[0] for call in rig.inferer.calls))
        names = sorted(Path(call[0]).name for call in rig.inferer.calls if "probe" not in call[0])
        assert names == ["moved.jpg", "quick.jpg", "slow.jpg"]
        assert status.damaged == 0


async def _until_watched(rig: object, folder: Path) -> None:
    """Until the folder's watch is set: the first picture that is written is seen."""

    def seen() -> bool:
        (folder / "probe.jpg").write_bytes(jpeg(picture(5)))
        return any("probe" in call[0] for call in rig.inferer.calls)  # type: ignore[attr-defined]

    await wait_for(seen, 20)


async def test_a_damaged_picture_is_counted_and_holds_up_none(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no picture")
    (folder / "b.jpg").write_bytes(jpeg(picture(60))[:700])
    (folder / "c.jpg").write_bytes(jpeg(picture(60)))
    async with running(tmp_path) as rig:
        await rig.service.add(definition("folder", folder, drop="wait", existing=True))
        status = await rig.until(lambda status: status.inferred == 1 and status.damaged == 2)
        assert "b.jpg" in status.problem
        assert status.state is SourceState.running


async def test_a_folder_that_goes_is_watched_again_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    async with running(tmp_path) as rig:
        await rig.service.add(definition("folder", folder, drop="wait", existing=True))
        await _until_watched(rig, folder)
        shutil.rmtree(folder)
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "is gone" in status.reason
        health = await rig.service.health()
        assert health.health == "degraded"
        folder.mkdir()
        (folder / "new.jpg").write_bytes(jpeg(picture(30)))
        await rig.until(lambda _: any("new.jpg" in call[0] for call in rig.inferer.calls))


async def test_files_that_the_kernel_does_not_tell_of_are_found_when_they_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NAS tells nothing of what others write there."""
    monkeypatch.setattr("appliance.core.inference.sources.pictures._watch", lambda _: None)
    monkeypatch.setattr("appliance.core.inference.sources.pictures.SCAN", 0.2)
    folder = tmp_path / "in"
    folder.mkdir()
    async with running(tmp_path) as rig:
        await rig.service.add(definition("folder", folder, drop="wait", existing=True))
        (folder / "empty.jpg").touch()
        (folder / "there.jpg").write_bytes(jpeg(picture(30)))
        await rig.until(lambda _: any("there.jpg" in call[0] for call in rig.inferer.calls))
        os.utime(folder / "there.jpg")
        await rig.until(lambda status: status.inferred == 2)
        assert not any("empty" in call[0] for call in rig.inferer.calls)


@pytest.mark.parametrize(("fault", "counter"), [(QueueFullError("full"), "refused"), (DeadlineError("late"), "late")])
async def test_a_file_that_waits_loses_no_frame_to_what_is_more_urgent(
    tmp_path: Path, fault: QueueFullError | DeadlineError, counter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.runner.TURN", 0.02)
    async with running(tmp_path) as rig:
        rig.inferer.fault = fault
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait"))
        await rig.until(lambda status: getattr(status, counter) >= 3)
        rig.inferer.fault = None
        assert (await rig.ended()).inferred == 20


async def test_a_failing_model_is_told_and_the_source_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.inferer.fault = ModelError("The model fails.", "activate another one.")
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), repeat=True))
        status = await rig.until(lambda status: status.failed >= 2)
        assert "The model fails" in status.problem
        rig.inferer.fault = None
        assert (await rig.until(lambda status: status.inferred > 2)).state is SourceState.running


async def test_what_is_stopped_or_at_its_end_stays_so_after_a_restart(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4")
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", path, drop="wait"))
        await rig.ended()
        await rig.until(lambda status: not status.enabled)
        await rig.service.add(definition("folder", tmp_path, drop="wait").model_copy(update={"name": "folder"}))
        await rig.service.switch("folder", enabled=False)
    async with running(tmp_path) as rig:
        for name in ("cam", "folder"):
            assert (rig.status(name).state, rig.status(name).enabled) == (SourceState.stopped, False)
        await rig.service.switch("cam", enabled=True)
        assert (await rig.ended()).inferred == 20, "a file that was read is read again where it is asked for"
        assert len(rig.inferer.calls) == 20
