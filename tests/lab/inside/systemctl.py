"""systemctl's commands, answered by process 1 in systemd's own words and columns (version 252)."""

from __future__ import annotations

import fnmatch
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.inside import journal
from tests.lab.inside.manager import Manager
from tests.lab.inside.service import Service, StartError, main_name
from tests.lab.inside.unitfile import OWN, full_name

TAKES = {"-t", "--type", "-p", "--property", "-P", "--state", "-o", "--output", "-n", "--lines", "-s", "--signal",
         "--kill-who", "--job-mode", "--root", "-M", "--reboot-argument"}  # fmt: skip
SHORT = {"-t": "--type", "-p": "--property", "-a": "--all", "-q": "--quiet", "-l": "--full", "-o": "--output",
         "-n": "--lines", "-s": "--signal", "-f": "--force"}  # fmt: skip
DOWN = {"poweroff": "poweroff", "halt": "poweroff", "reboot": "reboot", "kexec": "reboot"}


@dataclass
class Asked:
    """A command line, taken apart."""

    words: list[str] = field(default_factory=list)
    options: dict[str, list[str]] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Whether an option stands there."""
        return name in self.options

    def values(self, name: str) -> list[str]:
        """Values of an option, those between commas too."""
        return [part for value in self.options.get(name, []) for part in value.split(",") if part]


@dataclass
class Reply:
    """What is printed, and the exit code."""

    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def take_apart(argv: Sequence[str]) -> Asked:
    """Words and options of a command line."""
    asked, rest = Asked(), list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            asked.words += rest
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if not equals and name in TAKES and rest:
                value = rest.pop(0)
            asked.options.setdefault(name, []).append(value)
        elif word.startswith("-P") and len(word) >= 2:
            asked.options.setdefault("--property", []).append(word[2:] or (rest.pop(0) if rest else ""))
            asked.options["--value"] = [""]
        elif word.startswith("-") and len(word) > 1:
            short = word[:2]
            if short in TAKES:
                asked.options.setdefault(SHORT.get(short, short), []).append(word[2:] or (rest.pop(0) if rest else ""))
            else:
                for sign in word[1:]:
                    asked.options.setdefault(SHORT.get(f"-{sign}", f"-{sign}"), []).append("")
        else:
            asked.words.append(word)
    return asked


class Systemctl:
    """Answers.

    Args:
        manager: Of the node.
    """

    def __init__(self, manager: Manager) -> None:
        self.manager = manager

    async def answer(self, argv: Sequence[str]) -> Reply:
        """Carry a command line out."""
        asked, reply = take_apart(argv), Reply()
        verb, names = (asked.words or ["list-units"])[0], asked.words[1:]
        if asked.flag("--version"):
            return Reply(["systemd 252 (prime-spark-lab)"])
        if verb in DOWN:
            self.manager.schedule(DOWN[verb], 0.05)
        elif verb in ("start", "stop", "restart", "try-restart", "reload", "reload-or-restart", "kill"):
            for name in names:
                await self._job(verb, name, asked, reply)
        elif verb in ("enable", "disable", "reenable", "mask", "unmask"):
            await self._switch(verb, names, asked, reply)
        else:
            call = getattr(self, "do_" + verb.replace("-", "_"), None)
            if call is None:
                return Reply(err=[f"Unknown command verb {verb}."], code=1)
            call(names, asked, reply)
        return reply

    async def _job(self, verb: str, name: str, asked: Asked, reply: Reply) -> None:
        service = self.manager.load(name)
        if service.file.load == "not-found":
            what = "restart" if "restart" in verb else verb
            reply.err.append(f"Failed to {what} {service.name}: Unit {service.name} not found.")
            reply.code = 5
            return
        if verb == "kill":
            await self._kill(service, asked)
            return
        if verb == "try-restart" and service.active != "active":
            return
        try:
            if verb in ("stop", "restart", "try-restart"):
                await service.stop()
            if verb == "reload" or (
                verb == "reload-or-restart" and service.active == "active" and service.file.all("ExecReload")
            ):
                await service.reload()
            elif verb != "stop":
                await self.manager.start(service.name)
        except StartError as error:
            self._failed(service, error, verb, reply)

    @staticmethod
    async def _kill(service: Service, asked: Asked) -> None:
        import signal

        from tests.lab.inside.processes import send

        word = (asked.values("--signal") or ["SIGTERM"])[-1].upper()
        number = int(word) if word.isdigit() else getattr(signal, word if word.startswith("SIG") else f"SIG{word}")
        send(service.pids(), number)

    @staticmethod
    def _failed(service: Service, error: StartError, verb: str, reply: Reply) -> None:
        reply.code = 1
        if service.file.masked or "invalid" in str(error):
            reply.err.append(str(error) if "invalid" in str(error) else f"Failed to {verb} {service.name}: {error}")
            return
        reason = {"timeout": "a timeout was exceeded", "start-limit-hit": "start of the service was attempted too often"}
        why = reason.get(service.result, "the control process exited with error code")
        reply.err.append(f"Job for {service.name} failed because {why}.")
        reply.err.append(f'See "systemctl status {service.name}" and "journalctl -xeu {service.name}" for details.')

    async def _switch(self, verb: str, names: list[str], asked: Asked, reply: Reply) -> None:
        own = self.manager.folders.root / OWN
        for name in map(full_name, names):
            file = self.manager.folders.load(name)
            if file.load == "not-found" and verb != "unmask":
                reply.err.append(f"Failed to {verb} unit: Unit file {name} does not exist.")
                reply.code = 1
                continue
            if verb == "mask":
                _link(own / name, Path("/dev/null"), reply)
            elif verb in ("unmask", "disable"):
                kept = {own / name} if verb == "disable" else set()
                wants = [each for kind in ("wants", "requires") for each in own.glob(f"*.{kind}/{file.name}")]
                links = [own / name] if verb == "unmask" else [*wants, *self.manager.folders.links(file)]
                for link in dict.fromkeys(links):
                    if link.is_symlink() and link not in kept:
                        link.unlink()
                        reply.err.append(f'Removed "{link}".')
            else:
                links_made = self.manager.folders.links(file)
                if not links_made:
                    reply.err.append(
                        "The unit files have no installation config (WantedBy=, RequiredBy=, Also=, Alias= settings)"
                    )
                for link, aim in links_made.items():
                    _link(link, aim, reply)
        self.manager.reload()
        if asked.flag("--now") and not reply.code:
            for name in names:
                await self._job("stop" if verb in ("disable", "mask") else "start", name, asked, reply)

    def do_daemon_reload(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """Read the unit files again."""
        self.manager.reload()

    def do_reset_failed(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """Forget failures."""
        for service in [self.manager.load(name) for name in names] or list(self.manager.services.values()):
            if service.active == "failed":
                service.become("inactive", "dead")
            service._starts.clear()

    def do_is_active(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """The state of each; 0 where one is active."""
        states = [self.manager.load(name).active for name in names]
        reply.out = [] if asked.flag("--quiet") else states
        reply.code = 0 if "active" in states else 3

    def do_is_failed(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """The state of each; 0 where one failed."""
        states = [self.manager.load(name).active for name in names]
        reply.out = [] if asked.flag("--quiet") else states
        reply.code = 0 if "failed" in states else 1

    def do_is_enabled(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """How each is enabled."""
        reply.code = 1
        for name in map(full_name, names):
            state = self.manager.folders.state(name)
            if not state:
                reply.err.append(f"Failed to get unit file state for {name}: No such file or directory")
                continue
            reply.out += [] if asked.flag("--quiet") else [state]
            if state in ("enabled", "static", "alias", "indirect", "generated"):
                reply.code = 0

    def do_is_system_running(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """running, or degraded where a unit failed."""
        failed = any(service.active == "failed" for service in self.manager.services.values())
        reply.out, reply.code = ["degraded" if failed else "running"], int(failed)

    def do_list_units(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """Loaded units."""
        kinds, states = asked.values("--type"), asked.values("--state") + (["failed"] if asked.flag("--failed") else [])
        rows = []
        for name, service in sorted(self.manager.services.items()):
            if (kinds and name.rpartition(".")[2] not in kinds) or (
                names and not any(fnmatch.fnmatch(name, each) for each in names)
            ):
                continue
            if states and not {service.active, service.sub, service.file.load} & set(states):
                continue
            if not states and not asked.flag("--all") and service.active == "inactive":
                continue
            rows.append((name, service.file.load, service.active, service.sub, service.file.description))
        if "json" in asked.values("--output"):
            keys = ("unit", "load", "active", "sub", "description")
            reply.out = [json.dumps([dict(zip(keys, row, strict=True)) for row in rows])]
            return
        reply.out = table(("UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"), rows, asked, dots=True)
        if not asked.flag("--no-legend") and "false" not in asked.values("--legend"):
            reply.out += ["", f"{len(rows)} loaded units listed."]

    def do_list_unit_files(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """Unit files and how they are enabled."""
        kinds, states = asked.values("--type"), asked.values("--state")
        rows = []
        for name in self.manager.folders.names():
            if (kinds and name.rpartition(".")[2] not in kinds) or (
                names and not any(fnmatch.fnmatch(name, each) for each in names)
            ):
                continue
            state = self.manager.folders.state(name)
            if not states or state in states:
                rows.append((name, state, "enabled"))
        if "json" in asked.values("--output"):
            reply.out = [json.dumps([dict(zip(("unit_file", "state", "preset"), row, strict=True)) for row in rows])]
            return
        reply.out = table(("UNIT FILE", "STATE", "PRESET"), rows, asked, dots=False)
        if not asked.flag("--no-legend") and "false" not in asked.values("--legend"):
            reply.out += ["", f"{len(rows)} unit files listed."]

    def do_show(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """Properties."""
        wanted = asked.values("--property")
        services = [self.manager.load(name) for name in names if not fnmatch.fnmatch("*", name)] or (
            list(self.manager.services.values()) if names else []
        )
        if not names:
            reply.out = _lines(
                {"Version": "252", "SystemState": "running", "NFailedUnits": str(self._failures())}, wanted, asked
            )
        for number, service in enumerate(services):
            reply.out += [""] if number else []
            reply.out += _lines(self._properties(service), wanted, asked)

    def _failures(self) -> int:
        return sum(service.active == "failed" for service in self.manager.services.values())

    def _properties(self, service: Service) -> dict[str, str]:
        file, state = service.file, self.manager.folders.state(service.name)
        limits = {"active": service.since}.get(service.active)
        return {
            "Type": file.get("Type", "simple"), "Restart": file.get("Restart", "no"), "MainPID": str(service.main_pid),
            "ExecMainPID": str(service.main_pid), "ExecMainStatus": str(service.exit_status), "Result": service.result,
            "NRestarts": str(service.restarts), "KillMode": file.get("KillMode", "control-group"), "User": file.get("User"),
            "WorkingDirectory": file.get("WorkingDirectory"), "Environment": " ".join(file.all("Environment")),
            "Id": service.name, "Names": service.name, "Description": file.description, "LoadState": file.load,
            "ActiveState": service.active, "SubState": service.sub, "UnitFileState": state,
            "UnitFilePreset": "enabled" if state else "", "FragmentPath": str(file.path or ""),
            "InvocationID": service.invocation,
            "ActiveEnterTimestamp": stamp(limits) if limits else "", "StateChangeTimestamp": stamp(service.changed),
            "MemoryCurrent": memory(service), "TasksCurrent": str(len(service.pids())) if service.pids() else "[not set]",
        }  # fmt: skip

    def do_cat(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """The files of units."""
        for name in names:
            file = self.manager.load(name).file
            if not file.path:
                reply.err, reply.code = [f"No files found for {full_name(name)}."], 1
                continue
            reply.out += [f"# {file.path}", *file.path.read_text().splitlines()]

    def do_status(self, names: list[str], asked: Asked, reply: Reply) -> None:
        """What people read."""
        for number, name in enumerate(names):
            service = self.manager.load(name)
            if service.file.load == "not-found":
                reply.err.append(f"Unit {service.name} could not be found.")
                reply.code = 4
                continue
            reply.out += [""] if number else []
            reply.out += self._told(service, int((asked.values("--lines") or ["10"])[-1]))
            reply.code = reply.code or (0 if service.active in ("active", "activating") else 3)

    def _told(self, service: Service, most: int) -> list[str]:
        file, state = service.file, self.manager.folders.state(service.name)
        since = time.time() - service.changed
        extra = f" (Result: {service.result})" if service.active == "failed" else ""
        word = f"{service.active} ({service.sub})" if not extra else f"failed{extra}"
        mark = {"failed": "×", "active": "●"}.get(service.active, "○")
        lines = [
            f"{mark} {service.name} - {file.description}",
            f"     Loaded: {file.load} ({file.path}; {state or 'bad'}; preset: enabled)",
            f"     Active: {word} since {stamp(service.changed)}; {span_of(since)} ago",
        ]
        pids = service.pids()
        if service.main_pid:
            lines.append(f"   Main PID: {service.main_pid} ({main_name(service)})")
        if pids:
            lines.append(f"      Tasks: {len(pids)}")
        said = [entry for entry in journal.read() if entry.unit == service.name][-most:] if most else []
        return lines + ([""] if said else []) + [journal.shown(entry, "short") for entry in said]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], asked: Asked, *, dots: bool) -> list[str]:
    """Columns as systemctl pads them; with --plain no marks before the lines."""
    legend = not asked.flag("--no-legend") and "false" not in asked.values("--legend")
    every = [head, *rows] if legend else list(rows)
    widths = [max((len(row[column]) for row in every), default=0) for column in range(len(head) - 1)]
    lines = []
    for row in every:
        text = " ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        mark = "● " if len(row) > 2 and "failed" in row[2:3] else "  "
        lines.append((mark if dots and not asked.flag("--plain") else "") + text)
    return lines


def _lines(properties: dict[str, str], wanted: list[str], asked: Asked) -> list[str]:
    chosen = [(name, properties[name]) for name in wanted if name in properties] if wanted else list(properties.items())
    return [
        value if asked.flag("--value") else f"{name}={value}"
        for name, value in chosen
        if value or wanted or asked.flag("--all")
    ]


def _link(link: Path, aim: Path, reply: Reply) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and os.readlink(link) == str(aim):
        return
    if link.exists() and not link.is_symlink():
        reply.err.append(f"Failed to mask unit: File {link} already exists.")
        reply.code = 1
        return
    link.unlink(missing_ok=True)
    link.symlink_to(aim)
    reply.err.append(f"Created symlink {link} → {aim}.")


def stamp(moment: float) -> str:
    """As systemd prints instants."""
    return time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.localtime(moment))


def span_of(seconds: float) -> str:
    """As systemd prints spans."""
    if seconds < 60:
        return f"{int(seconds)}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}min {int(seconds % 60)}s"
    return f"{int(seconds // 3600)}h {int(seconds % 3600 // 60)}min"


def memory(service: Service) -> str:
    """Resident bytes of its processes."""
    total = 0
    for pid in service.pids():
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue  # it ended meanwhile
    return str(total) if total else "[not set]"
