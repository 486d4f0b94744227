"""Becoming root on another machine, with stand-ins that say what sudo says."""

from __future__ import annotations

import asyncio
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from appliance.core.fleet.links import Links
from appliance.core.secrets import Secrets
from appliance.errors import NotAllowedError
from tests.fleet.conftest import reach
from tests.fleet.test_links import Linked, Serve, linked, serve
from tests.support import capability, wait_for

__all__ = ["linked", "serve"]

SUDO = {
    "works": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "wants a password": 'echo "sudo: a password is required" >&2; exit 1',
    "wants a terminal": 'echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1',
    "may not use sudo": 'echo "ada is not in the sudoers file.  This incident will be reported." >&2; exit 1',
}
"""Programs that say what sudo says."""
ASKS = """while [ "$1" != -p ]; do shift; done; prompt=$2
while [ "$1" != -- ]; do shift; done; shift
for try in 1 2 3; do
  printf %s "$prompt" >&2; IFS= read -r given || { echo "sudo: no password was provided" >&2; exit 1; }
  [ "$given" = "correct horse" ] && exec "$@"
  echo "Sorry, try again." >&2
done
echo "sudo: 3 incorrect password attempts" >&2; exit 1
"""
"""One that asks for its password as sudo -S does."""


def sudo_settings(folder: Path, script: str | None) -> Sequence[str]:
    """An sshd whose PATH has this as sudo, or has none."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("env", "sh", "cat", "id", "echo", "sleep"):
        (programs / name).symlink_to(str(shutil.which(name)))
    if script is not None:
        (programs / "sudo").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "sudo").chmod(0o755)
    entry = folder / "entry"
    entry.write_text(f'#!/bin/sh\nPATH={programs}; export PATH\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
    entry.chmod(0o755)
    return [f"ForceCommand {entry}", "UsePAM yes"]


Sudoer = Callable[..., Links]


@pytest.fixture
def sudoer(serve: Serve, linked: Linked) -> Iterator[Sudoer]:
    """A machine whose user is not root, and whose sudo is this script."""
    folder = Path(tempfile.mkdtemp(prefix="sudo-"))
    folder.chmod(0o755)

    def make(script: str | None, sudo: str = "auto") -> Links:
        server = serve(settings=sudo_settings(folder, script))
        server.directory.chmod(0o755)
        server.authorized.chmod(0o644)
        user = server.user if server.user != "root" else "postgres"
        capability(user in {each.pw_name for each in pwd.getpwall()}, "the user postgres")
        return linked(reach(server, user=user, sudo=sudo))

    yield make
    shutil.rmtree(folder)


@pytest.mark.parametrize("problem", [each for each in SUDO if each != "works"])
async def test_sudo_that_refuses_is_an_error_of_its_own(sudoer: Sudoer, problem: str) -> None:
    with pytest.raises(NotAllowedError, match=problem) as caught:
        await sudoer(SUDO[problem]).run("agent", ["id", "-u"], sudo=True)
    assert "nothing was run" in caught.value.message


async def test_no_sudo_at_all(sudoer: Sudoer) -> None:
    with pytest.raises(NotAllowedError, match="there is no sudo"):
        await sudoer(None).run("agent", ["id", "-u"], sudo=True)


async def test_sudo_without_a_password(sudoer: Sudoer) -> None:
    links = sudoer(SUDO["works"])
    assert (await links.run("agent", ["cat"], sudo=True, stdin=b"all of it")).stdout == b"all of it"
    assert (await links.run("agent", ["sh", "-c", "exit 1"], sudo=True)).exit_status == 1


async def test_sudo_that_is_not_wanted(sudoer: Sudoer) -> None:
    with pytest.raises(NotAllowedError, match="its sudo is never"):
        await sudoer(SUDO["works"], sudo="never").run("agent", ["id"], sudo=True)


async def test_the_password_reaches_sudo_and_not_the_command(sudoer: Sudoer, tmp_path: Path) -> None:
    links = sudoer(ASKS, sudo="password")
    with pytest.raises(NotAllowedError, match="none is stored"):
        await links.run("agent", ["cat"], sudo=True)
    secrets = Secrets(tmp_path / "secrets", {})
    secrets.put("fleet.agent.sudo", b"wrong")
    with pytest.raises(NotAllowedError, match="sudo does not take the password"):
        await links.run("agent", ["cat"], sudo=True, stdin=b"given")
    secrets.put("fleet.agent.sudo", b"correct horse\n")
    answer = await links.run("agent", ["sh", "-c", "cat; cat /proc/$$/cmdline"], sudo=True, stdin=b"given")
    assert answer.stdout.startswith(b"given")
    assert (b"horse" in answer.stdout, answer.stderr) == (False, b"")


async def test_a_sudo_that_does_not_ask_gives_no_password_to_the_command(sudoer: Sudoer, tmp_path: Path) -> None:
    Secrets(tmp_path / "secrets", {}).put("fleet.agent.sudo", b"correct horse")
    answer = await sudoer(SUDO["works"], sudo="password").run("agent", ["cat"], sudo=True, stdin=b"given")
    assert answer.stdout == b"given"


async def test_one_that_was_given_the_password_is_ended_with_it(sudoer: Sudoer, tmp_path: Path) -> None:
    Secrets(tmp_path / "secrets", {}).put("fleet.agent.sudo", b"correct horse")
    links, said = sudoer(ASKS, sudo="password"), b""

    def take(_: str, data: bytes) -> None:
        nonlocal said
        said += data

    running = asyncio.create_task(links.stream("agent", ["sh", "-c", "echo $$; exec sleep 300"], take, sudo=True))
    await wait_for(lambda: said.endswith(b"\n"), 60.0)
    there = Path("/proc") / said.decode().strip()
    assert there.exists()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_for(lambda: not there.exists(), 30.0)
