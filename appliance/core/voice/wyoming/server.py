"""The appliance as a Wyoming server: its own engines for others, and its microphone and speaker for one of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import msgspec
from wyoming.error import Error

from appliance.core.voice.engine import Engines
from appliance.core.voice.model import Hit
from appliance.core.voice.wyoming.satellite import Satellite
from appliance.core.voice.wyoming.session import Session
from appliance.core.voice.wyoming.wire import LINE
from appliance.errors import VoiceError
from appliance.settingvoice import WyomingSettings

log = logging.getLogger(__name__)

HEARS, SPEAKS = 1, 2
"""Utterances and texts that are worked on at one time, over all clients: our own microphone waits for one at most."""
ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""Seconds (the last: milliseconds) after which a client whose machine has gone is let go of."""
CLOSING = 2.0
"""Seconds that clients have to go."""


class Ears(msgspec.Struct, frozen=True):
    """Hears wake words in one stream of a client.

    Attributes:
        feed: Takes sound (mono, 16 bit, core.voice.model.RATE) and tells what it heard; blocks for milliseconds.
        phrases: Those that it can hear.
    """

    feed: Callable[[bytes], tuple[Hit, ...]]
    phrases: tuple[str, ...]


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What the server stands on."""

    engines: Engines
    """For requests of clients: in the operator's order, with his privacy and the ledger, as for our own microphone."""
    ears: Callable[[], Ears] | None = None
    """New ears for a stream, made in a thread; None where no wake word model is there."""
    wake_words: tuple[str, ...] = ()
    """What models hear, for the description."""
    version: str = ""
    language: str = "en"
    voice: str = ""
    """Name of the voice of the engine that speaks first."""
    model: str = ""
    """Name of the model of the engine that recognises first."""
    idle_seconds: float = 60.0
    """A client that says nothing for so long is let go of; the one that has the satellite is not."""
    utterance_seconds: float = 30.0
    """Longest utterance of a client; of a longer one nothing is recognised."""


class WyomingServer:
    """Listens, and serves each client by itself.

    Args:
        settings: Address and bounds.
        ground: What it stands on.
    """

    def __init__(self, settings: WyomingSettings, ground: Ground) -> None:
        self._settings = settings
        self.ground = ground
        self.satellite = Satellite() if settings.satellite else None
        """The microphone and the speaker for whoever connects; None where the operator does not want that."""
        self.turned_away = 0
        """Clients that came while there were too many."""
        self.hears, self.speaks = asyncio.Semaphore(HEARS), asyncio.Semaphore(SPEAKS)
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], Session] = {}

    @property
    def address(self) -> str:
        """Where it listens, such as tcp://127.0.0.1:10700; empty where it does not."""
        if self._server is None or not self._server.sockets:
            return ""
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen. Raises VoiceError where the port cannot be had."""
        host, port = self._settings.host, self._settings.port
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=LINE)
        except OSError as error:
            told = f"{host} port {port} cannot be listened on: {error.strerror or error}."
            raise VoiceError(told, "choose another wyoming.host or port.") from error

    async def stop(self) -> None:
        """Listen no more, and let go of all clients."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(list(self._sessions), timeout=CLOSING)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        if len(self._sessions) >= self._settings.connections:
            self.turned_away += 1
            with contextlib.suppress(VoiceError):  # it is gone already
                await session.write(Error("too many clients; try again later", "busy").event())
            session.close()
            return
        task = asyncio.current_task()
        if task is None:  # not so inside asyncio
            return
        self._sessions[task] = session
        try:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in ALIVE.items():
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            await session.run()
        except asyncio.CancelledError:  # `stop`; asyncio's own callback would log it as an error
            log.debug("a Wyoming client was let go of")
        finally:
            session.close()
            self._sessions.pop(task, None)
