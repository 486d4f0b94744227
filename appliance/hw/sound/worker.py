"""The process that holds PortAudio; run as a script, with sockets to the appliance as its arguments.

A broken ALSA configuration ends the process that loads PortAudio, and a device that is pulled out may leave calls that
never return: this process is what is lost then. Messages are JSON objects, or sound behind a byte "A".
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[3]))  # the package, where it is not installed

from appliance.hw.sound import choice

MESSAGE = 1 << 16
"""Bytes of the longest message."""
BUFFER = 1 << 15
"""Bytes that may wait in a socket; the kernel takes twice that, with its own."""


class TroubleError(Exception):
    """What ends the work.

    Args:
        text: What happened.
        next_step: What to do.
        absent: There is no such device or library.
    """

    def __init__(self, text: str, next_step: str = "", *, absent: bool = False) -> None:
        super().__init__(text)
        self.next_step, self.absent = next_step, absent


class Link:
    """The way to the appliance.

    Args:
        sock: For requests and sound, both ways.
        urgent: For what must not wait behind sound.
    """

    def __init__(self, sock: socket.socket, urgent: socket.socket) -> None:
        self.sock, self.urgent = sock, urgent
        for each in (sock, urgent):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def say(self, **message: Any) -> None:
        """Send a message; it waits until there is room."""
        data = json.dumps(message).encode()
        while not self.send(data):
            select.select([], [self.sock], [])

    def send(self, data: bytes) -> bool:
        """Send, or say that there is no room now."""
        try:
            self.sock.send(data)
        except BlockingIOError:
            return False
        except OSError:  # the appliance is gone, and with it all reason to go on
            os._exit(0)
        return True

    def read(self, sock: socket.socket) -> bytes | None:
        """One message, or None where none waits."""
        try:
            data = sock.recv(MESSAGE)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        return data

    def orders(self) -> list[dict[str, Any]]:
        """What has come on the urgent way."""
        orders: list[dict[str, Any]] = []
        while (data := self.read(self.urgent)) is not None:
            orders.append(json.loads(data))
        return orders


def listed(sd: Any) -> list[dict[str, Any]]:
    """All devices."""
    default_in, default_out = sd.default.device
    return [
        {
            "index": row["index"], "name": row["name"],
            "inputs": row["max_input_channels"], "outputs": row["max_output_channels"],
            "rate": row["default_samplerate"], "default_input": row["index"] == default_in,
            "default_output": row["index"] == default_out, "respeaker": choice.is_respeaker(row["name"]),
        }
        for row in sd.query_devices()
    ]  # fmt: skip


def choose(sd: Any, wanted: str, kind: str) -> choice.Row:
    """The device that is meant. Raises TroubleError."""
    try:
        return choice.choose(listed(sd), wanted, kind)
    except choice.NoSuchDeviceError as error:
        what = "a microphone" if kind == "input" else "a speaker"
        raise TroubleError(f"{error}.", f"plug {what} in, or choose one of: prime-spark voice devices", absent=True) from error


def opened(make: Any, sd: Any, row: choice.Row, channels: tuple[int, ...], rates: tuple[int, ...]) -> tuple[Any, int, int]:
    """The first stream that the device agrees to, its channels and its rate. Raises TroubleError."""
    first: Exception | None = None
    for rate in rates:
        for count in channels:
            try:
                return make(count, rate), count, rate
            except sd.PortAudioError as error:
                first = first or error
    raise TroubleError(
        f"{row['name']} cannot be opened: {reason(first)}.", "plug it in again, or see who holds it: sudo fuser -v /dev/snd/*"
    )


def reason(error: Exception | None) -> str:
    """Why PortAudio refused, in the words of the system below it where there are some: no call's name, no number."""
    args = error.args if error is not None else ()
    below = str(args[2][2]).strip() if len(args) > 2 and isinstance(args[2], tuple) and len(args[2]) > 2 else ""
    told = below or str(args[0] if args else "").rpartition(": ")[2] or "no reason is told"
    return told[:1].lower() + told[1:]


def tie(lifeline: int) -> None:
    """End with the parent, also in a call that never returns: the kernel sends SIGIO when the other end closes (O_ASYNC)."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it has closed already
        os._exit(0)


def library() -> Any:
    """PortAudio, initialised. Raises TroubleError."""
    try:
        import sounddevice as sd
    except OSError as error:
        text = f"PortAudio cannot be loaded: {error}."
        raise TroubleError(text, "sudo apt-get install libportaudio2", absent=True) from error
    except Exception as error:  # its own class of errors is not to be had while its import fails
        raise TroubleError(f"The sound system's configuration is broken: {error}.", choice.BROKEN) from error
    return sd


def serve(link: Link, order: dict[str, Any]) -> None:
    """Do what this process was started for. Raises TroubleError."""
    sd = library()
    if order["mode"] == "list":
        link.say(event="devices", devices=listed(sd))
    elif order["mode"] == "microphone":
        from appliance.hw.sound import worker_microphone

        worker_microphone.run(link, sd, order)
    else:
        from appliance.hw.sound import worker_speaker

        worker_speaker.run(link, sd, order)


def main() -> None:
    """Take the order, carry it out, tell what ends it."""
    sock, urgent, lifeline = (int(word) for word in sys.argv[1:4])
    tie(lifeline)
    link = Link(socket.socket(fileno=sock), socket.socket(fileno=urgent))
    try:
        serve(link, json.loads(sys.argv[4]))
    except Exception as error:  # noqa: BLE001 it becomes the answer
        known = isinstance(error, TroubleError)
        text = str(error) if known else f"The sound process failed: {type(error).__name__}: {error}."
        next_step = getattr(error, "next_step", "") or "it is opened again by itself."
        link.say(event="trouble", text=text, next_step=next_step, absent=getattr(error, "absent", False))
    os._exit(0)  # closing a stream of a device that is gone may take for ever


if __name__ == "__main__":
    # The modules that do the work import this one by its name: it must be the same.
    from appliance.hw.sound import worker  # noqa: PLW0406

    worker.main()
