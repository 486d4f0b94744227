"""The parts of the sources by themselves: schedules, zones, addresses, paces, cameras' detection, the Pi camera's driver."""

from __future__ import annotations

import asyncio
import struct
import sys
import threading
import types
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.inference.sources import address, schedule, zones
from appliance.core.inference.sources.clips import RING, Clips, encode
from appliance.core.inference.sources.frames import Frame, Mailbox
from appliance.core.inference.sources.model import Kind, SourceEvent
from appliance.core.inference.sources.reader import Pace
from appliance.core.model import Box, Health
from appliance.errors import AbsentError, SourceError
from appliance.hw import camera
from appliance.hw.camera import CAPABILITY, V4l2Cameras
from appliance.hw.camera_pi import PiCamera, PiCameras
from tests.inference.source_rig import picture

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, where: ZoneInfo = BERLIN) -> datetime:
    """A local time."""
    return datetime.fromisoformat(text).replace(tzinfo=where)


@pytest.mark.parametrize(
    ("text", "moment", "holds"),
    [
        ("", "2026-11-21T03:00", True),
        ("08:00-18:00", "2026-11-21T08:00", True),
        ("08:00-18:00", "2026-11-21T18:00", False),
        ("mon-fri 08:00-18:00", "2026-11-21T12:00", False),  # a Saturday
        ("fri-mon 08:00-18:00", "2026-11-21T12:00", True),
        ("sat 22:00-06:00", "2026-11-22T05:59", True),
        ("sat 22:00-06:00", "2026-11-22T06:00", False),
        ("sat 22:00-06:00", "2026-11-21T05:00", False),
        ("sun 22:00-06:00", "2026-11-23T05:00", True),
        ("sat,sun", "2026-11-22T00:00", True),
        ("sat,sun", "2026-11-23T00:00", False),
        ("mon 00:00-24:00", "2026-11-23T23:59", True),
        ("mon 06:00-06:00", "2026-11-24T05:59", True),
        ("MON 06:00-07:00; tue 05:00-06:00", "2026-11-24T05:30", True),
        ("02:00-03:00", "2026-10-25T02:30", True),
    ],
)
def test_when_a_schedule_holds(text: str, moment: str, holds: bool) -> None:
    assert schedule.holds(schedule.parse(text), at(moment)) is holds


@pytest.mark.parametrize("text", ["noon", "mon 8-18", "24:30-25:00", "xyz 08:00-09:00", "mon- 08:00-09:00", "mon 08:61-09:00"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(schedule.ScheduleError):
        schedule.parse(text)


def test_the_next_begin_is_a_time_at_which_it_holds() -> None:
    spans = schedule.parse("mon 08:00-09:00; sat 23:00-01:00")
    assert schedule.next_begin(spans, at("2026-11-21T12:00")) == at("2026-11-21T23:00")
    assert schedule.next_begin(spans, at("2026-11-21T23:00")) == at("2026-11-23T08:00")
    assert schedule.next_begin((), at("2026-11-21T23:00")) is None


def test_a_schedule_goes_by_the_clock_on_the_wall_there() -> None:
    wall = datetime(2026, 7, 1, 6, 30, tzinfo=UTC).timestamp()
    assert schedule.local(wall, BERLIN).hour == 8
    wall = datetime(2026, 12, 1, 7, 30, tzinfo=UTC).timestamp()
    assert schedule.local(wall, BERLIN).hour == 8
    assert schedule.local(wall, None).utcoffset() is not None


def test_what_lies_in_a_zone() -> None:
    angle = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.9), (0.5, 0.5), (0.1, 0.5)]
    assert zones.contains(angle, 0.2, 0.2)
    assert zones.contains(angle, 0.7, 0.8)
    assert not zones.contains(angle, 0.2, 0.8)
    assert not zones.crossing(angle)
    assert zones.area(angle) == pytest.approx(0.48)
    assert zones.crossing([(0, 0), (1, 1), (1, 0), (0, 1)])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(3, 12))
def test_a_regular_zone_is_where_its_circle_is(x: float, y: float, corners: int) -> None:
    turns = [2 * np.pi * index / corners for index in range(corners)]
    points = [(float(0.5 + 0.4 * np.cos(turn)), float(0.5 + 0.4 * np.sin(turn))) for turn in turns]
    distance = np.hypot(x - 0.5, y - 0.5)
    if distance > 0.401:
        assert not zones.contains(points, x, y)
    if distance < 0.4 * np.cos(np.pi / corners) - 0.001:
        assert zones.contains(points, x, y)


