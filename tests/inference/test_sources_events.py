"""What is made of frames: tracks, events with snapshot and clip, previews; a full disk, a clock that jumps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from appliance.core.inference.sources.definition import Rule, Zone
from appliance.core.inference.sources.model import SourceState
from appliance.core.inference.sources.rules import Rules
from appliance.core.inference.sources.tracking import Tracker
from appliance.core.model import Box
from appliance.errors import DiskFullError, NotFoundError, SourceError, StoreError
from tests.inference.source_rig import RedInferer, definition, encode_video, mjpeg, picture, running, video
from tests.support import ManualClock, wait_for

RIGHT = {"name": "right", "points": [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]}


def crossing(path: Path, count: int = 40) -> Path:
    """The square goes from the left half into the right one; its foot's middle crosses in frame 21 or 22."""
    return video(path, count)


async def test_an_object_in_a_zone_for_so_long_is_told_once_with_its_picture(tmp_path: Path) -> None:
    rule = {"name": "in", "labels": ["square"], "zone": "right", "seconds": 0.5, "severity": "warning"}
    source = definition("video", crossing(tmp_path / "v.mp4"), drop="latest", zones=[RIGHT], rules=[rule])
    async with running(tmp_path) as rig:
        await rig.service.add(source)
        status = await rig.ended()
        assert status.events_total == 1
        (event,) = status.events
        assert (event.label, event.zone, event.rule, event.severity) == ("square", "right", "in", "warning")
        assert event.seconds >= 0.5
        assert (event.box.x_min + event.box.x_max) / 2 > 80
        (note,) = rig.notes
        assert (note.event, note.severity, note.id) == ("source.event", "warning", event.event_id)
        assert note.topic == "analytics.events"
        assert note.attributes["snapshot"] == event.snapshot == f"sources:cam/{event.event_id}.jpg"
        body = await rig.memory.memory.get(f"cam/{event.event_id}.jpg", "sources")
        kept = Image.open(io.BytesIO(body))
        assert kept.size == (160, 120)
        middle = kept.getpixel((round((event.box.x_min + event.box.x_max) / 2), round(event.box.y_max) - 10))
        assert middle[0] > 150, "it is the frame in which it happened"
        assert middle[1] < 110


async def test_no_event_without_the_label_the_score_or_the_zone(tmp_path: Path) -> None:
    left = {"name": "corner", "points": [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)]}
    rules = [
        {"name": "other", "labels": ["person"]}, {"name": "sure", "score": 0.95}, {"name": "away", "zone": "corner"},
        {"name": "long", "seconds": 600},
    ]  # fmt: skip
    async with running(tmp_path) as rig:
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait", zones=[left], rules=rules))
        assert (await rig.ended()).events_total == 0


async def test_a_cooldown_holds_further_events_back_and_counts_them(tmp_path: Path) -> None:
    frames = [picture(20 if index % 30 < 5 else None) for index in range(70)]
    encode_video(frames, str(tmp_path / "v.mp4"), 20)
    rules = [{"name": "quiet", "cooldown": 3600}, {"name": "loud", "cooldown": 0}]
    source = definition("video", tmp_path / "v.mp4", drop="latest", rules=rules, track_seconds=0.1)
    async with running(tmp_path) as rig:
        await rig.service.add(source)
        status = await rig.ended()
        names = [event.rule for event in status.events]
        assert names.count("quiet") == 1
        assert names.count("loud") >= 2
        assert status.suppressed >= 1


async def test_a_clip_shows_what_was_before_and_after(tmp_path: Path) -> None:
    rule = {"name": "in", "zone": "right", "clip": 2.0}
    source = definition("video", crossing(tmp_path / "v.mp4"), drop="latest", zones=[RIGHT], rules=[rule])
    async with running(tmp_path) as rig:
        await rig.service.add(source)
        await rig.ended()
        status = await rig.until(lambda status: status.kept == 2)
        (event,) = status.events
        assert event.clip == f"sources:cam/{event.event_id}.mp4"
        assert [note.event for note in rig.notes] == ["source.event", "source.clip"]
        assert rig.notes[1].attributes["clip"] == event.clip
        assert rig.notes[0].id != rig.notes[1].id
        body = await rig.memory.memory.get(f"cam/{event.event_id}.mp4", "sources")
        with av.open(io.BytesIO(body)) as clip:
            frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        inferer = RedInferer()
        lefts = [round(found[0].x_min) for rgb in frames if (found := _red(inferer, rgb))]
        assert len(lefts) > 8
        assert lefts[0] < event.box.x_min < lefts[-1], "it was there before, and afterwards"


def _red(_: RedInferer, rgb: Any) -> tuple[Box, ...]:
    from tests.inference.source_rig import red_square

    return red_square(rgb)


