"""A backup as one file, taken from one machine, and a new card that begins with it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from imagelab.disk import Disk
from imagelab.guest import Guest, first_boot, prepare

FILE = "all.backup.age"


@dataclass(frozen=True)
class Taken:
    """What was taken along.

    Attributes:
        task: Id of a task that the machine had.
        key: What the file is encrypted with.
        content: The file.
    """

    task: str
    key: str
    content: bytes

    def put(self, disk: Disk, guest: Guest) -> None:
        """Onto a new card, as its owner does at a computer."""
        disk.put_file("config", FILE, self.content)
        restore = f'\n[restore]\nfile = "{FILE}"\nkey = "{self.key}"\n'
        prepare(disk, first_boot(guest.login, hostname="edge-new", more=restore))

    def found(self, guest: Guest) -> None:
        """Everything must be back, and the key must be gone from the card."""
        state = guest.wait("the task is there", lambda: guest.json(f"task show {self.task}")["task"]["state"], 300)
        assert state == "completed"
        assert self.key not in guest.root("cat /boot/firmware/prime-spark.toml")
        assert guest.root("hostname").strip() == "edge-new"


def take(guest: Guest) -> Taken:
    """A task, and the backup that has it."""
    payload = json.dumps({"do": "set", "namespace": "card", "key": "former", "value": "yes"})
    task = guest.json(f"task submit memory_management '{payload}'")["task_id"]
    guest.wait("it is done", lambda: guest.json(f"task show {task}")["task"]["state"] == "completed", 120)
    key = guest.json("backup key")["key"]
    path = Path("/data/prime-spark") / FILE
    guest.spark(f"backup export {path} --wait", limit=900)
    content = base64.b64decode(guest.root(f"base64 {path}; rm {path}", limit=300))
    return Taken(task, key, content)
