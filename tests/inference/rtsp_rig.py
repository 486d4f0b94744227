"""A camera that speaks RTSP and sends its pictures over the same TCP connection (RFC 2326, 10.12; MPEG-4 video, RFC 6416)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av

from tests.inference.source_rig import HEIGHT, WIDTH, picture

RATE = 15
PART = 1200
"""Bytes of one packet's payload at most."""
DESCRIPTION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
    "a=rtpmap:96 MP4V-ES/90000\r\na=fmtp:96 profile-level-id=1\r\na=control:video\r\n"
)


class RtspCamera:
    """Serves whoever comes, one thread for each.

    Attributes:
        hang: It holds its connections and sends nothing more.
        tcp: It takes the transport over TCP; else it wants UDP, which it does not have.
        transports: What clients asked for.
    """

    def __init__(self) -> None:
        self.hang = threading.Event()
        self.tcp = True
        self.transports: list[str] = []
        self._ended = threading.Event()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._sock.getsockname()[1]}/stream"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._sock.accept()
                self._open.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            while head := self._request(lines):
                method, asked = head
                connection.sendall(self._answer(method, asked))
                if method == "PLAY":
                    self._play(connection)
                    return

    @staticmethod
    def _request(lines: Any) -> tuple[str, dict[str, str]] | None:
        first = lines.readline().decode()
        asked = {}
        while (line := lines.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            asked[name.lower()] = value.strip()
        return (first.split(" ")[0], asked) if first else None

    def _answer(self, method: str, asked: dict[str, str]) -> bytes:
        body, more = "", ""
        status = "200 OK"
        if method == "DESCRIBE":
            body, more = DESCRIPTION, f"Content-Type: application/sdp\r\nContent-Base: {self.url}/\r\n"
        if method == "SETUP":
            self.transports.append(asked["transport"])
            if self.tcp and "TCP" in asked["transport"]:
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            else:
                status = "461 Unsupported Transport"
        head = f"RTSP/1.0 {status}\r\nCSeq: {asked.get('cseq', '0')}\r\nSession: 1\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    def _play(self, connection: socket.socket) -> None:
        encoder: Any = av.CodecContext.create("mpeg4", "w")
        encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, RATE), Fraction(RATE, 1), 5
        index = number = 0
        while not self._ended.wait(1 / RATE):
            if self.hang.is_set():
                continue
            frame = av.VideoFrame.from_ndarray(picture(4 + index % 100), format="rgb24")
            frame.pts, index = index, index + 1
            for packet in encoder.encode(frame):
                data = bytes(packet)
                parts = [data[at : at + PART] for at in range(0, len(data), PART)]
                for part in parts:
                    last = part is parts[-1]
                    head = struct.pack(">BBHII", 0x80, 96 | last << 7, number & 0xFFFF, index * 90000 // RATE, 7)
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(head) + len(part)) + head + part)
                    number += 1

    def close(self) -> None:
        """Its plug is pulled."""
        self._ended.set()
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def rtsp_over_tcp() -> Iterator[RtspCamera]:
    """A camera, unplugged at the end."""
    camera = RtspCamera()
    try:
        yield camera
    finally:
        camera.close()
