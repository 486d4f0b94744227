"""Real SSH clients against the real server."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from appliance.core.auth import Accounts
from appliance.core.model import Actor, Health, Role
from appliance.errors import StoreError
from appliance.session import answers
from appliance.session.answers import MOST_OF_ONE, STOPPED
from appliance.session.attach import AttachService
from appliance.session.hostkey import load_host_key
from appliance.session.ssh import BANNER, SshService
from appliance.session.sshchannel import HIGH
from appliance.session.ui import UiThread
from tests.session.rig import Rig, Terminal, connect, listen_on, make_service, screen_of, terminal
from tests.support import wait_for


async def test_a_console_over_ssh(ssh: SshService, rig: Rig) -> None:
    async with await connect(ssh) as conn:
        shown = await terminal(conn)
        await wait_for(lambda: shown.shows("ready"))
        assert [info.user for info in rig.presence._state.get("sessions").value] == ["ada"]  # type: ignore[arg-type]
        shown.press(b"hi\x1b[A")
        await wait_for(lambda: shown.shows("keys: h i up at 80x24"))
        shown.press(b"\x1b")
        await wait_for(lambda: shown.shows("escape"))
        shown.resize(0, 0)
        shown.resize(40, 10)
        await wait_for(lambda: shown.process.exit_status is None and rig.apps[0]().size.width == 40)  # type: ignore[union-attr]
        shown.press(b"\x11")
        await wait_for(lambda: shown.process.exit_status == 0)
    assert shown.received.endswith(b"\x1b[?1049l\x1b[?25h")
    await wait_for(lambda: len(rig.sessions) == 0)
    assert [(actor.name, actor.via, outcome) for actor, outcome in rig.logins] == [("ada", "ssh", "ok")]


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (20, 5), (200, 60)])
async def test_terminals_of_any_size(ssh: SshService, rig: Rig, columns: int, rows: int) -> None:
    async with await connect(ssh) as conn:
        shown = await terminal(conn, columns=columns, rows=rows)
        shown.press(b"k")
        await wait_for(lambda: shown.shows("keys: k"))
        app = rig.apps[0]()
        assert app is not None
        assert tuple(app.size) == (columns or 80, rows or 24)


async def test_eight_consoles_at_once_then_a_clear_refusal_and_nothing_left(ssh: SshService, rig: Rig) -> None:
    conns = [await connect(ssh) for _ in range(9)]
    shown = [await terminal(conn, term="linux" if each % 2 else "xterm-kitty") for each, conn in enumerate(conns[:8])]
    await wait_for(lambda: all(each.shows("ready") for each in shown), 30)
    for number, each in enumerate(shown):
        each.press(b"k" * number + b"z")
    for number, each in enumerate(shown):
        await wait_for(lambda: each.shows(f"keys: {'k ' * number}z at"))  # noqa: B023
    ninth = await terminal(conns[8])
    await wait_for(lambda: ninth.process.exit_status == 1)
    await wait_for(lambda: b"All 8 SSH consoles are in use" in ninth.received)
    assert "8 of 8" in (await ssh.health()).reason
    order = list(range(9))
    random.Random(5).shuffle(order)
    for index in order:
        conns[index].close()
        await conns[index].wait_closed()
    await wait_for(lambda: len(rig.sessions) == 0)
    shown.clear()
    assert len(rig.apps) == 8
    await wait_for(lambda: rig.alive() == 0)
    assert len(ssh.keeper.connections) == 0


async def test_a_place_is_free_again(ssh: SshService, rig: Rig) -> None:
    async with await connect(ssh) as conn:
        shown = [await terminal(conn) for _ in range(8)]
        await wait_for(lambda: all(each.shows("ready") for each in shown), 30)
        shown[3].press(b"\x11")
        await wait_for(lambda: rig.sessions.count("ssh") == 7)
        again = await terminal(conn)
        await wait_for(lambda: again.shows("ready"))


async def test_a_client_that_vanishes_mid_paint_costs_nobody_else_anything(ssh: SshService, rig: Rig) -> None:
    async with await connect(ssh) as steady:
        kept = await terminal(steady)
        await wait_for(lambda: kept.shows("ready"))
        for _ in range(3):
            conn = await connect(ssh)
            shown = await terminal(conn)
            shown.press(b"\x0e")
            await wait_for(lambda: len(shown.received) > 5000)  # noqa: B023
            conn.abort()
        early = await connect(ssh)
        early_terminal = asyncio.create_task(terminal(early))
        await asyncio.sleep(0)
        early.abort()
        await asyncio.gather(early_terminal, return_exceptions=True)
        await wait_for(lambda: rig.sessions.count("ssh") == 1)
        kept.press(b"k")
        await wait_for(lambda: kept.shows("keys: k"))


async def test_a_failing_console_says_so_over_ssh(ssh: SshService) -> None:
    async with await connect(ssh) as conn:
        shown = await terminal(conn)
        await wait_for(lambda: shown.shows("ready"))
        shown.press(b"\x18")
        await wait_for(lambda: shown.process.exit_status is not None)
        await wait_for(lambda: shown.shows("This console failed (ValueError)"))


async def _stalled(ssh: SshService, rig: Rig, conn: asyncssh.SSHClientConnection) -> Terminal:
    shown = await terminal(conn)
    await wait_for(lambda: shown.shows("ready"))
    shown.press(b"\x0e")
    await wait_for(lambda: len(shown.received) > 20_000)
    return shown


async def test_a_client_that_stops_reading_has_a_bounded_buffer(ssh: SshService, rig: Rig) -> None:
    """The channel's window shuts: the client is there, and its program does not read."""
    async with await connect(ssh) as conn:
        process = await conn.create_process(term_type="xterm-256color", term_size=(80, 24), encoding=None, window=65536)
        process.stdin.write(b"\x0e")  # nobody reads
        await wait_for(lambda: rig.apps and rig.apps[0]() and rig.apps[0]()._driver)  # type: ignore[union-attr]
        app = rig.apps[0]()
        assert app is not None
        driver = app._driver
        await wait_for(lambda: driver.dropped_frames > 50, 30)  # type: ignore[union-attr]
        channel = driver._channel  # type: ignore[union-attr]
        assert channel.paused
        assert channel._chan._send_buf_len < 128 * 1024
        shown = Terminal(process, 80, 24)  # now it reads
        shown.press(b"k")
        await wait_for(lambda: shown.shows("keys: ctrl+n k"), 30)


