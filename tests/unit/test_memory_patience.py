"""Sending to a server that reads slowly."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3

from appliance.core.memory.patience import pool_manager

PIECE = 65_536


class SlowServer:
    """Reads one request by 64 kB, with a pause (seconds) before each, and answers with how much it was.

    With `stops` it stops reading after so many bytes, and answers nothing.
    """

    def __init__(self, pause: float, stops: int | None = None) -> None:
        self.pause = pause
        self.stops = stops
        self.ended = threading.Event()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            head, _, body = self.read_head(connection).partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            count = len(body)
            while count < length and (self.stops is None or count < self.stops):
                time.sleep(self.pause)
                data = connection.recv(PIECE)
                if not data:
                    return
                count += len(data)
            if self.stops is not None:
                self.ended.wait(60)
            else:
                answer = str(count).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    @staticmethod
    def read_head(connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1024)
        return data


@pytest.fixture
def slow(request: pytest.FixtureRequest) -> Iterator[SlowServer]:
    server = SlowServer(*request.param)
    server.thread.start()
    yield server
    server.ended.set()
    server.thread.join()
    server.listener.close()


@pytest.mark.parametrize("slow", [(0.03,)], indirect=True)
def test_sending_as_a_whole_may_take_longer_than_any_silence(slow: SlowServer) -> None:
    body = b"x" * (64 * PIECE)
    answer = pool_manager(0.5, 1.2, 1).request("PUT", f"http://127.0.0.1:{slow.port}/", body=body)
    assert int(answer.data) == len(body)


@pytest.mark.parametrize("slow", [(0.0, 10 * PIECE)], indirect=True)
def test_a_server_that_stops_reading_is_given_up(slow: SlowServer) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError):
        pool_manager(0.5, 0.5, 1).request("PUT", f"http://127.0.0.1:{slow.port}/", body=b"x" * (256 * PIECE))
