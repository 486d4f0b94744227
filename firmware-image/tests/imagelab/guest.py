"""The image as its user meets it: what is put on the card, and what is asked over SSH when it runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagelab.disk import Disk
from imagelab.machine import Machine
from imagelab.run import run
from imagelab.ssh import Login, RefusedError

FIRST_BOOT = "prime-spark.toml"
WEB = "http://10.0.2.100"
STICK = "RELEASES"
"""The label of a stick's file system."""
READY = "Overview"
"""What the console shows when it is there."""
ASK = """
import http.client, socket, sys
class Socket(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/prime-spark/api.sock")
link = Socket("appliance", timeout=60)
link.request("POST", "/api/v1/actions/NAME", '{"args": {}}', {"Content-Type": "application/json"})
answer = link.getresponse()
print(answer.read().decode())
sys.exit(answer.status != 200)
"""
"""A question to the appliance by a program that starts ten times as fast as its command does, where a processor is emulated."""
GOOD = {"healthy", "absent"}


def first_boot(login: Login, *, hostname: str = "edge-test", more: str = "", password: str = "") -> str:
    """A first-boot file with one administrator, who may log in at the machine too."""
    word = f'password = "{password}"\n' if password else ""
    return f"""# Written by the tests.
[system]
hostname = "{hostname}"
timezone = "Europe/Zurich"

[[users]]
name = "{login.user}"
role = "admin"
{word}ssh_keys = ["{login.public}"]
shell = true

[settings.update]
source = "{WEB}/releases"
schedule = ""
health_seconds = 10
trial_minutes = 12
{more}"""


class Guest:
    """A machine, and somebody who may log in there.

    Args:
        machine: It.
        login: An administrator of the first-boot file.
    """

    def __init__(self, machine: Machine, login: Login) -> None:
        self.machine, self.login = machine, login

    def root(self, line: str, limit: float = 180.0, stdin: bytes | None = None) -> str:
        """What a command of root prints. Raises RefusedError where it does not end with 0."""
        quoted = line.replace("'", "'\\''")
        return self.login.run(self.machine.port("ssh"), f"sudo sh -c '{quoted}'", limit, stdin)

    def python(self, program: str, limit: float = 300.0) -> str:
        """What a program prints that the appliance's own Python runs as root."""
        return self.root("exec /opt/prime-spark/bin/python -", limit, program.encode())

    def spark(self, line: str, limit: float = 180.0) -> str:
        """What a verb of the appliance prints."""
        return self.root(f"prime-spark {line}", limit)

    def stick(self, image: Path) -> str:
        """Plug in a stick with bundles, and tell the directory at which the guest has it."""
        self.machine.plug(image)
        self.wait("the stick is there", lambda: self.root(f"ls /dev/disk/by-label/{STICK}"), 120)
        self.root(f"mkdir -p /mnt/stick; mountpoint -q /mnt/stick || mount -o ro /dev/disk/by-label/{STICK} /mnt/stick")
        return "/mnt/stick"

    def restart(self, line: str = "update reboot --yes") -> None:
        """Have a verb start the machine again; the link may end before the verb does."""
        with contextlib.suppress(RefusedError):
            self.spark(line)

    def json(self, line: str, limit: float = 180.0) -> Any:
        """The same, as values."""
        return json.loads(self.spark(f"{line} --json", limit))

    def ask(self, action: str) -> Any:
        """What an action without arguments answers."""
        program = ASK.replace("NAME", action)
        return json.loads(self.root("exec /usr/bin/python3 -ISE -", stdin=program.encode()))["result"]

    def wait(self, what: str, look: Callable[[], Any], limit: float = 600.0) -> Any:
        """The first value that is something. A machine that cannot be asked is no fault until `limit` seconds are over."""
        ends, last = time.monotonic() + limit, ""
        while time.monotonic() < ends:
            try:
                if value := look():
                    return value
                last = "it was not so"
            except (RefusedError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
                last = str(error)
            time.sleep(1)
        shown = self.machine.screen.text()
        raise AssertionError(f"not within {limit:g} s: {what}; at last: {last}\nthe console shows\n{shown}")

    def wait_up(self, limit: float = 600.0) -> None:
        """Wait until it can be logged in to and the appliance has tried every service."""
        self.wait("every service was tried", self._tried, limit)

    def unwell(self) -> dict[str, str]:
        """Services that are neither healthy nor absent with a reason and a next step, with what they say."""
        found: dict[str, str] = {}
        for each in self.ask("service.list"):
            said = f"{each['health']}: {each['reason']}; next: {each['next_step']}"
            if each["health"] not in GOOD or (each["health"] == "absent" and not (each["reason"] and each["next_step"])):
                found[each["name"]] = said
        return found

    def update(self) -> dict[str, Any]:
        """The state of the updates."""
        status: dict[str, Any] = self.ask("update.status")
        return status

    def boot_id(self) -> str:
        """Which start this is."""
        return self.root("cat /proc/sys/kernel/random/boot_id").strip()

    def slot(self) -> str:
        """The slot that the kernel was told to have booted: A or B."""
        words = self.root("cat /proc/cmdline").split()
        return next(word.partition("=")[2] for word in words if word.startswith("rauc.slot="))

    def version(self) -> str:
        """The version of the image that runs."""
        return self.root(". /etc/os-release; echo $IMAGE_VERSION").strip()

    def _tried(self) -> bool:
        return all(each["phase"] not in {"waiting", "starting"} for each in self.ask("service.list"))


def stick_with(home: Path, *bundles: Path) -> Path:
    """A stick's image with bundles."""
    tree, image = home / "stick", home / "stick.img"
    tree.mkdir(parents=True)
    for each in bundles:
        os.link(each, tree / each.name)
    size = sum(each.stat().st_size for each in bundles) * 11 // 10 + (64 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-L", STICK, "-d", str(tree), str(image), f"{size >> 10}k")
    return image


def prepare(disk: Disk, text: str) -> None:
    """Put a first-boot file onto the card, as somebody does at their computer."""
    disk.put_file("config", FIRST_BOOT, text)