async def test_a_network_that_takes_nothing_has_a_bounded_buffer(ssh: SshService, rig: Rig) -> None:
    """The window is open and TCP is stuck, which asyncssh itself does not look at."""
    conn = await connect(ssh)
    process = await conn.create_process(term_type="xterm-256color", term_size=(80, 24), encoding=None, window=1 << 30)
    process.stdin.write(b"\x0e")
    await wait_for(lambda: rig.apps and rig.apps[0]() and rig.apps[0]().ticks > 2)  # type: ignore[union-attr]
    conn._transport.pause_reading()  # type: ignore[union-attr]
    app = rig.apps[0]()
    assert app is not None
    sock = next(iter(ssh.keeper.connections))._conn.get_extra_info("socket")  # type: ignore[union-attr]
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    driver = app._driver
    await wait_for(lambda: driver.dropped_frames > 10, 60)  # type: ignore[union-attr]
    gate = next(iter(ssh.keeper.connections))
    assert HIGH < gate.backlog() < HIGH + 128 * 1024
    conn._transport.resume_reading()  # type: ignore[union-attr]
    shown = Terminal(process, 80, 24)
    shown.press(b"k")
    await wait_for(lambda: shown.shows("keys: ctrl+n k"), 30)
    conn.abort()
    await wait_for(lambda: rig.sessions.count("ssh") == 0)


async def test_a_stalled_console_that_ends_does_not_stay(ssh: SshService, rig: Rig) -> None:
    async with await connect(ssh) as conn:
        process = await conn.create_process(term_type="xterm", term_size=(80, 24), encoding=None, window=4096)
        process.stdin.write(b"\x0e")
        await wait_for(lambda: rig.apps and rig.apps[0]() and rig.apps[0]()._driver)  # type: ignore[union-attr]
        driver = rig.apps[0]()._driver  # type: ignore[union-attr]
        await wait_for(lambda: driver.dropped_frames > 5, 30)  # type: ignore[union-attr]
        channel: Any = driver._channel  # type: ignore[union-attr]
        process.stdin.write(b"\x11")
        await wait_for(lambda: rig.sessions.count("ssh") == 0)
        await wait_for(lambda: channel._chan is None)  # and not only the App: the client still takes nothing


