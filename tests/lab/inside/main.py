"""Process 1 of a node: loads the units, starts what is enabled, answers systemctl, and goes down when it is told to.

Its exit status tells the keeper what became of the node: 0 powered off, 64 to be started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from tests.lab.inside.manager import Manager, boot_id
from tests.lab.inside.systemctl import Systemctl, take_apart
from tests.lab.inside.unitfile import Folders

CONTROL = "/run/systemd/lab.sock"
LOG = "/dev/log"
REBOOT = 64


async def serve(manager: Manager) -> asyncio.Server:
    """Answer the programs of the node."""
    systemctl = Systemctl(manager)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            asked = json.loads(await reader.readline())
            reply = {"out": [], "err": [], "code": 0}
            if changes(asked) and caller(writer) != 0:
                reply = {"out": [], "err": ["Failed to execute operation: Interactive authentication required."], "code": 1}
            elif asked["program"] == "shutdown":
                manager.cancel() if asked["what"] == "cancel" else manager.schedule(asked["what"], max(0.05, asked["delay"]))
            else:
                told = await systemctl.answer(asked["argv"])
                reply = {"out": told.out, "err": told.err, "code": told.code}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, CONTROL, limit=1 << 20)
    os.chmod(CONTROL, 0o666)
    return server


def caller(writer: asyncio.StreamWriter) -> int:
    """The user who asks, as the kernel knows it."""
    link = writer.get_extra_info("socket")
    return int(struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


def changes(asked: dict[str, Any]) -> bool:
    """Whether a question is one that only root may ask."""
    words = take_apart(asked.get("argv", [])).words
    return asked["program"] == "shutdown" or (
        bool(words) and not words[0].startswith(("is-", "list-", "show", "status", "cat"))
    )


def hear_syslog(manager: Manager) -> None:
    """Keep what programs say to syslog(3)."""
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.setblocking(False)
    Path(LOG).unlink(missing_ok=True)
    heard.bind(LOG)
    os.chmod(LOG, 0o666)

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            text = heard.recv(1 << 16).decode(errors="replace").rstrip("\n\0")
            found = re.match(r"<\d+>(?:\w{3} +\d+ [\d:]{8} )?([^\s\[:]+)(?:\[(\d+)\])?: ?(.*)", text, re.DOTALL)
            name, pid, said = (found[1], int(found[2] or 0), found[3]) if found else ("unknown", 0, text)
            unit = {"sshd": "ssh.service"}.get(name, f"{name}.service")
            manager.journal.write(unit, name, pid, said)

    asyncio.get_running_loop().add_reader(heard, read)


async def live() -> str:
    """Until the node goes down; how."""
    Path("/run/systemd/system").mkdir(parents=True, exist_ok=True)
    manager = Manager(Folders(), boot_id())
    hear_syslog(manager)
    server = await serve(manager)
    booting = asyncio.create_task(manager.boot())
    booting.add_done_callback(lambda _: Path("/run/systemd/booted").touch())
    how = await manager.down
    server.close()
    await manager.end()
    return how


if __name__ == "__main__":
    sys.exit(REBOOT if asyncio.run(live()) == "reboot" else 0)
