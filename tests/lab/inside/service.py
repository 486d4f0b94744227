"""One unit as it runs: what systemd's manager does for services of type simple, exec, oneshot, notify and forking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.inside import dynamic
from tests.lab.inside.processes import Processes, members, name_of, send
from tests.lab.inside.unitfile import UnitFile

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BURST, BURST_SECONDS = 5, 10.0
Said = Callable[[str, str, int, str], None]
"""Called with unit, name of the process, its id and a line."""


class StartError(Exception):
    """A service did not come up."""


class Service:
    """A unit that was loaded.

    Args:
        file: What its files say; replaced by daemon-reload.
        processes: Starts what it is made of.
        said: Keeps what it says.
    """

    def __init__(self, file: UnitFile, processes: Processes, said: Said) -> None:
        self.file, self._processes, self._said = file, processes, said
        self.active, self.sub, self.result = "inactive", "dead", "success"
        self.main_pid, self.exit_status, self.restarts = 0, 0, 0
        self.invocation = ""
        self.changed = self.since = time.time()
        self._lock = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._starts: deque[float] = deque(maxlen=BURST)

    @property
    def name(self) -> str:
        """Of the unit."""
        return self.file.name

    def become(self, active: str, sub: str) -> None:
        """Enter a state."""
        if active != self.active:
            self.changed = time.time()
            if active == "active":
                self.since = self.changed
        self.active, self.sub = active, sub

    def pids(self) -> list[int]:
        """Its processes, the main one first."""
        found = members(f"INVOCATION_ID={self.invocation}") if self.invocation else []
        return sorted(found, key=lambda pid: (pid != self.main_pid, pid))

    def note(self, text: str) -> None:
        """Say something about it, as systemd does."""
        self._said(self.name, "systemd", 1, text)

    async def start(self) -> None:
        """Bring it up, unless it is. Raises StartError."""
        async with self._lock:
            if self.active != "active":
                await self._start()

    async def stop(self) -> None:
        """End it."""
        async with self._lock:
            if self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None
            await self._stop("success")

    async def reload(self) -> None:
        """Run what its file has for that. Raises StartError."""
        if self.active != "active":
            raise StartError(f"Job for {self.name} invalid: {self.name} is not active, cannot reload.")
        for line in self.file.all("ExecReload"):
            await self._command(line, "reload")

    async def _start(self) -> None:
        if not self.file.name.endswith(".service"):
            self.become("active", "active")
            return
        now = time.monotonic()
        if len(self._starts) == BURST and now - self._starts[0] < BURST_SECONDS:
            self.result = "start-limit-hit"
            self.become("failed", "failed")
            raise StartError("start request repeated too quickly")
        self._starts.append(now)
        self.result, self.exit_status, self.main_pid, self.invocation = "success", 0, 0, uuid.uuid4().hex
        self.become("activating", "start")
        self._folders()
        self.note(f"Starting {self.name} - {self.file.description}...")
        try:
            for line in self.file.all("ExecStartPre"):
                await self._command(line, "start-pre")
            await asyncio.wait_for(self._main(), self.file.seconds("TimeoutStartSec", 90.0))
            for line in self.file.all("ExecStartPost"):
                await self._command(line, "start-post")
        except (StartError, TimeoutError, OSError, KeyError) as error:
            if self.result == "success":
                self.result = "timeout" if isinstance(error, TimeoutError) else "resources"
            self.note(f"{self.name}: Failed with result '{self.result}'. {error}")
            await self._stop(self.result)
            self._watch_failed_start()
            raise StartError(str(error)) from error
        self.note(f"Started {self.name} - {self.file.description}.")

    def _watch_failed_start(self) -> None:
        if self.file.get("Restart", "no") in ("always", "on-failure") and self._watcher is None:
            self._watcher = asyncio.create_task(self._again())

    async def _main(self) -> None:
        kind = self.file.get("Type", "simple")
        lines = self.file.all("ExecStart")
        if kind == "oneshot":
            for line in lines:
                await self._command(line, "start", main=True)
            stays = self.file.flag("RemainAfterExit")
            self.become("active" if stays else "inactive", "exited" if stays else "dead")
            return
        if not lines:
            raise StartError(f"{self.name}: Service has no ExecStart= setting")
        with Notified(self.name) if kind == "notify" else contextlib.nullcontext() as heard:
            self.main_pid, end = self._spawn(lines[0], {"NOTIFY_SOCKET": heard.path} if heard else {})
            if heard:
                await self._ready(heard, end)
        if kind == "forking":
            await self._forked(end)
            end = asyncio.get_running_loop().create_future()  # nobody tells the end of a process that is not our child's own
        self.become("active", "running")
        self._watcher = asyncio.create_task(self._watch(end))

    async def _ready(self, heard: Notified, end: asyncio.Future[int]) -> None:
        ends: list[asyncio.Future[Any]] = [heard.ready, end]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if heard.ready not in done:
            self._ended(end.result())
            raise StartError(f"main process exited before it was ready ({end.result()})")

    async def _forked(self, end: asyncio.Future[int]) -> None:
        if code := await end:
            self._ended(code)
            raise StartError(f"control process exited with {code}")
        file = self.file.get("PIDFile")
        left = self.pids()
        self.main_pid = int(Path(file).read_text()) if file else left[0] if left else 0

    async def _watch(self, end: asyncio.Future[int]) -> None:
        """Wait for the main process's end, and do what the file wants then."""
        code = await end
        async with self._lock:
            self._watcher = None
            self._ended(code)
            self.note(f"{self.name}: Main process exited, {said_of(code)}")
            await self._stop(self.result)
            policy = self.file.get("Restart", "no")
            if policy == "always" or (policy in ("on-failure", "on-abnormal") and self.result != "success"):
                self._watcher = asyncio.create_task(self._again())

    async def _again(self) -> None:
        self.become("activating", "auto-restart")
        await asyncio.sleep(self.file.seconds("RestartSec", 0.1))
        async with self._lock:
            self._watcher = None
            self.restarts += 1
            self.note(f"{self.name}: Scheduled restart job, restart counter is at {self.restarts}.")
            with contextlib.suppress(StartError):  # noted where it was raised
                await self._start()

    def _ended(self, code: int) -> None:
        self.exit_status = abs(code)
        clean = code == 0 or code in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGPIPE)
        clean = clean or str(code) in self.file.words("SuccessExitStatus")
        self.result = "success" if clean else "exit-code" if code > 0 else "signal"

    async def _stop(self, result: str) -> None:
        """End all that is left of it; with the state that goes with a result."""
        if self.active == "active":
            self.become("deactivating", "stop")
            for line in self.file.all("ExecStop"):
                with contextlib.suppress(StartError):  # noted by _command
                    await self._command(line, "stop")
        await self._kill()
        for line in self.file.all("ExecStopPost"):
            with contextlib.suppress(StartError):
                await self._command(line, "stop-post")
        self.main_pid = 0
        dynamic.over(self.file)
        failed = result != "success"
        self.become("failed" if failed else "inactive", "failed" if failed else "dead")

    async def _kill(self) -> None:
        mode = self.file.get("KillMode", "control-group")
        if mode == "none":
            return
        number = getattr(signal, self.file.get("KillSignal", "SIGTERM"), signal.SIGTERM)
        only_main = mode in ("process", "mixed")
        send([self.main_pid] if only_main and self.main_pid else [] if only_main else self.pids(), number)
        ends = time.monotonic() + self.file.seconds("TimeoutStopSec", 10.0)
        while left := self._left(mode):
            if time.monotonic() > ends or (mode == "mixed" and self.main_pid not in left):
                send(left, signal.SIGKILL)
            await asyncio.sleep(0.02)

    def _left(self, mode: str) -> list[int]:
        pids = self.pids()
        return [pid for pid in pids if pid == self.main_pid] if mode == "process" else pids

    def _folders(self) -> None:
        for key, base in (("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib"), ("LogsDirectory", "/var/log"),
                          ("CacheDirectory", "/var/cache")):  # fmt: skip
            for name in self.file.words(key):
                folder = Path(base, name)
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(int(self.file.get(f"{key}Mode", "0755"), 8))
                dynamic.own(folder, dynamic.user_of(self.file), self.file.get("Group"))

    async def _command(self, line: str, what: str, *, main: bool = False) -> None:
        forgiving = line.startswith("-")
        pid, end = self._spawn(line, {})
        if main:
            self.main_pid = pid
        code = await end
        if code and not forgiving:
            self._ended(code)
            self.note(f"{self.name}: Control process exited ({what}), {said_of(code)}")
            raise StartError(f"{what} failed, {said_of(code)}")

    def _spawn(self, line: str, more: dict[str, str]) -> tuple[int, asyncio.Future[int]]:
        env = self._environment() | more
        argv = _arguments(line.lstrip("-@+!:"), env)
        user = dynamic.user_of(self.file) or None
        folder = self.file.get("WorkingDirectory", "/").lstrip("-")
        program = argv[0]
        name = os.path.basename(program)
        try:
            return self._processes.spawn(
                argv, lambda pid, text: self._said(self.name, name, pid, text), env=env,
                folder=env["HOME"] if folder == "~" else folder, user=user, group=self.file.get("Group") or None,
            )  # fmt: skip
        except (OSError, KeyError) as error:
            self.result, self.exit_status = "exit-code", 203 if isinstance(error, OSError) else 217
            self.note(f"{self.name}: Failed to execute {program}: {error}")
            raise StartError(f"{program}: {error}") from error

    def _environment(self) -> dict[str, str]:
        user = dynamic.user_of(self.file) or "root"
        home, shell = dynamic.home_of(user)
        env = {
            "PATH": PATH, "LANG": "C.UTF-8", "INVOCATION_ID": self.invocation, "USER": user, "LOGNAME": user,
            "HOME": home, "SHELL": shell, "JOURNAL_STREAM": "8:1", **dynamic.credentials(self.file, user),
        }  # fmt: skip
        for key, base in (("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib"), ("LogsDirectory", "/var/log")):
            if names := self.file.words(key):
                env[re.sub(r"(?<!^)(?=[A-Z])", "_", key).upper()] = ":".join(f"{base}/{name}" for name in names)
        for word in self.file.words("Environment"):
            name, _, value = word.partition("=")
            env[name] = value
        for path in self.file.all("EnvironmentFile"):
            if path.startswith("-") and not Path(path[1:]).exists():
                continue
            for text in Path(path.lstrip("-")).read_text().splitlines():
                if "=" in text and not text.lstrip().startswith(("#", ";")):
                    name, _, value = text.strip().partition("=")
                    env[name] = " ".join(shlex.split(value))
        if self.main_pid:
            env["MAINPID"] = str(self.main_pid)
        return env


class Notified:
    """Hears READY=1 (sd_notify)."""

    def __init__(self, name: str) -> None:
        self.path = f"/run/systemd/notify-{name}"
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Notified:
        Path(self.path).unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o777)
        asyncio.get_running_loop().add_reader(self._socket, self._hear)
        return self

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if b"READY=1" in self._socket.recv(4096).split(b"\n") and not self.ready.done():
                self.ready.set_result(None)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)


def _arguments(line: str, env: dict[str, str]) -> list[str]:
    """A command line as systemd reads it: $WORD alone is split into words, ${WORD} is put in."""
    words: list[str] = []
    for word in shlex.split(line):
        alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if alone:
            words += shlex.split(env.get(alone[1], ""))
        else:
            words.append(
                re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda found: env.get(found[1], ""), word).replace("$$", "$")
            )
    return words


def said_of(code: int) -> str:
    """An end in systemd's words."""
    if code < 0:
        name = signal.Signals(-code).name.removeprefix("SIG")
        return f"code=killed, status={-code}/{name}"
    return f"code=exited, status={code}/{'SUCCESS' if code == 0 else 'FAILURE'}"


def main_name(service: Service) -> str:
    """Name of its main process."""
    return name_of(service.main_pid) if service.main_pid else ""
