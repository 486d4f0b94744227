"""Sources at work on real videos, pictures and servers of this machine, with what the appliance gives them."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from appliance.core.clock import SystemClock
from appliance.core.events import Noted, new_id
from appliance.core.inference.model import Priority
from appliance.core.inference.sources.book import SourceBook
from appliance.core.inference.sources.definition import Definition, build
from appliance.core.inference.sources.model import SourceState, SourceStatus
from appliance.core.inference.sources.opening import Opener
from appliance.core.inference.sources.pictures import Limits
from appliance.core.inference.sources.reader import Patience
from appliance.core.inference.sources.runner import Tools
from appliance.core.inference.sources.service import SourceService, publisher
from appliance.core.inference.sources.shelf import Shelf
from appliance.core.model import Box, InferenceResult
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.errors import ApplianceError
from tests.memory.rig import Rig as MemoryRig
from tests.support import ManualClock, wait_for

WIDTH, HEIGHT, SIDE = 160, 120, 30
SAMPLES = Path(__file__).resolve().parents[2] / ".models" / "samples"
Pixels = npt.NDArray[np.uint8]


def picture(left: int | None, top: int = 40, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """A grey frame with a red square in it; none where `left` is None."""
    rgb = np.full((height, width, 3), 90, np.uint8)
    if left is not None:
        rgb[top : top + SIDE, left : left + SIDE] = (230, 20, 20)
    return rgb


def red_square(rgb: Pixels) -> tuple[Box, ...]:
    """Where the red pixels are: a detector simple enough to be trusted, that really looks."""
    red = (rgb[..., 0] > 150) & (rgb[..., 1] < 90) & (rgb[..., 2] < 90)
    if red.sum() < 50:
        return ()
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    edges = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return (Box("square", 0.9, *edges),)


class RedInferer:
    """Finds the red square (implements model.Inferer), and does what the test wants besides."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Priority, float | None, bool]] = []
        self.fault: ApplianceError | None = None
        self.pause = 0.0
        self.at_once = self.most_at_once = 0
        self.seen: list[int] = []
        """Left edges of the squares, -1 for none."""

    async def infer_sample(
        self, sample: Any, *, source: str, model: str = "", priority: Priority = Priority.normal,
        deadline: float | None = None, keep: bool = True,
    ) -> InferenceResult:  # fmt: skip
        """As model.Inferer."""
        self.calls.append((source, priority, deadline, keep))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.pause:
                await asyncio.sleep(self.pause)
            if self.fault is not None:
                raise self.fault
        finally:
            self.at_once -= 1
        height, width = sample.rgb.shape[:2]
        boxes = red_square(sample.rgb)
        self.seen.append(round(boxes[0].x_min) if boxes else -1)
        return InferenceResult(
            new_id(), time.time(), source, "red", "1", "detection", "cpu", width, height, boxes, 0.1, 0.1
        )  # fmt: skip


class Rig:
    """The sources' service on a store, a memory and a bus of the test's own."""

    def __init__(self, home: Path, **given: Any) -> None:
        self.clock: Clock = given.get("clock") or SystemClock()
        self.inferer = given.get("inferer") or RedInferer()
        self.store = Store(home / "state.sqlite")
        self.memory = MemoryRig(home / "memory", clock=_memory_clock())
        self.secrets = Secrets(home / "secrets", {})
        self.state = LiveState(self.clock)
        self.notes: list[Noted] = []
        self.keeper: Any = given.get("keeper") or self.memory.memory
        self.shelf = Shelf(self.keeper, self.store, self.clock, 14.0, given.get("keep", 64 * 1024 * 1024))
        self.book = SourceBook(self.store, self.secrets, self.clock, given.get("most", 16))
        opener = given.get("opener") or Opener(self.book.password, Limits(8 * 1024 * 1024, 20_000_000))
        tools = Tools(
            self.inferer, opener, self.shelf, publisher(self._publish), self.clock, Patience(0.05, 0.4), given.get("where")
        )
        self.service = SourceService(self.book, tools, self.state)

    async def _publish(self, event: Noted) -> None:
        self.notes.append(event)

    def status(self, name: str = "cam") -> SourceStatus:
        """Of a source, now."""
        return next(each for each in self.service.statuses() if each.name == name)

    async def until(self, condition: Callable[[SourceStatus], Any], name: str = "cam", seconds: float = 20.0) -> SourceStatus:
        """Wait until a source is so; returns how it was."""
        found: SourceStatus = await wait_for(
            lambda: status if condition(status := self.status(name)) else None, seconds, f"{name}: {self.status(name)}"
        )
        return found

    async def ended(self, name: str = "cam") -> SourceStatus:
        """Wait until a file is at its end."""
        return await self.until(lambda status: status.state is SourceState.ended, name)


def _memory_clock() -> ManualClock:
    return ManualClock(time.time())


@asynccontextmanager
async def running(home: Path, **given: Any) -> AsyncIterator[Rig]:
    """A rig that runs, and is stopped."""
    rig = Rig(home, **given)
    rig.store.open()
    await rig.memory.start()
    await rig.service.start()
    shown = asyncio.create_task(rig.service.run())
    try:
        yield rig
    finally:
        shown.cancel()
        await asyncio.wait({shown})
        await rig.service.stop()
        await rig.memory.stop()
        rig.store.close()


def definition(kind: str, address: Path | str, **given: Any) -> Definition:
    """A source called cam, that looks at every frame."""
    return build({"name": "cam", "kind": kind, "address": str(address), "rate": 60.0, **given})


def encode_video(
    frames: list[Pixels], target: Any, rate: int = 10, form: str = "mp4", codec: str = "mpeg4", **options: str
) -> None:  # fmt: skip
    """Pictures as a video."""
    with av.open(target, "w", format=form, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        for index, rgb in enumerate(frames):
            if not index:
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def video(path: Path, count: int = 20, rate: int = 10, **given: Any) -> Path:
    """A red square that moves to the right by 3 pixels a frame, in a file."""
    encode_video([picture(4 + 3 * index) for index in range(count)], str(path), rate, **given)
    return path


def jpeg(rgb: Pixels) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=95)
    return stream.getvalue()


class MjpegServer:
    """A camera that sends JPEG pictures over HTTP, as many network cameras do; the test may have it hang, or die.

    Attributes:
        requests: That came.
        hang: It holds its connections and sends nothing more.
        password: That it wants (Basic, user "admin"); none where empty.
    """

    def __init__(self, port: int = 0, rate: float = 20.0) -> None:
        self.requests = 0
        self.hang = False
        self.password = ""
        self.rate = rate
        self.paths: list[str] = []
        self._ended = threading.Event()
        handler = type("Handler", (_Handler,), {"camera": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/video"

    def pictures(self) -> Iterator[bytes]:
        """As long as it lives."""
        index = 0
        while not self._ended.wait(1 / self.rate):
            if not self.hang:
                yield jpeg(picture(4 + index % 100))
                index += 1

    def close(self) -> None:
        """Its plug is pulled."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is no fault of the server."""


class _Handler(BaseHTTPRequestHandler):
    camera: MjpegServer

    def do_GET(self) -> None:
        """Pictures without end."""
        import base64

        camera = self.camera
        camera.requests += 1
        camera.paths.append(self.path)
        wanted = base64.b64encode(f"admin:{camera.password}".encode()).decode()
        if camera.password and self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if not self.path.startswith("/video"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for body in camera.pictures():
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body + b"\r\n")
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def mjpeg(**given: Any) -> Iterator[MjpegServer]:
    """A camera, unplugged at the end."""
    server = MjpegServer(**given)
    try:
        yield server
    finally:
        server.close()