async def test_the_text_twin(ssh: SshService) -> None:
    async with await connect(ssh, "vic", "battery staple") as conn:
        done = await conn.run("status --json 'two words'")
        assert (done.exit_status, done.stdout) == (0, "vic viewer status --json two words\n")
        assert (await conn.run("nonsense")).exit_status == 2
        crooked = await conn.run("status 'open")
        assert crooked.exit_status == 2
        assert "not understood" in str(crooked.stdout)
        failed = await conn.run("fail")
        assert failed.exit_status == 1
        assert "as asked" not in str(failed.stdout)


async def test_commands_whose_client_is_gone_are_cut_short(ssh: SshService) -> None:
    """They held the UI loop's threads for up to a day, and nobody could log in any more."""
    for _ in range(6):
        conn = await connect(ssh, "vic", "battery staple")
        for _ in range(MOST_OF_ONE):
            await conn.create_process("wait")
        await wait_for(lambda: len(ssh.desk.answers) == MOST_OF_ONE)
        conn.abort()
        await wait_for(lambda: len(ssh.desk.answers) == 0)
    async with await connect(ssh) as conn:
        assert (await conn.run("status")).exit_status == 0


async def test_one_user_cannot_take_every_place(ssh: SshService) -> None:
    async with await connect(ssh, "vic", "battery staple") as vic, await connect(ssh) as ada:
        waiting = [await vic.create_process("wait") for _ in range(MOST_OF_ONE)]
        await wait_for(lambda: len(ssh.desk.answers) == MOST_OF_ONE)
        refused = await vic.run("status")
        assert (refused.exit_status, "of vic are being answered" in str(refused.stdout)) == (1, True)
        assert (await ada.run("status")).exit_status == 0
        waiting[0].send_signal("INT")
        await wait_for(lambda: waiting[0].exit_status == STOPPED)
        assert (await vic.run("status")).exit_status == 0


async def test_too_many_commands_at_one_time_are_refused(ssh: SshService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST", 0)
    async with await connect(ssh) as conn:
        done = await conn.run("status")
    assert done.exit_status == 1
    assert "try again" in str(done.stdout)


async def test_a_command_that_takes_too_long_is_stopped(ssh: SshService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LONGEST", 0.05)
    async with await connect(ssh) as conn:
        done = await conn.run("wait")
    assert (done.exit_status, "took longer" in str(done.stdout)) == (1, True)
    await wait_for(lambda: len(ssh.desk.answers) == 0)


@pytest.mark.parametrize(("given", "term"), [("a line\nmore", None), ("without an end", None), ("typed\r", "xterm")])
async def test_a_command_reads_a_line(ssh: SshService, given: str, term: str | None) -> None:
    async with await connect(ssh) as conn:
        done = await conn.run("read", input=given, term_type=term)
    assert str(done.stdout).strip() == f"read {given.splitlines()[0]}"


async def test_stopping_cuts_commands_short(ssh: SshService) -> None:
    conn = await connect(ssh)
    await conn.create_process("wait")
    await wait_for(lambda: len(ssh.desk.answers) == 1)
    await ssh.stop()
    await wait_for(lambda: len(ssh.desk.answers) == 0)
    await asyncio.wait_for(conn.wait_closed(), 10)


async def test_without_terminal_and_command_it_says_how(ssh: SshService) -> None:
    async with await connect(ssh) as conn:
        done = await conn.run()
        assert done.exit_status == 1
        assert "ssh -t" in str(done.stdout)


async def test_no_shell_no_files_no_forwarding(ssh: SshService, tmp_path: Path) -> None:
    async with await connect(ssh) as conn:
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.SFTPError)):
            await conn.start_sftp_client()
        with pytest.raises((asyncssh.Error, OSError)):
            await asyncssh.scp((conn, "/etc/passwd"), str(tmp_path / "stolen"))
        assert not (tmp_path / "stolen").exists()
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_connection("127.0.0.1", ssh.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_unix_connection(str(tmp_path / "socket"))
        with pytest.raises(asyncssh.ChannelListenError):
            await conn.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.create_tun(lambda: None, 0)  # type: ignore[arg-type,return-value]
        done = await conn.run("sh -c id")
        assert done.exit_status == 2
        assert "uid=" not in str(done.stdout)


async def test_keys_and_roles(ssh: SshService, accounts: Accounts, rig: Rig) -> None:
    key, stranger = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    await accounts.add_key("vic", key.export_public_key().decode())
    async with await connect(ssh, "vic", "", client_keys=[stranger, key]) as conn:
        assert str((await conn.run("status")).stdout).startswith("vic viewer")
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(ssh, "ada", "", client_keys=[key])
    assert rig.logins[0][0].role is Role.viewer


class Impostor(asyncssh.SSHClient):
    """Offers somebody's public key without its private one, then tries passwords."""

    def __init__(self, key: asyncssh.SSHKeyPair, passwords: list[str]) -> None:
        self.keys = [key]
        self.passwords = passwords

    def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        return self.keys.pop() if self.keys else None

    def password_auth_requested(self) -> str | None:
        return self.passwords.pop() if self.passwords else None


async def test_offering_a_known_public_key_proves_nothing(ssh: SshService, accounts: Accounts) -> None:
    owners, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    await accounts.add_key("ada", owners.export_public_key().decode())
    forged = asyncssh.load_keypairs([other])[0]
    forged.public_data = owners.public_data  # its signature is the other key's
    for _ in range(3):
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                "127.0.0.1", ssh.port, username="ada", known_hosts=None, config=None, agent_path=None,
                client_factory=lambda: Impostor(forged, ["wrong password"]),
            )  # fmt: skip
    assert ssh.keeper.limiter._records["127.0.0.1"].failures == 3, "the offer of the key made the failures forgotten"