def test_the_place_of_a_box() -> None:
    box = Box("person", 0.9, 20, 10, 60, 90)
    assert zones.anchor(box, 100, 100, "foot") == (0.4, 0.9)
    assert zones.anchor(box, 100, 100, "centre") == (0.4, 0.5)
    assert zones.anchor(Box("person", 0.9, -60, 10, 20, 190), 100, 100, "foot") == (0.0, 1.0)


def test_what_an_address_names(tmp_path: Path) -> None:
    named = {
        "rtsp://cam/1": Kind.stream, "http://cam/v": Kind.stream, "/dev/video0": Kind.v4l2, "picamera": Kind.picamera,
        "picamera:1": Kind.picamera, "/a/b.JPG": Kind.picture, "/a/b.mp4": Kind.video, str(tmp_path): Kind.folder,
        "/dev/v4l/by-id/usb-cam": Kind.v4l2,
    }  # fmt: skip
    assert {text: address.kind_of(text) for text in named} == named


def test_the_password_gets_into_the_url_whatever_it_is() -> None:
    assert address.filled("rtsp://admin@cam:554/1?x=2", "p@:/ä") == "rtsp://admin:p%40%3A%2F%C3%A4@cam:554/1?x=2"
    assert address.filled("rtsp://cam/1", "geheim") == "rtsp://:geheim@cam/1"
    assert address.filled("rtsp://admin@cam/1", "") == "rtsp://admin@cam/1"
    assert address.filled("http://cam/?p={password}", "a b") == "http://cam/?p=a%20b"


@given(st.floats(0.1, 60), st.floats(1, 60))
def test_a_pace_never_wants_more_than_its_rate(rate: float, fps: float) -> None:
    pace, seconds = Pace(rate), 10.0
    wanted = sum(pace.wants(index / fps) for index in range(int(seconds * fps)))
    assert wanted <= rate * seconds + 1.001
    assert wanted >= min(rate, fps) * seconds * 0.45 - 1


def test_a_pace_goes_on_where_the_moments_begin_again() -> None:
    pace = Pace(1.0)
    assert [pace.wants(moment) for moment in (0.0, 0.5, 1.0, 100.0, 0.0, 0.5, 1.0)] == [
        True,
        False,
        True,
        True,
        True,
        False,
        True,
    ]


async def test_the_newest_frame_takes_the_older_ones_place() -> None:
    box = Mailbox(asyncio.get_running_loop(), waits=False)
    frames = [Frame(picture(index), "cam", float(index), 0.0) for index in range(3)]
    for frame in frames:
        box.put(frame)
    assert await box.take(1.0) is frames[2]
    assert box.dropped == 2
    assert await box.take(0.01) is None
    box.put(frames[0])
    box.close()
    box.put(frames[1])
    assert not box.over
    assert await box.take(1.0) is frames[0]
    assert box.over
    assert await box.take(1.0) is None


async def test_whoever_waits_to_leave_a_frame_is_woken_by_the_end() -> None:
    box = Mailbox(asyncio.get_running_loop(), waits=True)
    box.put(Frame(picture(1), "cam", 0.0, 0.0))
    thread = threading.Thread(target=box.put, args=(Frame(picture(2), "cam", 0.0, 0.0),), daemon=True)
    thread.start()
    box.close()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert box.dropped == 0


def event() -> SourceEvent:
    """Any."""
    return SourceEvent("e", 0.0, "cam", "any", "info", "", "square", 1, 0.9, 0.0, Box("square", 0.9, 0, 0, 1, 1))


def test_what_is_held_for_clips_is_bounded_in_time_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = Clips(2.0)
    for step in range(100):
        clips.add(Frame(picture(step), "cam", step / 10, 0.0))
    assert len(clips._ring) == 21
    monkeypatch.setattr("appliance.core.inference.sources.clips.RING", 5000)
    noise = np.random.default_rng(1)
    clips.begin(event(), 10.0, 60.0)
    for step in range(100, 200):
        rgb = noise.integers(0, 255, (120, 160, 3), np.uint8)
        clips.add(Frame(rgb, "cam", step / 10, 0.0))
        assert clips._size <= 5000
    (recording,) = clips.all()
    assert recording.size <= RING
    clips.begin(event(), 20.0, 1.0)
    clips.begin(event(), 20.0, 1.0)
    with pytest.raises(SourceError, match="being recorded or kept already"):
        clips.begin(event(), 20.0, 1.0)


def test_a_clip_of_nothing_is_none() -> None:
    with pytest.raises(SourceError, match="no frame"):
        encode([])


def machine(root: Path, **names: str) -> V4l2Cameras:
    """Nodes below /dev, with their names in /sys."""
    for node, name in names.items():
        (root / "dev").mkdir(exist_ok=True)
        (root / "dev" / node).touch()
        (root / "sys/class/video4linux" / node).mkdir(parents=True)
        (root / "sys/class/video4linux" / node / "name").write_text(name + "\n")
    return V4l2Cameras(root)


