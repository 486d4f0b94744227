"""HAProxy as a child of the appliance: started at the first service that wants it, changed without losing a connection.

Servers come, go and get other weights by its runtime API; another set of listening ports is a reload, in which the sockets are
handed over. One that goes on after a crash of the appliance is found again by its socket, and kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from appliance.core.deploy import haproxy
from appliance.core.deploy.haproxy import Front, Stat
from appliance.core.deploy.listening import refusals
from appliance.core.deploy.model import BalancerStatus
from appliance.core.figures import counted
from appliance.core.secrets import write_private
from appliance.errors import AbsentError, ApplianceError, DeployError

log = logging.getLogger(__name__)

READY = 10.0
"""Seconds to its first answer, and to the end of a reload."""
GOING = 5.0
"""Seconds from being told to end until it is killed."""
DUMB = 2
"""Times in a row without an answer at an open socket from which it is ended and started anew."""
LONGEST = 96
"""Bytes of the socket's path: what the kernel takes, less what HAProxy adds while it makes it."""
KEPT = 40
"""Lines of its own log that are kept."""
INSTALL = "sudo apt-get install haproxy (2.6 or newer); rolling and recreate do without it."


class Balancer:
    """The balancer's process and what it is told.

    Args:
        directory: Its configuration, socket and process id; of this user alone.
        program: Name or path of HAProxy.
    """

    def __init__(self, directory: Path, program: str = "haproxy") -> None:
        self._directory = directory
        self._program = program
        self._lock = asyncio.Lock()
        self._fronts: tuple[Front, ...] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._adopted = False
        self._problem: ApplianceError | None = None
        self._info: dict[str, str] = {}
        self._told: list[str] = []
        self._leftovers: set[tuple[str, str]] = set()
        self._dumb = 0
        """Times in a row that it had its socket open and did not answer."""
        self._doubt = False
        """A change was carried out in part: the next one hands the whole configuration over."""

    @property
    def socket(self) -> Path:
        """Of the runtime API."""
        return self._directory / "haproxy.sock"

    @property
    def _config(self) -> Path:
        return self._directory / "haproxy.cfg"

    @property
    def _pid_file(self) -> Path:
        return self._directory / "haproxy.pid"

    def missing(self) -> str:
        """Why there is none; empty where it is installed."""
        return "" if shutil.which(self._program) else "HAProxy is not installed"

    def status(self) -> BalancerStatus:
        """How it is, by what was seen last."""
        if missing := self.missing():
            return BalancerStatus("absent", missing, INSTALL)
        if self._problem is not None:
            return BalancerStatus("unhealthy", self._problem.message, self._problem.next_step, self._info.get("Version", ""))
        servers = sum(len(front.servers) for front in self._fronts)
        if not self._fronts:
            told = "it goes on from before the start" if self._adopted else "no service wants it"
            return BalancerStatus("healthy", told, version=self._info.get("Version", ""), adopted=self._adopted)
        return BalancerStatus(
            "healthy", f"{counted(len(self._fronts), 'service')}, {counted(servers, 'server')}",
            version=self._info.get("Version", ""), pid=int(self._info.get("Pid", "0")) or None,
            frontends=len(self._fronts), servers=servers, adopted=self._adopted,
        )  # fmt: skip

    async def adopt(self) -> bool:
        """Find one that goes on from an earlier life; returns whether there is one."""
        try:
            await self._look()
        except ApplianceError:
            return False
        self._adopted = True
        return True

    async def _look(self) -> None:
        self._info = haproxy.parse_info(await haproxy.ask(self.socket, "show info"))
        if "Pid" not in self._info:
            raise DeployError("What answers at the balancer's socket is no HAProxy.", f"look at {self.socket}.")

    async def apply(self, fronts: Sequence[Front]) -> dict[str, ApplianceError]:
        """Make it serve these services, each with these servers and shares.

        Returns:
            Service → why it cannot be listened for it. All others are served; one that had another port keeps that.

        Raises:
            AbsentError: HAProxy is not installed.
            DeployError: It refuses the configuration, or does not come up; what was served goes on where it can.
        """
        async with self._lock:
            try:
                refused = await self._apply(tuple(sorted(fronts, key=lambda front: front.service)))
                self._problem = next(iter(refused.values()), None)
            except ApplianceError as error:
                self._problem = error
                raise
            return refused

    async def _apply(self, fronts: tuple[Front, ...]) -> dict[str, ApplianceError]:
        if fronts and (missing := self.missing()):
            raise AbsentError(f"{missing}, and {fronts[0].service} wants its traffic directed.", INSTALL)
        alive = bool(fronts) and await self._alive()
        found = alive and self._adopted and not self._fronts
        held = await self._listening() if found else {(front.address, front.listen) for front in self._fronts if alive}
        refused = refusals(fronts, held)
        fronts = self._without(fronts, refused) if alive else tuple(each for each in fronts if each.service not in refused)
        if not fronts:
            await self._end()
        elif not alive:
            await self._start(fronts)
        elif not found and not self._doubt and [each.frame for each in fronts] == [each.frame for each in self._fronts]:
            self._doubt = True
            await self._update(fronts)
        else:
            await self._reload(fronts)
        self._fronts, self._doubt = fronts, False
        return refused

    def _without(self, fronts: tuple[Front, ...], refused: Mapping[str, ApplianceError]) -> tuple[Front, ...]:
        """Those that can be served: one that cannot get its new port keeps the one that it has."""
        had = {front.service: front for front in self._fronts}
        stay = [
            msgspec.structs.replace(each, listen=had[each.service].listen, address=had[each.service].address)
            for each in fronts
            if each.service in refused and each.service in had
        ]
        return tuple(sorted([*(each for each in fronts if each.service not in refused), *stay], key=lambda each: each.service))

    async def _alive(self) -> bool:
        try:
            await self._look()
        except AbsentError:
            return False
        except DeployError as error:
            self._dumb += 1
            if self._dumb < DUMB:
                raise
            log.error("HAProxy is ended, and started anew: %s", error.message)
            await self._end()
            return False
        self._dumb = 0
        return True

    async def _listening(self) -> set[tuple[str, int]]:
        """Ports that the adopted one has already, by the configuration that it runs with."""
        text = await asyncio.to_thread(self._config.read_text)
        places = [line.split()[1].rpartition(":") for line in text.splitlines() if line.strip().startswith("bind ")]
        return {(address.strip("[]"), int(port)) for address, _, port in places}

    # -- the process

    def _write(self, fronts: Sequence[Front]) -> None:
        if len(os.fsencode(self.socket)) > LONGEST:
            told = f"The balancer's socket would have a path of more than {LONGEST} bytes: {self.socket}."
            raise DeployError(told, "give the appliance a home with a shorter name (PRIME_SPARK_HOME).")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_private(self._config, haproxy.config_text(fronts, self.socket).encode())
        except OSError as error:
            raise DeployError(
                f"The balancer's configuration is not kept: {error.strerror}.", "make room on the disk."
            ) from error

    async def _check(self) -> None:
        """Have it read its configuration first: a bad one must not take the good one's place."""
        made = await asyncio.create_subprocess_exec(
            self._program, "-c", "-f", str(self._config), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        told, _ = await made.communicate()
        if made.returncode:
            said = told.decode(errors="replace").splitlines()
            reason = " ".join(" ".join([line for line in said if "[ALERT]" in line] or said).split())[:400]
            raise DeployError(f"HAProxy refuses its configuration: {reason}", "see the service's [front].")

    async def _start(self, fronts: Sequence[Front]) -> None:
        await asyncio.to_thread(self._write, fronts)
        await self._check()
        await self._end()
        self._adopted = False
        self._process = await asyncio.create_subprocess_exec(
            self._program, "-W", "-f", str(self._config), "-p", str(self._pid_file),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read(self._process), name="balancer log")
        await self._until_other("")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Its own log, kept for an error's reason."""
        if process.stdout is None:
            return
        while line := await process.stdout.readline():
            text = line.decode(errors="replace").strip()
            self._told = [*self._told[1 - KEPT :], text[:500]]
            log.debug("haproxy: %s", text)

    async def _until_other(self, before: str) -> None:
        """Wait until a worker answers that is another one than `before`. Raises DeployError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY):
                while self._process is None or self._process.returncode is None:
                    with contextlib.suppress(AbsentError):
                        await self._look()
                        if self._info["Pid"] != before:
                            return
                    await asyncio.sleep(0.05)
        told = "; ".join(self._told[-3:]) or "it says nothing"
        raise DeployError(f"HAProxy did not come up: {told}.", "see what listens on its ports (ss -ltnp), and the log.")

    async def _reload(self, fronts: Sequence[Front]) -> None:
        """Have a new worker take the sockets over; the old one ends its requests."""
        await asyncio.to_thread(self._write, fronts)
        await self._check()
        before = self._info.get("Pid", "")
        os.kill(await self._master(), signal.SIGUSR2)
        await self._until_other(before)

    async def _master(self) -> int:
        """The master's process id, where it is ours indeed. Raises DeployError."""
        if self._process is not None and self._process.returncode is None:
            return self._process.pid

        def look() -> int:
            pid = int(self._pid_file.read_text().split()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return pid if str(self._config).encode() in command else 0

        try:
            pid = await asyncio.to_thread(look)
        except (OSError, ValueError, IndexError) as error:
            raise DeployError(
                f"The balancer's own process is not known: {error}.", f"end what has {self.socket} open."
            ) from error
        if not pid:
            raise DeployError("The process id on file is another program's.", f"end what has {self.socket} open.")
        return pid

    async def _end(self) -> None:
        """End it, softly first; one that was adopted too."""
        try:
            pid = await self._master()
        except DeployError:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(GOING):
                while _exists(pid):  # noqa: ASYNC110 another process's end, which may not be a child of ours
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.warning("HAProxy did not end within %g s, and is killed", GOING)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # its workers too: the group is its own, see `_start`
        if self._process is not None:
            await self._process.wait()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=READY)  # its workers may end after it
        self._process, self._reader, self._adopted = None, None, False

    async def stop(self) -> None:
        """End it with the appliance."""
        async with self._lock:
            await self._end()
            self._fronts = ()

    # -- while it runs

    async def _update(self, fronts: Sequence[Front]) -> None:
        commands: list[str] = []
        for front, before in zip(fronts, self._fronts, strict=True):
            commands += _changes(front, before)
        gone = {
            (old.service, each.name)
            for new, old in zip(fronts, self._fronts, strict=True)
            for each in old.servers
            if each.name not in {server.name for server in new.servers}
        }
        if not commands and not gone and not self._leftovers:
            return
        for command in commands:
            await self._tell(command)
        await self._remove(gone)
        await asyncio.to_thread(self._write, fronts)

    async def _tell(self, command: str) -> None:
        answer = (await haproxy.ask(self.socket, command)).strip()
        if answer and answer != "New server registered.":
            raise DeployError(f"HAProxy refuses {command!r}: {answer[:200]}", "it gets its whole configuration anew.")

    async def _remove(self, gone: set[tuple[str, str]]) -> None:
        """Take servers out; one that still has connections stays in maintenance and is taken out later."""
        self._leftovers |= gone
        for service, name in sorted(self._leftovers):
            maint, delete = haproxy.removals(service, name)
            await haproxy.ask(self.socket, maint)
            answer = (await haproxy.ask(self.socket, delete)).strip()
            if "deleted" in answer or "No such" in answer or "not found" in answer.lower():
                self._leftovers.discard((service, name))
            else:
                log.debug("haproxy: %s/%s stays for now: %s", service, name, answer)

    async def stats(self) -> dict[tuple[str, str], Stat]:
        """(service, server) → what it counted; empty where no service wants it. Raises AbsentError, DeployError."""
        if not self._fronts:
            return {}
        return haproxy.parse_stats(await haproxy.ask(self.socket, "show stat"))


def _changes(front: Front, before: Front) -> list[str]:
    """Commands that turn one set of servers into another, but for those that go."""
    commands: list[str] = []
    old, given, held = (
        {each.name: each for each in before.servers},
        haproxy.weights(front.servers),
        haproxy.weights(before.servers),
    )
    for server in front.servers:
        place = f"{front.service}/{server.name}"
        known = old.get(server.name)
        if known is None:
            commands += haproxy.additions(front, server)
            continue
        if given[server.name] != held[server.name]:
            commands.append(f"set server {place} weight {given[server.name]}")
        if server.draining != known.draining:
            commands.append(f"set server {place} state {'drain' if server.draining else 'ready'}")
    return sorted(commands, key=_order)


def _order(command: str) -> int:
    """Who is to get more comes first, who is to get nothing last: there is always somebody to answer."""
    return 0 if command.startswith("add") else 2 if command.endswith(("weight 0", "drain")) else 1


def _exists(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except OSError:
        return False