async def test_the_banner_comes_before_the_login(ssh: SshService) -> None:
    seen: list[str] = []

    class Reader(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            seen.append(msg)

    async with await connect(ssh, client_factory=Reader):
        assert seen == [BANNER]


async def test_the_host_key_is_made_once_and_kept(ui: UiThread, rig: Rig, accounts: Accounts, tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        service = make_service(ui, rig, accounts, listen_on(tmp_path))
        await service.start()
        async with await connect(service) as conn:
            keys.append(conn.get_server_host_key().get_fingerprint())  # type: ignore[union-attr]
        await service.stop()
    assert keys[0] == keys[1]
    path = tmp_path / "ssh" / "host_key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    load_host_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("not a key")
    with pytest.raises(StoreError, match="cannot be used"):
        load_host_key(path)


async def test_stopping_closes_port_and_connections(ssh: SshService, rig: Rig) -> None:
    port = ssh.port
    told: list[str] = []

    class Listener(asyncssh.SSHClient):
        def connection_lost(self, exc: Exception | None) -> None:
            told.append(str(exc))

    conn = await connect(ssh, client_factory=Listener)
    shown = await terminal(conn)
    await wait_for(lambda: shown.shows("ready"))
    await ssh.stop()
    await asyncio.wait_for(conn.wait_closed(), 10)
    assert shown.received.endswith(b"\x1b[?1049l\x1b[?25h")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert (await ssh.health()).health is Health.unhealthy
    assert told == ["None"], "the connection was cut, not closed with a word"


async def test_a_taken_port_is_an_error(ui: UiThread, rig: Rig, accounts: Accounts, tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        listen = listen_on(tmp_path)
        taken = type(listen)(listen.host, sock.getsockname()[1], listen.host_key)
        service = make_service(ui, rig, accounts, taken)
        with pytest.raises(OSError, match="in use"):
            await service.start()
        await service.stop()


async def test_terminals_of_a_linux_console_get_sixteen_colours(ssh: SshService) -> None:
    async with await connect(ssh) as conn:
        shown = await terminal(conn, term="linux", env={"COLORTERM": "truecolor"})
        await wait_for(lambda: shown.shows("ready ███ + o"))
        assert b"8;2;" not in shown.received
        assert b"8;5;" not in shown.received
        assert any("ready" in line for line in screen_of(bytes(shown.received)))


async def test_a_loop_that_hangs_is_told(
    ssh: SshService, ui: UiThread, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bind() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "s"))
        return sock

    consoles = AttachService(ui, rig.sessions, lambda name: Actor(name, Role.admin, "console"), tmp_path / "s", bind)
    await consoles.start()
    assert [(await each.health()).health for each in (ssh, consoles)] == [Health.healthy, Health.healthy]
    go_on, hangs = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        go_on.wait(20)

    ui.loop.call_soon_threadsafe(hang)
    await wait_for(hangs.is_set)
    monkeypatch.setattr(UiThread.answers, "__defaults__", (0.1,))
    reports = [await each.health() for each in (ssh, consoles)]
    monkeypatch.undo()
    go_on.set()
    assert [(each.health, "takes no turns" in each.reason) for each in reports] == [(Health.unhealthy, True)] * 2
    await wait_for(lambda: _healthy(ssh))
    await consoles.stop()


async def _healthy(service: SshService) -> bool:
    return (await service.health()).health is Health.healthy
