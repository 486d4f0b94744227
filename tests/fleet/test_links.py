"""One connection to each machine: kept, shared, bounded, and what it says when something is wrong; on real sshds."""

from __future__ import annotations

import asyncio
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node, Reach
from appliance.core.secrets import Secrets
from appliance.errors import NotAllowedError, NotFoundError, ShellError, UnreachableError
from tests.fleet.conftest import reach
from tests.servers.proxy import FaultyProxy
from tests.servers.sshd import SshServer
from tests.support import ManualClock, wait_for

Serve = Callable[..., SshServer]


@pytest.fixture
def serve(own: OwnKey) -> Iterator[Serve]:
    """Starts sshds with settings of their own."""
    made: list[SshServer] = []

    def start(**how: object) -> SshServer:
        server = SshServer(Path(tempfile.mkdtemp(prefix="sshd-")), own.public() + "\n", **how)  # type: ignore[arg-type]
        made.append(server)
        server.start()
        return server

    yield start
    for server in made:
        server.kill()
        shutil.rmtree(server.directory)


@pytest.fixture
async def linked(own: OwnKey, tmp_path: Path) -> AsyncIterator[Callable[..., Links]]:
    """Makes links, and closes them."""
    made: list[Links] = []

    def make(*nodes: Node, **pace: float) -> Links:
        made.append(Links(FleetInventory(nodes), own, Secrets(tmp_path / "secrets", {}), pace=Pace(**pace)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        await each.close()


Linked = Callable[..., Links]


@contextmanager
def swallowing() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as server, ExitStack() as kept:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            caller = kept.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_machines_that_do_not_answer_keep_no_turn_of_those_that_do(linked: Linked, serve: Serve) -> None:
    server = serve()
    with swallowing() as port:
        dead = [Node(name=f"dead{number}", host="127.0.0.1", port=port, user="root") for number in range(4)]
        links = linked(reach(server), *dead, connects=2, login=30.0)
        asked = [asyncio.create_task(links.run(each.name, ["true"])) for each in dead]
        await wait_for(lambda: all(links.link(each.name).reach is Reach.connecting for each in dead))
        assert (await links.run("agent", ["true"])).exit_status == 0
        assert not any(each.done() for each in asked)
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)


async def test_commands_side_by_side_share_one_connection_and_take_turns(linked: Linked, serve: Serve) -> None:
    server = serve()
    links = linked(reach(server))
    answers = await asyncio.gather(*(links.run("agent", ["sh", "-c", f"echo {number}"]) for number in range(12)))
    assert [int(each.stdout) for each in answers] == list(range(12))
    log = server.child.log.read_text()
    assert log.count("Accepted publickey") == 1
    status = links.link("agent")
    assert (status.reach, status.sessions, status.address) == (Reach.up, 0, "127.0.0.1")
    assert status.latency_ms is not None
    assert status.latency_ms < 1000


async def test_its_instants_are_those_of_the_cores_clock(own: OwnKey, serve: Serve) -> None:
    """Another one than the event loop's: that one stands still while the machine is suspended."""
    clock = ManualClock()
    links = Links(FleetInventory([reach(serve())]), own, clock=clock)
    try:
        assert links.link("agent").since == 1000.0
        await links.run("agent", ["true"])
        clock.move(5.0)
        await links.run("agent", ["true"])
        status = links.link("agent")
        assert (status.reach, status.since) == (Reach.up, 1000.0)
        assert status.answered is not None
        assert 1000.0 < status.answered <= 1005.0  # the kernel says how long ago, by a clock that was not moved
        live = links._links["agent"]._live
        assert live is not None
        live.opened.connection.abort()  # its transport is let go of at once, the rest follows in the loop's next turn
        clock.move(100.0)
        assert links.link("agent").answered == live.answered
    finally:
        await links.close()


async def test_a_server_with_one_session_is_waited_for(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    links = linked(reach(serve(settings=["MaxSessions 1"])))
    answers = await asyncio.gather(*(links.run("agent", ["echo", str(number)]) for number in range(4)))
    assert sorted(int(each.stdout) for each in answers) == list(range(4))
    shell = await links.terminal("agent", "vt100", 80, 24)
    with pytest.raises(UnreachableError, match="sessions that it allows were taken"):
        await links.run("agent", ["touch", str(tmp_path / "ran")], limit=1.0)
    await shell.close()
    assert (await links.run("agent", ["echo", "again"])).stdout == b"again\n"
    assert not (tmp_path / "ran").exists()


async def test_a_server_without_sessions_is_no_success(linked: Linked, serve: Serve) -> None:
    links = linked(reach(serve(settings=["MaxSessions 0"])))
    with pytest.raises(UnreachableError, match="opens no session"):
        await links.run("agent", ["true"])


async def test_a_cancelled_command_is_ended_there(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    links, mark = linked(reach(serve())), tmp_path / "pid"
    script = f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 300"
    running = asyncio.create_task(links.run("agent", ["sh", "-c", script], limit=300.0))
    await wait_for(mark.exists, 60.0)
    there = Path("/proc") / mark.read_text().strip()
    assert there.exists()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_for(lambda: not there.exists(), 60.0)
    await wait_for(lambda: links.link("agent").sessions == 0, 60.0)


async def test_one_that_is_cancelled_before_it_began_is_ended_once_it_does(
    linked: Linked, serve: Serve, tmp_path: Path
) -> None:
    slow = f"read line; touch {tmp_path}/came; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    links = linked(reach(serve(settings=[f'ForceCommand {slow}; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"'])))
    mark = tmp_path / "pid"
    script = f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 300"
    running = asyncio.create_task(links.run("agent", ["sh", "-c", script], stdin=b"line\n", limit=300.0))
    await wait_for((tmp_path / "came").exists, 60.0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (tmp_path / "go").touch()
    await wait_for(mark.exists, 60.0)
    there = Path("/proc") / mark.read_text().strip()
    await wait_for(lambda: not there.exists(), 60.0)
    await wait_for(lambda: links.link("agent").sessions == 0, 60.0)


async def test_one_that_ignores_the_signal_is_killed(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    links, mark = linked(reach(serve()), ending=0.2), tmp_path / "pid"
    script = f"trap '' TERM HUP; echo $$ > {mark}.new; mv {mark}.new {mark}; while :; do sleep 0.1; done"
    running = asyncio.create_task(links.stream("agent", ["sh", "-c", script], lambda _, __: None))
    await wait_for(mark.exists, 60.0)
    there = Path("/proc") / mark.read_text().strip()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_for(lambda: not there.exists(), 60.0)


async def test_output_streams_as_it_comes_and_is_bounded_where_that_is_asked(linked: Linked, serve: Serve) -> None:
    links, came = linked(reach(serve())), []
    first = asyncio.Event()

    async def take(name: str, data: bytes) -> None:
        came.append((name, data))
        first.set()

    script = ["sh", "-c", "echo one; read x; echo two >&2; exit 3"]
    streaming = asyncio.create_task(links.stream("agent", script, take))
    await first.wait()
    assert await streaming == 3
    assert came == [("stdout", b"one\n"), ("stderr", b"two\n")]
    size = 0

    def count(_: str, data: bytes) -> None:
        nonlocal size
        size += len(data)

    line = ["sh", "-c", "head -c 10000000 /dev/zero | tr '\\0' x"]
    assert await links.stream("agent", line, count) == 0
    assert size == 10_000_000
    with pytest.raises(ShellError, match="more than 1 MiB"):
        await links.stream("agent", line, count, most=1 << 20)
    assert (await links.run("agent", ["echo", "still there"])).stdout == b"still there\n"


async def test_a_talkative_start_up_file_is_not_the_commands_output(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    banner = tmp_path / "shell"
    banner.write_text('#!/bin/sh\necho "Welcome to this machine"; echo oh >&2\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
    banner.chmod(0o755)
    links = linked(reach(serve(settings=[f"ForceCommand {banner}"])))
    answer = await links.run("agent", ["sh", "-c", "cat; echo done >&2"], stdin=b"given")
    assert (answer.stdout, answer.stderr) == (b"given", b"done\n")


async def test_an_account_that_runs_nothing_is_told_as_that(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    nologin = tmp_path / "nologin"
    nologin.write_text('#!/bin/sh\necho "This account is currently not available."\nexit 1\n')
    nologin.chmod(0o755)
    links = linked(reach(serve(settings=[f"ForceCommand {nologin}"])))
    with pytest.raises(NotAllowedError, match=r"runs no command: This account is currently not available; nothing was run"):
        await links.run("agent", ["true"])


async def test_programs_answer_in_the_c_locale(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    links = linked(reach(serve(settings=[f"SetEnv HOME={tmp_path} LC_ALL=de_DE.UTF-8"])))
    assert (await links.run("agent", ["sh", "-c", "echo $LC_ALL"])).stdout == b"C\n"
    said: list[bytes] = []
    await links.stream("agent", ["sh", "-c", "echo $LC_ALL"], lambda _, data: said.append(data))
    assert said == [b"de_DE.UTF-8\n"]


async def test_a_server_that_asks_questions_is_refused_and_never_hangs(linked: Linked, serve: Serve) -> None:
    questions = ["PubkeyAuthentication no", "KbdInteractiveAuthentication yes", "PasswordAuthentication yes"]
    links = linked(reach(serve(settings=questions)))
    with pytest.raises(UnreachableError, match=r"does not let .* it wants .*password"):
        await links.run("agent", ["true"])
    assert links.link("agent").reach is Reach.refused


async def test_a_host_that_accepts_and_says_nothing(linked: Linked) -> None:
    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    quiet = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = quiet.sockets[0].getsockname()[1]
    links = linked(Node(name="quiet", host="127.0.0.1", port=port, host_key="SHA256:" + "a" * 43), login=0.3)
    with pytest.raises(UnreachableError, match=r"no answer within 0.3 s"):
        await links.run("quiet", ["true"])
    status = links.link("quiet")
    assert (status.reach, status.retry_at is not None) == (Reach.unreachable, True)
    assert not links.due("quiet")
    quiet.close()


async def test_a_half_open_link_is_noticed_and_made_anew(linked: Linked, serve: Serve) -> None:
    server = serve()
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        links = linked(reach(server, port=proxy.port), keepalive=0.2, missed=1, stale=0.3, first=0.01, longest=0.02)
        await links.run("agent", ["true"])
        server.pause()
        assert await wait_for(lambda: links.link("agent").reach is Reach.stale)
        assert links.link("agent").reason.startswith("no sign of life")
        await wait_for(lambda: links.link("agent").reach is Reach.unreachable)
        server.resume()
        await wait_for(lambda: links.due("agent"))
        assert (await links.run("agent", ["echo", "back"])).stdout == b"back\n"
        assert links.link("agent").reach is Reach.up


async def test_pauses_grow_and_a_command_tries_at_once(linked: Linked, serve: Serve) -> None:
    server = serve()
    links = linked(reach(server), first=100.0, longest=100.0)
    server.kill()
    with pytest.raises(UnreachableError):
        await links.run("agent", ["true"])
    assert not links.due("agent")
    server.start()
    assert (await links.run("agent", ["true"])).exit_status == 0
    assert links.due("agent")


async def test_many_who_want_a_dead_machine_cause_one_attempt(linked: Linked) -> None:
    accepted = 0

    async def count(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read()

    quiet = await asyncio.start_server(count, "127.0.0.1", 0)
    port = quiet.sockets[0].getsockname()[1]
    links = linked(Node(name="quiet", host="127.0.0.1", port=port, host_key="SHA256:" + "a" * 43), login=0.3)
    results = await asyncio.gather(*(links.run("quiet", ["true"]) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(each, UnreachableError) for each in results)
    assert accepted == 1
    quiet.close()


async def test_a_machine_that_was_powered_down_is_off_until_it_answers(linked: Linked, serve: Serve) -> None:
    server = serve()
    links = linked(reach(server))
    await links.run("agent", ["true"])
    server.kill()
    links.off("agent", "powered down")
    with pytest.raises(UnreachableError):
        await links.run("agent", ["true"])
    status = links.link("agent")
    assert (status.reach, status.reason, links.due("agent")) == (Reach.off, "powered down", False)
    server.start()
    await links.run("agent", ["true"], limit=60.0)
    assert links.link("agent").reach is Reach.up


async def test_the_end_does_not_wait_for_a_machine_that_hangs(linked: Linked, serve: Serve) -> None:
    server = serve()
    links = linked(reach(server), ending=0.1)
    await links.run("agent", ["true"])
    server.pause()
    with pytest.raises(ShellError, match="did not end true within"):
        await links.run("agent", ["true"], limit=0.3)
    async with asyncio.timeout(20.0):
        await links.close()
    server.resume()


async def test_the_vpn_address_is_tried_and_told(linked: Linked, serve: Serve) -> None:
    server = serve(address="127.0.0.7")
    links = linked(reach(server, host="127.0.0.8", vpn_address="127.0.0.7"))
    assert (await links.run("agent", ["true"])).exit_status == 0
    assert links.link("agent").address == "127.0.0.7 (VPN)"


async def test_a_terminal_is_one(linked: Linked, serve: Serve) -> None:
    links = linked(reach(serve()))
    shell = await links.terminal("agent", "vt100", 91, 27, "sh")
    await shell.write(b"stty size; tty >/dev/null && echo a tty; exit 4\n")
    said = b""
    while data := await shell.read():
        said += data
    assert b"27 91" in said
    assert b"a tty" in said
    assert await shell.close() == 4
    assert links.link("agent").sessions == 0


async def test_a_terminal_that_is_cut_off_says_so(linked: Linked, serve: Serve) -> None:
    server = serve()
    links = linked(reach(server))
    shell = await links.terminal("agent", "vt100", 80, 24, "exec cat")
    server.kill()
    with pytest.raises(ShellError, match="cut off"):
        await shell.read()
    await shell.close()


async def test_files_are_listed_read_written_and_removed(linked: Linked, serve: Serve, tmp_path: Path) -> None:
    links, folder = linked(reach(serve())), tmp_path / "there"

    async def blocks(*parts: bytes) -> AsyncIterator[bytes]:
        for each in parts:
            yield each

    async with links.files("agent") as files:
        await files.make_folder(str(folder / "a/b"))
        await files.make_folder(str(folder / "a/b"))
        path = str(folder / "a/file")
        assert await files.write(path, blocks(b"x" * 3_000_000, b"end"), mode=0o600) == 3_000_003
        assert await files.write(path, blocks(b"!!"), offset=10) == 2
        assert Path(path).read_bytes() == b"x" * 10 + b"!!"
        info = await files.stat(path)
        assert (info.size, stat.S_IMODE(info.mode), info.is_folder) == (12, 0o600, False)
        assert b"".join([each async for each in files.read(path, 8, 3)]) == b"xx!"
        await files.rename(path, str(folder / "a/other"))
        await files.set(str(folder / "a/other"), mode=0o640, modified=1_000_000_000)
        there = [(Path(each.path).name, each.is_folder) for each in await files.list(str(folder / "a"))]
        assert there == [("b", True), ("other", False)]
        assert (folder / "a/other").stat().st_mtime == 1_000_000_000
        for name in ("a/other", "a/b", "a"):
            await files.remove(str(folder / name))
        with pytest.raises(NotFoundError, match="There is no agent:"):
            await files.stat(path)
    assert links.link("agent").sessions == 0
