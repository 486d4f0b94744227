"""The fronts on a real appliance: REST on the control socket, the command line, and their agreement with the state."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from appliance import cli, paths
from appliance.api.app import RestApi
from appliance.core.clock import SystemClock
from appliance.core.model import Actor, Health, Phase, Role, ServiceStatus
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState, Section
from appliance.errors import ActionTimeoutError, NotRunningError
from appliance.verbs.client import InsideClient, SocketClient
from appliance.verbs.context import Context
from tests.screens.conftest import Bench, bench  # noqa: F401
from tests.support import wait_for


async def line(bench: Bench, *words: str, inside: Role | None = None) -> tuple[int, str]:  # noqa: F811
    """One command line against the running appliance; (exit code, what it wrote)."""
    where = bench.appliance.paths
    client: Any = SocketClient(where.api_socket)
    if inside is not None:
        client = InsideClient(bench.appliance.dispatcher, bench.appliance.loop, Actor("ada", inside, "ssh"), Future.result)
    out = io.StringIO()
    context = Context(client, where, {"PRIME_SPARK_HOME": os.environ["PRIME_SPARK_HOME"]}, out, 120, colour=False)
    return await asyncio.to_thread(cli.run, words, context, out), out.getvalue()


async def test_text_json_and_state_agree(bench: Bench) -> None:  # noqa: F811
    statuses = {status.name: status.health.value for status in bench.appliance.supervisor.statuses()}  # type: ignore[union-attr]
    code, text = await line(bench, "services", "--json")
    assert code == 0
    assert {each["name"]: each["health"] for each in msgspec.json.decode(text)} == statuses
    code, text = await line(bench, "status", inside=Role.viewer)
    assert code == 0
    assert all(name in text for name in statuses)
    code, text = await line(bench, "actions", "--json")
    assert {each["name"] for each in msgspec.json.decode(text)} == {action.name for action in bench.appliance.registry}


@pytest.mark.parametrize(
    ("words", "inside", "code", "told"),
    [
        (("service", "restart", "nope"), None, 1, "the services are"),
        (("service", "restart", "telemetry"), Role.viewer, 4, "needs the role operator"),
        (("appliance", "stop"), Role.admin, 5, "All services and all consoles end"),
        (("user", "add", "Bad Name"), None, 2, "not a user name"),
        (("nonsense",), None, 2, "No such command"),
        (("job", "show", "abcd"), None, 1, "No job"),
        (("infer", "/etc/passwd"), None, 1, "not a picture"),
        (("config", "set", "ssh.prt", "1"), None, 2, "did you mean ssh.port"),
    ],
)
async def test_faults_are_told_with_their_exit_code(
    bench: Bench,  # noqa: F811
    words: tuple[str, ...],
    inside: Role | None,
    code: int,
    told: str,
) -> None:
    found, text = await line(bench, *words, inside=inside)
    assert (found, told in text) == (code, True), text


async def test_raw_rest_refuses_nonsense_and_streams_events(bench: Bench) -> None:  # noqa: F811
    path = str(bench.appliance.paths.api_socket)
    assert Path(path).stat().st_mode & 0o777 == 0o600

    async def ask(request: str) -> str:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request.encode())
        answer = await asyncio.wait_for(reader.read(65536), 5)
        writer.close()
        return answer.decode()

    head = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    assert " 404 " in await ask(f"GET /api/v1/state/nope {head}\r\n")
    assert " 400 " in await ask(f"POST /api/v1/actions/host.show {head}Content-Length: 3\r\n\r\n{{x}}")
    assert " 409 " in await ask(f"POST /api/v1/actions/appliance.stop {head}\r\n")
    assert "operationId" in await ask(f"GET /api/v1/openapi.json {head}\r\n")
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET /api/v1/events {head}\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"event: edge.telemetry"), 10)
    writer.close()


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    client = SocketClient(tmp_path / "api.sock")
    with pytest.raises(NotRunningError, match="No appliance"):
        await asyncio.to_thread(client.actions)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "api.sock"))
    stale.close()
    with pytest.raises(NotRunningError, match="No appliance"):
        await asyncio.to_thread(client.actions)


@pytest.mark.parametrize("running", [True, False])
async def test_every_verb_has_json(bench: Bench, running: bool, tmp_path: Path) -> None:  # noqa: F811
    context = Context(
        SocketClient(bench.appliance.paths.api_socket), bench.appliance.paths, {}, io.StringIO(), 120, colour=False
    )

    def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
        if not isinstance(command, click.Group):
            return {path: command}
        ctx = click.Context(command, obj=context)
        names = {name: command.get_command(ctx, name) for name in command.list_commands(ctx)}
        return {key: leaf for name, each in names.items() for key, leaf in leaves(each, (*path, name)).items()}

    found = await asyncio.to_thread(leaves, cli.root())
    bare = {path for path, each in found.items() if not any("--json" in param.opts for param in each.params)}
    assert bare == {("run",), ("headless",), ("attach",), ("fleet", "shell")}  # these are a terminal
    where = bench.appliance.paths
    if not running:
        where = paths.find({"PRIME_SPARK_HOME": str(tmp_path / "other")})
    out = io.StringIO()
    elsewhere = Context(
        SocketClient(where.api_socket), where, {"PRIME_SPARK_HOME": str(where.data.parent)}, out, 120, colour=False
    )
    where.config.unlink(missing_ok=True)
    assert await asyncio.to_thread(cli.run, ["config", "init", "--json"], elsewhere, out) == 0
    assert msgspec.json.decode(out.getvalue()) == {"file": str(where.config)}
    out.seek(out.truncate(0) or 0)
    assert await asyncio.to_thread(cli.run, ["config", "set", "ssh.port", "2222", "--json"], elsewhere, out) == 0
    assert msgspec.json.decode(out.getvalue())["key"] == "ssh.port"
    out.seek(out.truncate(0) or 0)
    assert await asyncio.to_thread(cli.run, ["completion", "bash", "--json"], elsewhere, out) == 0
    assert "_PRIME_SPARK_COMPLETE" in msgspec.json.decode(out.getvalue())["script"]


def _status(phase: Phase, health: Health, name: str = "a") -> ServiceStatus:
    return ServiceStatus(name, "", phase, health, "because")


@pytest.mark.parametrize(
    ("statuses", "told", "code"),
    [
        ([], "starting", 503),
        ([_status(Phase.running, Health.healthy), _status(Phase.running, Health.absent, "b")], "healthy", 200),
        ([_status(Phase.running, Health.healthy), _status(Phase.running, Health.degraded, "b")], "degraded", 200),
        ([_status(Phase.running, Health.healthy), _status(Phase.waiting, Health.degraded, "b")], "starting", 503),
        ([_status(Phase.starting, Health.degraded)], "starting", 503),
        ([_status(Phase.starting, Health.degraded), _status(Phase.resting, Health.unhealthy, "b")], "unhealthy", 503),
    ],
)
async def test_health_is_what_the_worst_service_has(statuses: list[ServiceStatus], told: str, code: int) -> None:
    state = LiveState(SystemClock())
    state.put(Section.services, tuple(statuses))
    nothing: Any = None
    answer = await RestApi(nothing, state, nothing, "here", nothing).health(nothing)
    body = msgspec.json.decode(answer.body)
    assert (body["status"], answer.status_code) == (told, code)
    if statuses and told != "healthy":
        assert "because" in body[told].values()


OTHER_USER = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])
sock.send(b"POST /api/v1/actions/host.show HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(sock.recv(4096).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_the_audit_names_whoever_is_at_the_other_end(bench: Bench) -> None:  # noqa: F811
    where = bench.appliance.paths.api_socket
    assert (await line(bench, "service", "restart", "telemetry"))[0] == 0
    newest = next(row for row in await bench.appliance.audit.entries(10) if row.action == "service.restart")
    assert (newest.actor, newest.origin) == (pwd.getpwuid(os.geteuid()).pw_name, f"process {os.getpid()}")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        near = Path(directory) / "s"
        near.hardlink_to(where)  # a way in for everybody, past the directory
        near.chmod(0o666)
        command = ["/usr/bin/python3", "-c", OTHER_USER, str(near)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=20)
    assert " 403 " in done.stdout, done


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[Path]:
    """A socket that takes connections and never answers: an appliance that hangs."""
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(8)
        yield path


async def test_an_appliance_that_hangs_is_not_waited_for(mute: Path) -> None:
    client = SocketClient(mute, quick=0.05)
    for ask in (client.actions, lambda: client.invoke("appliance.status", {})):
        with pytest.raises(ActionTimeoutError, match="did not answer within"):
            await asyncio.wait_for(asyncio.to_thread(ask), 10)
    client.close()


async def test_an_action_has_its_own_time_and_no_more(mute: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.verbs.client.AUDITED", 0.01)
    client = SocketClient(mute)
    client._limits["job.cancel"] = 0.04
    with pytest.raises(ActionTimeoutError, match=r"within 0\.05 s"):
        await asyncio.wait_for(asyncio.to_thread(client.invoke, "job.cancel", {}), 10)
    client.close()


async def test_completing_at_an_appliance_that_hangs_gives_nothing_and_no_traceback(home: Path) -> None:
    where = paths.find()
    where.make()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(where.api_socket))
        sock.listen(8)
        environ = {**os.environ, "_PRIME_SPARK_COMPLETE": "bash_complete", "COMP_WORDS": "prime-spark job ", "COMP_CWORD": "2"}
        command = [sys.executable, "-m", "appliance"]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environ, capture_output=True, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


async def test_a_damaged_database_is_told(home: Path) -> None:
    where = paths.find()
    where.make()
    Secrets(where.secrets, {}).get_or_create("audit.key")
    where.database.write_bytes(b"garbage" * 1000)
    out = io.StringIO()
    context = Context(SocketClient(where.api_socket), where, {}, out, 120, colour=False)
    assert await asyncio.to_thread(cli.run, ["audit", "verify"], context, out) == 1
    assert "is damaged" in out.getvalue()


async def test_a_caller_that_goes_midway_is_no_fault(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    """Half of a body, then nothing: no error is logged, and the next caller is answered."""

    def half() -> None:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(bench.appliance.paths.api_socket))
            caller.sendall(b"POST /api/v1/actions/service.list HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")

    caplog.set_level("DEBUG", "appliance.api.problems")
    await asyncio.to_thread(half)
    await wait_for(lambda: "was not sent whole" in caplog.text)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    code, _ = await line(bench, "services")
    assert code == 0
