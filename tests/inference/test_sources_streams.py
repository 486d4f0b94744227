"""Streams: cameras over HTTP and RTSP that come, hang, die, come back, and want a password."""

from __future__ import annotations

import asyncio
import logging
import platform
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from appliance.core.inference.sources.frames import Feed
from appliance.core.inference.sources.model import SourceState
from appliance.errors import InvalidArgumentsError, QueueFullError, SourceError
from tests.inference.source_rig import MjpegServer, definition, mjpeg, picture, running
from tests.support import capability, free_port, wait_for


async def test_a_camera_is_read_as_fast_as_it_sends(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", camera.url))
            status = await rig.until(lambda status: status.inferred >= 10 and status.fps_in is not None)
            assert status.state is SourceState.running
            assert status.fps_in is not None
            assert status.frame_age_s is not None
            assert status.tracks
            assert (await rig.service.health()).health == "healthy"
            rates = await rig.until(lambda status: status.fps_in and status.fps_inferred and status.latency_ms is not None)
            assert rates.fps_inferred is not None


async def test_the_rate_spares_the_model(tmp_path: Path) -> None:
    with mjpeg(rate=30.0) as camera:
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", camera.url, rate=2.0))
            status = await rig.until(lambda status: status.frames >= 40)
            assert status.skipped > 25
            assert status.inferred <= status.frames - status.skipped


async def test_a_camera_that_is_unplugged_and_comes_back(tmp_path: Path) -> None:
    camera = MjpegServer()
    async with running(tmp_path) as rig:
        await rig.service.add(definition("stream", camera.url, timeout=2.0))
        before = (await rig.until(lambda status: status.inferred >= 3)).inferred
        camera.close()
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert status.reason
        assert status.next_step
        assert status.next_try > 0
        health = await rig.service.health()
        assert (health.health, health.next_step != "") == ("degraded", True)
        with mjpeg(port=camera.port):
            status = await rig.until(lambda status: status.inferred > before + 3)
            assert status.state is SourceState.running
            assert status.reconnects >= 1
            assert (await rig.service.health()).health == "healthy"


async def test_a_camera_that_hangs_is_noticed_by_its_silence(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", camera.url, timeout=0.5))
            await rig.until(lambda status: status.inferred >= 3)
            camera.hang = True
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert "in time" in status.reason
            camera.hang = False
            before = status.inferred
            assert (await rig.until(lambda status: status.inferred > before + 2)).state is SourceState.running


async def test_stopping_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    """It took the connection and never says a word; the timeout is far away."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/video"
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", url, timeout=60.0))
            reader = await wait_for(lambda: rig.service._runners["cam"]._reader)
            await wait_for(lambda: reader.progress.beat)
            async with asyncio.timeout(10):
                await rig.service.switch("cam", enabled=False)
            assert rig.status().state is SourceState.stopped
            assert reader.alive, "its thread ends by its timeout"


class HangingFeed:
    """A driver whose call does not return (implements frames.Feed)."""

    damaged = 0

    def __init__(self, free: threading.Event) -> None:
        self._free = free

    def read(self) -> None:
        """Until the test lets it go."""
        self._free.wait()
        raise SourceError("let go.")

    def close(self) -> None:
        """Nothing is held."""


async def test_a_driver_that_hangs_is_left_alone_and_only_so_many_threads_hang_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.core.inference.sources.runner.GIVEN_UP", 0.0)
    monkeypatch.setattr("appliance.core.inference.sources.runner.TURN", 0.05)
    free, opened = threading.Event(), []

    def open_feed(*_: Any) -> Feed:
        opened.append(1)
        return HangingFeed(free)

    async with running(tmp_path, opener=open_feed) as rig:
        await rig.service.add(definition("v4l2", "/dev/video0", timeout=0.5))
        status = await rig.until(lambda status: status.state is SourceState.retrying)
        assert "does not answer" in status.reason
        await rig.until(lambda status: len(rig.service._tallies["cam"].stuck) == 2)
        assert rig.status().state is SourceState.retrying, "a second one that hangs is no better"
        assert len(opened) == 2
        free.set()
        await rig.until(lambda _: len(opened) > 2)


async def test_a_camera_wants_its_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with mjpeg() as camera:
        camera.password = "geheim/42:x"
        url = camera.url.replace("http://", "http://admin@")
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", url), "wrong")
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert "refuses user or password" in status.reason
            await rig.service.change(await rig.book.one("cam"), "geheim/42:x")
            status = await rig.until(lambda status: status.inferred >= 3)
            assert status.address == url
            assert (tmp_path / "secrets" / "source.cam.password").stat().st_mode & 0o777 == 0o600
            told = repr([rig.status(), await rig.book.all(), await rig.service.health(), rig.notes]) + caplog.text
            assert "geheim" not in told
            assert "wrong" not in told
            camera.close()
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert "geheim" not in repr(status) + caplog.text
            await rig.service.remove("cam")
            assert not (tmp_path / "secrets" / "source.cam.password").exists()


async def test_a_password_has_its_place_in_the_url(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", camera.url + "?user=a&pwd={password}"))
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert "there is none" in status.reason
            await rig.service.change(await rig.book.one("cam"), "a&b c")
            await rig.until(lambda status: status.inferred >= 1)
            assert camera.paths[-1] == "/video?user=a&pwd=a%26b%20c"


@pytest.mark.parametrize(
    ("path", "told"), [("/nothing", "nothing at that path"), (None, "does not listen")], ids=["path", "port"]
)
async def test_a_wrong_url_says_what_is_wrong_with_it(tmp_path: Path, path: str | None, told: str) -> None:
    with mjpeg() as camera:
        url = f"http://127.0.0.1:{free_port()}/" if path is None else f"http://127.0.0.1:{camera.port}{path}"
        async with running(tmp_path) as rig:
            await rig.service.add(definition("stream", url))
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert told in status.reason
            assert status.next_step


@pytest.mark.parametrize(
    "url",
    [
        "http://admin:geheim@10.0.0.5/", "rtsp://:geheim@10.0.0.5/", "http://10.0.0.5/?password=geheim", "http://[geheim/",
        "http://10.0.0.5:99999/geheim", "ftp://geheim/", "rtsp://", "http://10.0.0.5:0/geheim", "http://10.0.0.5/\ngeheim",
    ],
)  # fmt: skip
def test_a_bad_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        definition("stream", url)
    assert "geheim" not in str(refused.value)
    assert refused.value.next_step


@contextmanager
def rtsp_camera() -> Iterator[str]:
    """An RTSP server that sends H.264 over UDP."""
    if platform.machine() != "x86_64":
        pytest.skip("the RTSP server of the tests (rtsp-rs) is built for x86-64 alone")
    try:
        import rtsp
    except ImportError:
        capability(False, "the RTSP server of the tests (rtsp-rs)")
        raise
    port, ended = free_port(), threading.Event()
    server = rtsp.Server(f"127.0.0.1:{port}")
    server.start()
    sender = threading.Thread(target=_send_h264, args=(server, ended), daemon=True)
    sender.start()
    try:
        yield f"rtsp://127.0.0.1:{port}/stream"
    finally:
        ended.set()
        sender.join(5)
        server.stop()


def _send_h264(server: Any, ended: threading.Event) -> None:
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 120, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 15), Fraction(15, 1)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "keyint=15:repeat-headers=1"}
    index = 0
    while not ended.wait(1 / 15):
        frame = av.VideoFrame.from_ndarray(picture(4 + index % 100), format="rgb24")
        frame.pts, index = index, index + 1
        for packet in encoder.encode(frame):
            server.send_frame(bytes(packet), 6000)


async def test_rtsp_gives_frames_and_its_end_is_noticed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with rtsp_camera() as url:
            await rig.service.add(definition("stream", url, transport="udp", timeout=4.0))
            status = await rig.until(lambda status: status.inferred >= 5, seconds=30)
            assert (status.width, status.height) == (160, 120)
        status = await rig.until(lambda status: status.state is SourceState.retrying, seconds=30)
        assert status.next_step


async def test_rtsp_that_does_not_take_tcp_says_to_try_udp(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        with rtsp_camera() as url:
            await rig.service.add(definition("stream", url, transport="tcp", timeout=4.0))
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert "--transport udp" in status.next_step


async def test_a_playlist_from_afar_opens_no_file_of_this_machine(tmp_path: Path) -> None:
    """HLS over HTTP whose parts are named file://: they are not read."""
    from tests.inference.source_rig import video

    part = video(tmp_path / "part.ts", form="mpegts", codec="libx264")
    body = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.0,\nfile://{part}\n#EXT-X-ENDLIST\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve_once, args=(server, body), daemon=True)
        thread.start()
        async with running(tmp_path) as rig:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/list.m3u8"
            await rig.service.add(definition("stream", url, timeout=2.0))
            status = await rig.until(lambda status: status.state is SourceState.retrying)
            assert status.frames == 0
            assert rig.inferer.calls == []


def _serve_once(server: socket.socket, body: bytes) -> None:
    head = f"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(head + body)


async def test_frames_that_are_refused_are_counted_and_the_next_one_is_tried(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            rig.inferer.fault = QueueFullError("Too many wait.")
            await rig.service.add(definition("stream", camera.url))
            assert (await rig.until(lambda status: status.refused >= 5)).inferred == 0
            rig.inferer.fault = None
            await rig.until(lambda status: status.inferred >= 5)


async def test_four_sources_ask_for_one_frame_each_at_a_time(tmp_path: Path) -> None:
    """However slow the device is, what waits does not grow."""
    with mjpeg(rate=40.0) as camera:
        async with running(tmp_path) as rig:
            rig.inferer.pause = 0.05
            for index in range(4):
                source = definition("stream", f"{camera.url}?{index}")
                await rig.service.add(source.model_copy(update={"name": f"cam{index}"}))
            for index in range(4):
                await rig.until(lambda status: status.inferred >= 10, f"cam{index}")
            assert rig.inferer.most_at_once <= 4
            assert sum(rig.status(f"cam{index}").dropped for index in range(4)) > 0
