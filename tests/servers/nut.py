"""Network UPS Tools as Debian ships them: a real upsd, and its dummy-ups driver for each UPS that a test makes up.

This file is tests/servers/nut.py; the fixture is `nut` (tests/servers/fixtures.py), a running server with one UPS, "sim".

    with NutServer(directory, {"sim": {"ups.status": "OL", "battery.charge": "90"}}) as nut:
        nut.set("sim", "ups.status", "OB DISCHRG")  # returns once upsd tells it
        nut.pause_driver("sim")                     # ERR DATA-STALE after `stale_seconds`
        nut.kill_driver("sim"); nut.start_driver("sim")  # ERR DRIVER-NOT-CONNECTED, and back
        nut.kill(); nut.start()                     # upsd gone, and back on the same port
        nut.pause(); nut.resume()                   # upsd accepts and answers nothing

What was set stays set when a driver or all of it is started again; `recover` puts back what it began with.

Programs: /lib/nut/upsd and /lib/nut/dummy-ups (Debian: nut-server). A variable can be set only if the UPS began with it.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.servers.child import Child, Server, ServerError
from tests.support import capability, free_port, wait_for_sync

PROGRAMS = Path("/lib/nut")
USER, PASSWORD = "tester", "let me in"
"""May set variables and log in, as a secondary upsmon does."""
WATCHER = "watcher"
"""Has the same password, and may neither set nor log in."""
ON_MAINS = {
    "ups.status": "OL CHRG",
    "battery.charge": "90",
    "battery.runtime": "1800",
    "battery.voltage": "13.6",
    "ups.load": "20",
    "ups.temperature": "25.0",
}
"""What a UPS tells at first where a test says nothing else."""


class NutServer(Server):
    """upsd on a port of loopback, and one dummy-ups for each UPS.

    Args:
        directory: of its own; short, for a driver's socket lies in it (107 bytes for all of its path).
        upses: name → variables that it tells at first.
        stale_seconds: after so long without a word from a driver, upsd tells DATA-STALE (MAXAGE).
        port: TCP port, or None for a free one.
    """

    def __init__(
        self,
        directory: Path,
        upses: Mapping[str, Mapping[str, str]] | None = None,
        stale_seconds: int = 15,
        port: int | None = None,
    ) -> None:
        super().__init__(directory, "upsd")
        self.port = port or free_port()
        self.host = "127.0.0.1"
        self.upses = upses or {"sim": ON_MAINS}
        self.drivers = {name: Child(directory / f"{name}.log") for name in self.upses}
        self._env = dict.fromkeys(("NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH", "NUT_PIDPATH"), str(directory))
        self._told = {name: dict(variables) for name, variables in self.upses.items()}
        self._write(stale_seconds)

    def _write(self, stale_seconds: int) -> None:
        each = '[{0}]\ndriver = dummy-ups\nport = {0}.dev\nmode = dummy-once\ndesc = "A test\'s {0}"\n'
        sections = ["maxretry = 3\n", *map(each.format, self.upses)]
        may = f'[{USER}]\npassword = "{PASSWORD}"\nactions = SET\nupsmon secondary\n[{WATCHER}]\npassword = "{PASSWORD}"\n'
        files = {"ups.conf": "\n".join(sections), "upsd.users": may}
        files["upsd.conf"] = f"LISTEN {self.host} {self.port}\nMAXAGE {stale_seconds}\n"
        for file, text in files.items():
            path = self.directory / file
            path.touch(mode=0o600)
            path.write_text(text)

    def start(self) -> None:
        """Start what does not run; returns when upsd tells a status of every UPS."""
        if not self.child.running:
            for name, driver in self.drivers.items():
                driver.kill()  # one that outlives its upsd ends of it (NUT 2.8.0: "bit out of range 0 - FD_SETSIZE")
                self._spawn(name)  # before upsd, which looks for those that are missing every other second only
        self.start_upsd()
        for name in self.drivers:
            self.start_driver(name)

    def start_upsd(self) -> None:
        """Start upsd alone; returns when it answers."""
        if not self.child.running:
            self.child.spawn([_program("upsd"), "-u", pwd.getpwuid(os.geteuid()).pw_name, "-F"], self._answers, env=self._env)

    def start_driver(self, name: str) -> None:
        """Start a UPS's driver where it does not run, or let it go on; returns when upsd tells its status."""
        driver = self.drivers[name]
        if driver.running:
            driver.resume()
        else:
            self._spawn(name)
        wanted = self._told[name].get("ups.status", "")
        wait_for_sync(lambda: self.status(name) == wanted, 30.0, f"upsd tells that {name} is {wanted}")

    def _spawn(self, name: str) -> None:
        command = [_program("dummy-ups"), "-a", name, "-u", pwd.getpwuid(os.geteuid()).pw_name, "-F"]
        described = "".join(f"{key}: {value}\n" for key, value in self._told[name].items())
        (self.directory / f"{name}.dev").write_text(described)
        channel = self.directory / f"dummy-ups-{name}"
        channel.unlink(missing_ok=True)  # of one that was killed
        self.drivers[name].spawn(command, channel.exists, env=self._env)

    def stop(self) -> None:
        """End all of it."""
        for driver in self.drivers.values():
            driver.stop()
        super().stop()

    def _abandon(self) -> None:
        for driver in self.drivers.values():
            driver.kill()
        super()._abandon()

    def recover(self) -> None:
        """Let it serve again, and tell what it told at first, whatever a test has left of it."""
        if self.child.running:
            self.child.resume()
        self.start()
        for name, variables in self.upses.items():
            for variable, value in variables.items():
                if self.get_or(name, variable) != value:
                    self.set(name, variable, value)

    def pause_driver(self, name: str) -> None:
        """Let a driver hang: upsd tells DATA-STALE after a while, and the status of before until then."""
        self.drivers[name].pause()

    def kill_driver(self, name: str) -> None:
        """SIGKILL a driver: upsd tells DRIVER-NOT-CONNECTED."""
        self.drivers[name].kill()

    def set(self, name: str, variable: str, value: str) -> None:
        """Change a variable; returns once upsd tells the new value."""
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        self._ask(f'SET VAR {name} {variable} "{escaped}"')
        self._told[name][variable] = value
        wait_for_sync(lambda: self.get(name, variable) == value, message=f"{name} tells {variable} {value}")

    def get(self, name: str, variable: str) -> str:
        """What upsd tells of a variable; ServerError with its ERR where it refuses."""
        told = self._ask(f"GET VAR {name} {variable}")
        return told.split(" ", 3)[3].strip('"')

    def get_or(self, name: str, variable: str, otherwise: str = "") -> str:
        """The same, or something else where upsd refuses it."""
        with suppress(ServerError):
            return self.get(name, variable)
        return otherwise

    def status(self, name: str) -> str:
        """ups.status, or nothing where upsd refuses it."""
        return self.get_or(name, "ups.status")

    def _answers(self) -> bool:
        with suppress(OSError, ServerError):
            return self._ask("VER").startswith("Network UPS Tools")
        return False

    def _ask(self, request: str) -> str:
        with socket.create_connection((self.host, self.port), timeout=10.0) as link, link.makefile("rwb") as stream:
            answer = ""
            for line in (f"USERNAME {USER}", f'PASSWORD "{PASSWORD}"', request):
                stream.write(line.encode() + b"\n")
                stream.flush()
                answer = stream.readline().decode().strip()
                if not answer or answer.startswith("ERR "):
                    logs = "".join(f"\n{name}: {driver.tail()}" for name, driver in self.drivers.items())
                    raise ServerError(f"upsd answered {request!r} with {answer or 'nothing'}\n{self.child.tail()}{logs}")
            return answer


def _program(name: str) -> str:
    path = PROGRAMS / name
    capability(path.exists(), f"Debian's nut-server ({path})")
    return str(path)