def test_no_camera_is_absent_and_says_what_to_do(tmp_path: Path) -> None:
    device = V4l2Cameras(tmp_path)()
    assert (device.kind, device.health) == ("camera", Health.absent)
    assert device.next_step


def test_a_camera_that_is_unplugged_while_it_is_looked_for_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "video0").touch()

    def gone(_: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "lstat", gone)
    assert V4l2Cameras(tmp_path).each() == ()


def test_a_node_that_is_no_camera_says_so(tmp_path: Path) -> None:
    device = machine(tmp_path, video0="Broken")()
    assert device.health is Health.unhealthy
    assert "Broken" in device.reason


def test_cameras_are_told_from_codecs_and_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "video0": (b"uvcvideo", b"HD Webcam", 0x84A00001, 0x04200001),
        "video1": (b"uvcvideo", b"HD Webcam", 0x84A00001, 0x04A00000),
        "video10": (b"bcm2835-codec", b"bcm2835-codec-decode", 0x84204000, 0x04204000),
        "video19": (b"rpi-hevc-dec", b"rpi-hevc-dec", 0x84201000, 0x04201000),
    }  # fmt: skip
    found = machine(tmp_path, **dict.fromkeys(answers, "x"))
    asked: dict[int, str] = {}
    opened: list[str] = []
    real = camera.os.open

    def open_node(path: Path, flags: int) -> int:
        descriptor = real(path, flags)
        assert descriptor not in asked or asked.pop(descriptor)
        asked[descriptor] = Path(path).name
        opened.append(Path(path).name)
        return descriptor

    def ioctl(descriptor: int, request: int, _: bytes) -> bytes:
        assert (request, struct.calcsize(CAPABILITY.format)) == (0x80685600, 104)
        driver, card, whole, own = answers[asked[descriptor]]
        return CAPABILITY.pack(driver, card, b"usb", 0x60100, whole, own)

    monkeypatch.setattr(camera.os, "open", open_node)
    monkeypatch.setattr(camera.fcntl, "ioctl", ioctl)
    assert [(device.name, device.reason) for device in found.each()] == [("/dev/video0", "HD Webcam")]
    assert found().health is Health.healthy
    assert sorted(opened) == sorted(answers), "each was asked once"
    (tmp_path / "dev/video0").unlink()
    assert found.each() == ()


def test_the_pis_camera_without_its_library_is_absent(tmp_path: Path) -> None:
    assert PiCameras(tmp_path)().health is Health.absent
    (tmp_path / "sys/class/video4linux/v4l-subdev0").mkdir(parents=True)
    (tmp_path / "sys/class/video4linux/v4l-subdev0/name").write_text("imx708 10-001a\n")
    device = PiCameras(tmp_path)()
    assert device.health is Health.absent
    assert "imx708" in device.reason
    assert "python3-picamera2" in device.next_step
    with pytest.raises(AbsentError, match="picamera2 is not installed"):
        PiCamera(0, "", 5.0)


class Picamera2:
    """As picamera2's manual has it: what the driver uses of it, with a job that ends or does not."""

    made: Picamera2

    def __init__(self, which: int) -> None:
        Picamera2.made = self
        self.which, self.calls, self.ends = which, [], True

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        """One camera."""
        return [{"Model": "imx708", "Num": 0}]

    def create_video_configuration(self, **given: Any) -> dict[str, Any]:
        """What was asked for."""
        return given

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take it."""
        self.calls.append(configuration)

    def start(self) -> None:
        """Begin."""
        self.calls.append("start")

    def capture_array(self, name: str, wait: bool) -> Any:
        """A job of the camera's own thread."""
        assert (name, wait) == ("main", False)
        future: Future[Any] = Future()
        if self.ends:
            future.set_result(np.zeros((720, 1280, 3), np.uint8))
        return types.SimpleNamespace(get_result=future.result)

    def stop(self) -> None:
        """End."""
        self.calls.append("stop")

    def close(self) -> None:
        """Let go."""
        self.calls.append("close")


def test_the_pis_camera_by_its_librarys_documented_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    open_camera = PiCamera(0, "640x480", 5.0)
    made = Picamera2.made
    assert made.calls[0] == {"main": {"size": (640, 480), "format": "BGR888"}, "controls": {"FrameRate": 5.0}}
    assert open_camera.read(1.0).shape == (720, 1280, 3)
    made.ends = False
    with pytest.raises(SourceError, match="no frame in time"):
        open_camera.read(0.05)
    open_camera.close()
    assert made.calls[1:] == ["start", "stop", "close"]
    with pytest.raises(AbsentError, match="no camera 3"):
        PiCamera(3, "", 5.0)
