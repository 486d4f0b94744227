"""The pages of machines against a real sshd: its key is trusted, a command runs, files are read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from appliance.screens.glyphs import Caps, Colours, unsafe
from appliance.screens.widgets.grid import Grid
from tests.screens.conftest import Bench, Seen
from tests.servers.sshd import SshServer
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sshd-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def server(bench: Bench, folder: Path) -> AsyncIterator[SshServer]:
    """This machine, reached as "box"; nobody has confirmed its key."""
    key = cast("dict[str, str]", await bench.invoke("fleet.key"))["public_key"]
    with SshServer(folder, f"{key}\n") as made:
        await bench.invoke("fleet.add", node="box", host="127.0.0.1", port=made.port, user=made.user, groups=["lab"])
        yield made


async def on_box(bench: Bench) -> Seen:
    """A console on the Fleet page, with that machine trusted and read."""
    seen = bench.open(PLAIN)
    await seen.press("gf", "▶  box")
    return seen


async def trust(bench: Bench, server: SshServer) -> None:
    await bench.invoke("fleet.trust", node="box", fingerprint=server.fingerprint)


async def test_a_new_machine_is_trusted_by_its_fingerprint_and_then_read(bench: Bench, server: SshServer) -> None:
    seen = await on_box(bench)
    await seen.shows("untrusted")
    await seen.press("y", "Trust box")  # the page says the key and how to compare it as well
    await seen.shows(server.fingerprint)
    await seen.shows("ssh-keygen -lf")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.press("1", "is known by this")
    await seen.press("f", "● up")
    await wait_for(lambda: any(cell.strip().isdigit() for cell in seen.display.split("box", 1)[-1].split()[:8]), 30)
    await seen.press("y", "shows the key that is trusted")
    await seen.end()


async def test_a_command_runs_and_its_output_is_read_live(bench: Bench, server: SshServer) -> None:
    await trust(bench, server)
    seen = await on_box(bench)
    await seen.press("r", "Run a command on box")
    await seen.fill("command", "for n in 1 2 3; do echo line-$n; done; exit 3")
    for field in ("sudo", "canary", "soak", "limit"):
        await seen.fill(field, "")
    await seen.shows("exit status 3")
    await seen.press("\r", "3 lines")
    await seen.shows("line-2")
    await seen.press("\x1b", "Machines")
    await seen.press("\x1b", "by name")
    await seen.end()


async def test_files_are_browsed_and_read(bench: Bench, server: SshServer, folder: Path) -> None:
    await trust(bench, server)
    (folder / "notes.txt").write_text("first line\nsecond line\n")
    seen = await on_box(bench)
    await seen.press("\r", "Overview")
    await seen.press("\t\t", "etc/")
    from appliance.screens.node import Node

    assert isinstance(seen.app.page, Node)
    seen.app.page.folder.go(str(folder))
    await seen.shows("notes.txt")
    grid = seen.app.page.query_one("#files", Grid)
    grid.move_to([row.key for row in grid.rows].index("notes.txt"))
    await seen.press("\r", "second line")
    seen.session.feed(b"\x1b")
    await wait_for(lambda: isinstance(seen.app.screen, Node))
    await seen.press("h", "names")
    await seen.end()