async def test_a_clip_that_is_cut_short_by_a_stop_is_kept_so_far(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with mjpeg() as camera:
            await rig.service.add(definition("stream", camera.url, rules=[{"name": "any", "clip": 60.0}]))
            await rig.until(lambda status: status.events and status.inferred > 10)
            await rig.service.switch("cam", enabled=False)
            assert rig.status().events[0].clip
            assert rig.notes[-1].event == "source.clip"


class FullMemory:
    """A memory on a disk that is full, until it is not."""

    def __init__(self) -> None:
        self.full = True
        self.held: dict[str, bytes] = {}

    async def set(self, key: str, value: bytes, **_: Any) -> None:
        """Raises DiskFullError while it is full."""
        if self.full:
            raise DiskFullError("No room to write.", "free space.")
        self.held[key] = value

    async def delete(self, key: str, _: str) -> bool:
        """As the memory."""
        return self.held.pop(key, None) is not None


async def test_a_full_disk_loses_pictures_and_no_event(tmp_path: Path) -> None:
    memory = FullMemory()
    rules = [{"name": "any", "clip": 1.0, "cooldown": 1.0}]
    async with running(tmp_path, keeper=memory) as rig:
        with mjpeg() as camera:
            await rig.service.add(definition("stream", camera.url, rules=rules, track_seconds=0.1))
            status = await rig.until(lambda status: status.not_kept >= 2)
            assert status.state is SourceState.running
            assert "No room" in status.problem
            event = status.events[-1]
            assert (event.snapshot, "No room" in event.problem) == ("", True)
            assert rig.notes[0].attributes["snapshot"] is None
            assert "No room" in str(rig.notes[0].attributes["problem"])
            with pytest.raises(DiskFullError):
                await rig.service.snapshot("cam")
            memory.full = False
            assert (await rig.service.snapshot("cam"))["key"].startswith("sources:cam/")
        count = await rig.shelf.trim()
        assert count == len(memory.held), "what was not kept is not in the list"


async def test_the_oldest_pictures_make_room(tmp_path: Path) -> None:
    memory = FullMemory()
    memory.full = False
    async with running(tmp_path, keeper=memory, keep=25_000) as rig:
        for index in range(10):
            await rig.shelf.keep(f"cam/{index}.jpg", bytes(5000), "cam")
        assert sorted(memory.held) == [f"cam/{index}.jpg" for index in range(5, 10)]
        assert await rig.shelf.trim() == 5


async def test_an_event_that_no_disk_takes_is_told_as_trouble(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:

        async def failing(_: object) -> None:
            raise StoreError("The disk fails.", "look at it.")

        rig._publish = failing  # type: ignore[method-assign]
        tools = rig.service._tools
        object.__setattr__(tools, "publish", failing)
        await rig.service.add(definition("video", video(tmp_path / "v.mp4"), drop="wait", rules=[{"name": "any"}]))
        status = await rig.ended()
        assert "The disk fails" in status.problem
        assert status.inferred == 20


async def test_a_snapshot_and_a_preview_show_the_newest_frame(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with pytest.raises(NotFoundError):
            await rig.service.preview("cam", 40, 12, "console")
        source = definition("video", video(tmp_path / "v.mp4"), drop="wait", zones=[RIGHT])
        await rig.service.add(source.model_copy(update={"enabled": False}))
        with pytest.raises(SourceError):
            await rig.service.preview("cam", 40, 12, "console")
        with pytest.raises(SourceError):
            await rig.service.snapshot("cam")
        await rig.service.switch("cam", enabled=True)
        await rig.ended()
        kept = await rig.service.snapshot("cam")
        assert (kept["width"], kept["height"]) == (160, 120)
        body = await rig.memory.memory.get(kept["key"].removeprefix("sources:"), "sources")
        assert Image.open(io.BytesIO(body)).size == (160, 120)
        for mode in ("half-blocks", "console", "kitty", "sixel"):
            drawn = await rig.service.preview("cam", 40, 12, mode)
            assert drawn["text"]
            assert drawn["found"] == ["square #1 0.90"]
            assert drawn["age_s"] is not None
        cells = (await rig.service.preview("cam", 40, 12, "half-blocks"))["rows"]
        assert "square #1" in "".join(cell[0] for row in cells for cell in row)
        colours = np.array([cell[1] for row in cells for cell in row if isinstance(cell[1], tuple)])
        assert (colours[:, 0] > 200).any(), "the square, and the zone, are seen"


async def test_a_clock_that_jumps_neither_makes_nor_hides_an_event(tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(tmp_path, clock=clock) as rig:
        with mjpeg() as camera:
            await rig.service.add(definition("stream", camera.url, rules=[{"name": "any", "cooldown": 3600, "seconds": 0.2}]))
            await rig.until(lambda status: status.events_total == 1)
            for step in (10 * 86400.0, -20 * 86400.0):
                clock.wall_now += step
                before = rig.status().inferred
                status = await rig.until(lambda status, before=before: status.inferred > before + 5)
                assert (status.events_total, status.state) == (1, SourceState.running)
                assert status.frame_age_s is not None
                assert 0 <= status.frame_age_s < 60


async def test_outside_its_schedule_a_source_rests_and_lets_its_camera_go(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    clock = ManualClock(1_800_000_000.0)  # Friday, 2027-01-15 08:00 UTC
    async with running(tmp_path, clock=clock, where=ZoneInfo("Europe/Berlin")) as rig:
        with mjpeg() as camera:
            await rig.service.add(definition("stream", camera.url, schedule="mon-fri 10:00-12:00"))
            status = await rig.until(lambda status: status.state is SourceState.paused)
            assert "it begins again on Fri at 10:00" in status.reason
            assert camera.requests == 0
            clock.wall_now += 3600
            await rig.until(lambda status: status.inferred >= 3)
            clock.wall_now += 2 * 3600
            status = await rig.until(lambda status: status.state is SourceState.paused)
            assert "Mon at 10:00" in status.reason
            assert status.tracks == ()


def box(left: float, label: str = "square", score: float = 0.9) -> Box:
    """30 pixels wide and high."""
    return Box(label, score, left, 40.0, left + 30, 70.0)


def test_two_objects_keep_their_numbers_while_they_pass() -> None:
    tracker, first = Tracker(0.4, 1.0, 10.0), {}
    for step in range(12):
        now = step / 10
        boxes = [
            Box("square", 0.9, 10 + 4 * step, 10, 40 + 4 * step, 40),
            Box("square", 0.9, 100 - 4 * step, 80, 130 - 4 * step, 110),
        ]
        seen = tracker.update(boxes[:: -1 if step % 2 else 1], now)
        rows = {each.track_id: round(each.box.y_min) for each in seen}
        first = first or rows
        assert rows == first
        assert len(rows) == 2


def test_an_object_that_was_hidden_for_a_moment_is_the_same_one() -> None:
    tracker = Tracker(0.4, 1.0, 10.0)
    numbers = [
        {each.track_id for each in tracker.update([] if 3 <= step <= 5 else [box(10 + 2 * step)], step / 10)}
        for step in range(10)
    ]
    assert numbers[0] == numbers[9] == {1}
    assert numbers[4] == set()


def test_labels_do_not_mix_and_unsound_boxes_are_left_out() -> None:
    tracker = Tracker(0.4, 1.0, 10.0)
    odd = [Box("square", float("nan"), 0, 0, 1, 1), Box("square", 0.9, 5, 5, 5, 9), Box("square", 0.9, float("inf"), 0, 1, 1)]
    for step in range(3):
        seen = tracker.update([box(10, "cat"), box(10, "dog"), *odd], step / 10)
        assert sorted(each.box.label for each in seen) == ["cat", "dog"]
        assert len({each.track_id for each in seen}) == 2


def test_what_was_not_seen_for_long_is_forgotten() -> None:
    tracker = Tracker(0.4, 1.0, 10.0)
    for step in range(200):
        tracker.update([box(10, f"label {step}")], step * 10.0)
    assert len(tracker._trackers) < 20
    assert len(tracker._lives) < 20


def test_a_stay_survives_a_flicker_and_not_an_absence() -> None:
    rules = Rules([Zone.model_validate(RIGHT)], [Rule(name="in", zone="right", seconds=2.0, cooldown=0.0)])

    def at(now: float, left: float) -> int:
        from appliance.core.inference.sources.tracking import Seen

        seen = (Seen(1, box(left), 0.0),)
        return len(rules.update(seen, rules.zones_of(seen, 160, 120), now))

    assert [at(0.0, 100), at(0.5, 20), at(1.0, 100), at(1.8, 100), at(2.1, 100), at(2.5, 100)] == [0, 0, 0, 0, 1, 0]
    assert [at(5.0, 20), at(6.0, 100), at(7.0, 100), at(7.9, 100), at(8.1, 100)] == [0, 0, 0, 0, 1]


async def test_a_removed_source_is_gone_for_good(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with mjpeg() as camera:
            await rig.service.add(definition("stream", camera.url))
            await rig.until(lambda status: status.inferred > 0)
            await rig.service.remove("cam")
            assert rig.service.statuses() == ()
            with pytest.raises(NotFoundError):
                await rig.service.snapshot("cam")
    async with running(tmp_path) as rig:
        assert rig.service.statuses() == ()
        await wait_for(lambda: rig.inferer.calls == [])
