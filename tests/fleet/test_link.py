"""Commands over SSH, on a real sshd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link_pace import OUTPUT_LIMIT
from appliance.core.fleet.link_process import Begin
from appliance.core.fleet.links import Links
from appliance.core.fleet.model import Node
from appliance.core.secrets import Secrets
from appliance.errors import NotFoundError, ShellError, UnreachableError
from tests.fleet.conftest import links_to, reach
from tests.servers.proxy import FaultyProxy
from tests.servers.sshd import SshServer
from tests.support import free_port, wait_for


async def test_a_command_runs_with_its_arguments_as_they_are(shell: Links) -> None:
    answer = await shell.run("agent", ["printf", "%s|", "a b", "$HOME", "it's", "", "*"])
    assert (answer.exit_status, answer.stdout, answer.stderr) == (0, b"a b|$HOME|it's||*|", b"")


async def test_input_and_both_outputs_are_bytes(shell: Links) -> None:
    sent = bytes(range(256)) * 1000
    assert (await shell.run("agent", ["cat"], stdin=sent)).stdout == sent
    answer = await shell.run("agent", ["sh", "-c", "echo wrong >&2; exit 7"])
    assert (answer.exit_status, answer.stderr) == (7, b"wrong\n")


async def test_input_that_nobody_reads_is_no_fault(shell: Links) -> None:
    assert (await shell.run("agent", ["true"], stdin=b"x" * 3_000_000)).exit_status == 0


async def test_an_unknown_machine_is_named_with_the_nearest(shell: Links) -> None:
    with pytest.raises(NotFoundError, match="agent"):
        await shell.run("agnet", ["true"])


async def test_a_host_key_that_was_never_confirmed_is_refused_with_its_fingerprint(server: SshServer, own: OwnKey) -> None:
    shell = links_to(own, reach(server, "new", host_key=""))
    with pytest.raises(UnreachableError) as caught:
        await shell.run("new", ["true"])
    assert server.fingerprint in caught.value.next_step


async def test_another_host_key_is_refused_loudly(server: SshServer, shell: Links) -> None:
    before = server.fingerprint
    server.new_host_key()
    server.restart()
    with pytest.raises(UnreachableError, match="ANOTHER") as caught:
        await shell.run("agent", ["touch", str(server.directory / "ran")])
    assert before in caught.value.message
    assert server.fingerprint in caught.value.message
    assert not (server.directory / "ran").exists()


async def test_a_key_that_is_not_let_in(server: SshServer, shell: Links) -> None:
    server.authorized.write_text("")
    with pytest.raises(UnreachableError, match="does not let") as caught:
        await shell.run("agent", ["true"])
    assert "fleet key" in caught.value.next_step


async def test_nobody_listens(own: OwnKey) -> None:
    shell = links_to(own, Node(name="off", host="127.0.0.1", port=free_port(), host_key="SHA256:" + "a" * 43))
    with pytest.raises(UnreachableError, match="off"):
        await shell.run("off", ["true"])


async def test_a_machine_that_hangs_after_the_connection_is_unreachable(server: SshServer, shell: Links) -> None:
    server.pause()
    try:
        with pytest.raises(UnreachableError, match="no answer within"):
            await shell.run("agent", ["true"], limit=0.5)
    finally:
        server.resume()


async def test_a_command_that_takes_too_long_may_have_run(shell: Links) -> None:
    with pytest.raises(ShellError, match="did not end sleep") as caught:
        await shell.run("agent", ["sleep", "60"], limit=2.0)
    assert not isinstance(caught.value, UnreachableError)


async def test_a_link_cut_in_the_middle_is_no_success(server: SshServer, own: OwnKey, tmp_path: Path) -> None:
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        shell = links_to(own, reach(server, port=proxy.port))
        mark = tmp_path / "began"
        running = asyncio.create_task(shell.run("agent", ["sh", "-c", f"touch {mark}; sleep 30"], limit=20.0))
        await wait_for(mark.exists)
        await asyncio.to_thread(proxy.cut_now)
        with pytest.raises(ShellError, match=r"may have run|may go on"):
            await running


async def test_endless_output_is_cut_off(shell: Links) -> None:
    with pytest.raises(ShellError, match=f"more than {OUTPUT_LIMIT >> 20} MiB"):
        await shell.run("agent", ["cat", "/dev/zero"], limit=20.0)


def test_the_own_key_stays_the_same_and_is_private(tmp_path: Path) -> None:
    first = OwnKey(Secrets(tmp_path / "secrets", {}), "a").public()
    assert OwnKey(Secrets(tmp_path / "secrets", {}), "a").public() == first
    assert (tmp_path / "secrets/fleet.key").stat().st_mode & 0o777 == 0o600


def test_a_machine_that_answers_the_mark_with_no_number_has_not_begun_the_command() -> None:
    for number in (b"", b"abc", b"-1", b"9" * 5000, "²".encode()):
        begin = Begin(b"<mark:")
        assert begin.take(b"hello <mark:" + number + b">output") == b""
        assert (begin.found, begin.pid) == (False, None)
    begin = Begin(b"<mark:")
    assert (begin.take(b"hello <mark:12"), begin.take(b"34>output"), begin.pid) == (b"", b"output", 1234)
