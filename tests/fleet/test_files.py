"""Files to and from nodes over a real sshd."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import ActionRegistry
from appliance.core.catalog.fleet_files import file_actions
from appliance.core.clock import SystemClock
from appliance.core.dispatch import Dispatcher
from appliance.core.fleet.files import local, syncing
from appliance.core.fleet.files.globs import chosen
from appliance.core.fleet.files.local import LocalSide
from appliance.core.fleet.files.model import PART_END, Direction, Do, is_part, part_of
from appliance.core.fleet.files.remote import RemoteSide
from appliance.core.fleet.files.service import FleetFiles, Sync
from appliance.core.fleet.keys import OwnKey
from appliance.core.jobs import Jobs
from appliance.core.model import Actor, Role
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.errors import NotAuthorizedError
from tests.fleet.files_rig import Rig, node_of, quiet_server, rig
from tests.servers.proxy import FaultyProxy
from tests.servers.sshd import SshServer
from tests.session.rig import NoAudit
from tests.support import free_port, wait_for

ODD = (
    "plain.txt",
    "with space.txt",
    "-rf",
    "new\nline",
    "back\\slash",
    "grüße-日本.txt",
    "quote'\"$HOME`",
    " lead",
    ".hidden",
    "*",
)


@pytest.fixture
def server(own: OwnKey) -> Iterator[SshServer]:
    with quiet_server(own) as made:
        yield made


@pytest.fixture
async def bench(server: SshServer, own: OwnKey, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path, own, node_of(server), node_of(server, "second")) as made:
        yield made


@pytest.fixture
def proxy(server: SshServer) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", server.port) as made:
        yield made


@pytest.fixture
async def shaky(server: SshServer, proxy: FaultyProxy, own: OwnKey, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path, own, node_of(server, port=proxy.port)) as made:
        yield made


def parts(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if is_part(each.name)]


def grown(folder: Path, size: int) -> bool:
    """Whether an unfinished copy has more bytes than that by now."""
    with suppress(FileNotFoundError):  # it got its name meanwhile
        return any(each.stat().st_size > size for each in parts(folder))
    return False


def summed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ODD)
async def test_a_file_goes_and_comes_back_whatever_its_name(bench: Rig, name: str) -> None:
    source = bench.here / name
    source.write_bytes(os.urandom(5000))
    source.chmod(0o640)
    os.utime(source, (1_600_000_000, 1_600_000_000))
    (sent,) = await bench.files.put(["agent"], str(source), f"{bench.there}/", bench.meter(), None)
    there = bench.there / name
    assert (sent.state, sent.reason, sent.path, sent.sha256) == ("ok", "", str(there), summed(source))
    assert there.stat().st_mode & 0o777 == 0o640
    assert int(there.stat().st_mtime) == 1_600_000_000
    (back,) = await bench.files.get(["agent"], str(there), str(bench.here / "back"), bench.meter(), None)
    assert (back.state, back.reason) == ("ok", "")
    assert summed(bench.here / "back") == summed(source)
    assert not parts(bench.there)
    assert not parts(bench.here)


async def test_an_empty_file_and_one_with_holes_arrive_as_they_are(bench: Rig) -> None:
    empty, sparse = bench.here / "empty", bench.here / "sparse"
    empty.touch()
    with sparse.open("wb") as file:
        file.truncate(20_000_000)
        file.seek(10_000_000)
        file.write(b"in the middle")
    for source in (empty, sparse):
        (sent,) = await bench.files.put(["agent"], str(source), str(bench.there / source.name), bench.meter(), None)
        assert (sent.state, sent.reason) == ("ok", "")
        assert summed(bench.there / source.name) == summed(source)
    (back,) = await bench.files.get(["agent"], str(bench.there / "sparse"), str(bench.here / "back"), bench.meter(), None)
    assert back.state == "ok"
    assert summed(bench.here / "back") == summed(sparse)
    assert (bench.here / "back").stat().st_blocks * 512 < 2_000_000


async def test_a_cut_link_is_waited_out_and_the_file_goes_on_where_it_was(shaky: Rig, proxy: FaultyProxy) -> None:
    source = shaky.there / "large"
    source.write_bytes(os.urandom(12_000_000))
    getting = asyncio.create_task(shaky.files.get(["agent"], str(source), str(shaky.here / "copy"), shaky.meter(), 6_000_000))
    await wait_for(lambda: grown(shaky.here, 2_000_000))
    proxy.cut_now()
    (done,) = await getting
    assert (done.state, done.reason) == ("ok", "")
    assert done.resumed > 0
    assert done.resumed + done.bytes == 12_000_000
    assert proxy.accepted == 2
    assert summed(shaky.here / "copy") == summed(source)
    assert not parts(shaky.here)


async def test_a_node_that_stays_away_leaves_nothing_under_the_final_name_and_a_later_call_goes_on(
    shaky: Rig, proxy: FaultyProxy, server: SshServer
) -> None:
    source, target = shaky.here / "large", shaky.there / "copy"
    source.write_bytes(os.urandom(8_000_000))
    target.write_text("the old one")
    putting = asyncio.create_task(shaky.files.put(["agent"], str(source), str(target), shaky.meter(), 4_000_000))
    await wait_for(lambda: grown(shaky.there, 1_000_000))
    server.kill()
    (done,) = await putting
    assert done.state == "unreachable"
    assert target.read_text() == "the old one"
    assert len(parts(shaky.there)) == 1
    server.start()
    (done,) = await shaky.files.put(["agent"], str(source), str(target), shaky.meter(), None)
    assert (done.state, done.reason) == ("ok", "")
    assert done.resumed >= 1_000_000
    assert summed(target) == summed(source)
    assert not parts(shaky.there)


@pytest.mark.parametrize("spoil", ["beginning", "version", "longer"])
async def test_an_unfinished_copy_of_something_else_is_not_gone_on_with(bench: Rig, spoil: str) -> None:
    source, target = bench.here / "file", bench.there / "file"
    source.write_bytes(b"a" * 3_000_000)
    found = source.stat()
    part = Path(part_of(str(target), found.st_size, found.st_mtime))
    part.write_bytes({"beginning": b"b" * 1_000_000, "version": b"a" * 1_000_000, "longer": b"a" * 3_000_001}[spoil])
    if spoil == "version":
        source.write_bytes(b"a" * 2_999_999)
    (done,) = await bench.files.put(["agent"], str(source), str(target), bench.meter(), None)
    assert (done.state, done.reason, done.resumed) == ("ok", "", 0)
    assert summed(target) == summed(source)
    assert not parts(bench.there)


async def test_a_good_beginning_is_gone_on_with(bench: Rig) -> None:
    source, target = bench.here / "file", bench.there / "file"
    source.write_bytes(os.urandom(3_000_000))
    found = source.stat()
    Path(part_of(str(target), found.st_size, found.st_mtime)).write_bytes(source.read_bytes()[:1_000_000])
    (done,) = await bench.files.put(["agent"], str(source), str(target), bench.meter(), None)
    assert (done.state, done.resumed, done.bytes) == ("ok", 1_000_000, 2_000_000)
    assert summed(target) == summed(source)


async def test_bytes_that_are_others_at_the_far_end_are_refused(bench: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's disk gives other bytes than it took: its own sha256sum tells."""
    source, target = bench.here / "file", bench.there / "file"
    source.write_bytes(b"good bytes")
    target.write_text("the old one")
    real = RemoteSide.write

    async def spoiled(self: RemoteSide, path: str, *rest: Any) -> int:
        written = await real(self, path, *rest)
        Path(path).write_bytes(b"bad. bytes")
        return written

    monkeypatch.setattr(RemoteSide, "write", spoiled)
    (done,) = await bench.files.put(["agent"], str(source), str(target), bench.meter(), None)
    assert done.state == "failed"
    assert "other bytes" in done.reason
    assert target.read_text() == "the old one"
    assert not parts(bench.there)


async def test_a_node_without_sha256sum_is_read_back(bench: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bench.here / "file"
    source.write_bytes(os.urandom(100_000))
    real, asked = bench.links.run, []

    async def without(node: str, command: Any, **more: Any) -> Any:
        asked.append(command[0])
        return await real(node, ["no-such-sha256sum" if command[0] == "sha256sum" else command[0], *command[1:]], **more)

    monkeypatch.setattr(bench.links, "run", without)
    (done,) = await bench.files.put(["agent"], str(source), str(bench.there / "file"), bench.meter(), None)
    assert (done.state, done.sha256) == ("ok", summed(source))
    assert "sha256sum" in asked
    found = await asyncio.gather(*(_hash(bench, str(bench.there / "file")) for _ in range(1)))
    assert found == [summed(source)]


async def _hash(bench: Rig, path: str) -> str:
    async with bench.files.side("agent") as side:
        return (await side.sha256([path]))[path]


async def test_a_file_that_changes_while_it_is_read_is_not_taken(bench: Rig) -> None:
    source, target = bench.here / "growing", bench.there / "growing"
    source.write_bytes(b"x" * 3_000_000)
    putting = asyncio.create_task(bench.files.put(["agent"], str(source), str(target), bench.meter(), 2_000_000))
    await wait_for(lambda: grown(bench.there, 0))
    with source.open("ab") as file:
        file.write(b"more")
    (done,) = await putting
    assert done.state == "failed"
    assert "was changed while it was read" in done.reason
    assert list(bench.there.iterdir()) == []


async def test_a_disk_without_room_is_said_before_anything_goes(bench: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bench.here / "file"
    with source.open("wb") as file:
        file.truncate(1 << 43)
    (done,) = await bench.files.put(["agent"], str(source), str(bench.there / "file"), bench.meter(), None)
    assert done.state == "failed"
    assert "free" in done.reason
    assert list(bench.there.iterdir()) == []


async def test_a_disk_that_fills_up_here_leaves_nothing(bench: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bench.there / "file"
    source.write_bytes(os.urandom(3_000_000))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local.os, "pwrite", full)
    (done,) = await bench.files.get(["agent"], str(source), str(bench.here / "file"), bench.meter(), None)
    assert done.state == "failed"
    assert "is full" in done.reason
    assert list(bench.here.iterdir()) == []


async def test_several_nodes_each_have_their_own_outcome(bench: Rig, server: SshServer, own: OwnKey, tmp_path: Path) -> None:
    (bench.here / "file").write_bytes(b"same")
    nodes = ["agent", "nowhere"]
    bench.machines.add(node_of(server, "nowhere", port=free_port()))
    done = await bench.files.put(nodes, str(bench.here / "file"), str(bench.there / "f"), bench.meter(), None)
    assert [(each.node, each.state) for each in done] == [("agent", "ok"), ("nowhere", "unreachable")]
    back = await bench.files.get(["agent", "second"], str(bench.there / "f"), str(bench.here / "all"), bench.meter(), None)
    assert [each.path for each in back] == [str(bench.here / "all/agent/f"), str(bench.here / "all/second/f")]
    assert (bench.here / "all/second/f").read_bytes() == b"same"


@pytest.mark.parametrize("wrong", ["missing", "folder", "pipe"])
async def test_what_is_no_file_is_refused_in_words(bench: Rig, wrong: str) -> None:
    path = bench.here / "it"
    if wrong == "folder":
        path.mkdir()
    elif wrong == "pipe":
        os.mkfifo(path)
    (done,) = await bench.files.put(["agent"], str(path), f"{bench.there}/", bench.meter(), None)
    assert done.state == "failed"
    assert str(path) in done.reason
    assert done.next_step


async def test_a_link_is_written_through_and_a_folder_is_not_replaced(bench: Rig) -> None:
    (bench.here / "file").write_text("new")
    (bench.there / "real").write_text("old")
    (bench.there / "link").symlink_to("real")
    (bench.there / "folder" / "file").mkdir(parents=True)
    (done,) = await bench.files.put(["agent"], str(bench.here / "file"), str(bench.there / "link"), bench.meter(), None)
    assert done.state == "ok"
    assert (bench.there / "link").is_symlink()
    assert (bench.there / "real").read_text() == "new"
    (done,) = await bench.files.put(["agent"], str(bench.here / "file"), str(bench.there / "folder"), bench.meter(), None)
    assert done.state == "failed"
    (done,) = await bench.files.put(["agent"], str(bench.here / "file"), f"{bench.there}/nowhere/", bench.meter(), None)
    assert "no folder" in done.reason


async def test_progress_is_told(bench: Rig) -> None:
    (bench.here / "file").write_bytes(os.urandom(3_000_000))
    await bench.files.put(["agent"], str(bench.here / "file"), str(bench.there / "file"), bench.meter(), 2_000_000)
    assert any(told[0] is not None and "of 2.9 MiB" in told[1] and "file" in told[1] for told in bench.reports)


# -- folders -----------------------------------------------------------------------------------------------------------


def grow(folder: Path) -> None:
    """A tree with everything in it."""
    for at, name in enumerate(ODD):
        (folder / name).write_bytes(os.urandom(100 + at))
    (folder / "deep/er/est").mkdir(parents=True)
    (folder / "deep/er/est/file").write_text("down here")
    (folder / "empty folder").mkdir(mode=0o700)
    (folder / "deep/link").symlink_to("er/est/file")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "sly").symlink_to("deep/../../../etc")
    os.mkfifo(folder / "pipe")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)


def seen(folder: Path) -> dict[str, str]:
    """Path → what lies there."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        mode = f"{path.lstat().st_mode & 0o777:o}"
        found[name] = (
            f"→ {path.readlink()}" if path.is_symlink() else f"{mode} folder" if path.is_dir() else f"{mode} {summed(path)}"
        )
    return found


def sides(bench: Rig, direction: Direction) -> tuple[Path, Path]:
    return (bench.here, bench.there) if direction is Direction.up else (bench.there, bench.here)


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_folder_becomes_like_the_other(bench: Rig, direction: Direction) -> None:
    source, target = sides(bench, direction)
    grow(source)
    wish = Sync(direction, str(bench.here), str(bench.there))
    (done,) = await bench.files.sync(["agent"], wish, bench.meter(), None)
    assert (done.state, {name for name, _ in done.skipped}) == ("ok", {"out", "sly", "pipe"})
    expected = seen_without(source, {"out", "sly", "pipe"})
    assert seen(target) == expected
    (again,) = await bench.files.sync(["agent"], wish, bench.meter(), None)
    assert (again.state, again.bytes) == ("unchanged", 0)
    (source / "plain.txt").write_text("changed")
    (source / "run.sh").chmod(0o700)
    (again,) = await bench.files.sync(["agent"], wish, bench.meter(), None)
    assert (again.state, again.files, again.bytes) == ("ok", 1, 7)
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o700


def seen_without(folder: Path, left: set[str]) -> dict[str, str]:
    for name in left:
        (folder / name).rename(folder.parent / f"aside-{name}")
    try:
        return seen(folder)
    finally:
        for name in left:
            (folder.parent / f"aside-{name}").rename(folder / name)


async def test_only_what_was_shown_is_deleted(bench: Rig) -> None:
    grow(bench.here)
    for name in ("old", "keep.log"):
        (bench.there / name).write_text("only there")
    (bench.there / "gone/deep").mkdir(parents=True)
    (bench.there / "gone/deep/file").write_text("only there")
    wanted = chosen((), ("*.log",))
    wish = Sync(Direction.up, str(bench.here), str(bench.there), wanted, delete=True)
    plan = await bench.files.plan("agent", wish)
    assert [step.path for step in plan.steps if step.do is Do.delete] == ["old", "gone/deep/file", "gone/deep", "gone"]
    (done,) = await bench.files.sync(["agent"], wish, bench.meter(), None)
    assert done.state == "failed"
    assert (bench.there / "old").exists()
    seen_plan = Sync(Direction.up, str(bench.here), str(bench.there), wanted, delete=True, seen={"agent": plan.digest})
    (bench.there / "new").write_text("since then")
    (done,) = await bench.files.sync(["agent"], seen_plan, bench.meter(), None)
    assert done.state == "failed"
    assert "another list" in done.reason
    (bench.there / "new").unlink()
    (done,) = await bench.files.sync(["agent"], seen_plan, bench.meter(), None)
    assert (done.state, done.deleted) == ("ok", 4)
    assert (bench.there / "keep.log").exists()
    assert not (bench.there / "gone").exists()


async def test_a_link_on_the_other_side_leads_no_file_out_of_the_folder(bench: Rig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (bench.there / "sub").mkdir()
    (bench.there / "sub/file").write_text("to be written outside")
    (bench.here / "sub").symlink_to(elsewhere)
    wish = Sync(Direction.down, str(bench.here), str(bench.there))
    (done,) = await bench.files.sync(["agent"], wish, bench.meter(), None)
    assert [name for name, _ in done.skipped] == ["sub"]
    assert list(elsewhere.iterdir()) == []


async def test_a_cut_in_the_middle_of_a_folder_goes_on(shaky: Rig, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "LARGE", 1 << 20)
    for at in range(40):
        (shaky.there / f"file{at}").write_bytes(os.urandom(50_000))
    (shaky.there / "large").write_bytes(os.urandom(6_000_000))
    wish = Sync(Direction.down, str(shaky.here), str(shaky.there))
    getting = asyncio.create_task(shaky.files.sync(["agent"], wish, shaky.meter(), 4_000_000))
    await wait_for(lambda: grown(shaky.here, 2_000_000))
    proxy.cut_now()
    (done,) = await getting
    assert (done.state, done.reason) == ("ok", "")
    assert seen(shaky.here) == seen(shaky.there)


async def test_many_small_files_go_in_batches(bench: Rig) -> None:
    count = int(os.environ.get("MANY_FILES", "300"))
    for at in range(count):
        path = bench.here / f"folder{at // 100}" / f"file{at}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(at))
    (done,) = await bench.files.sync(["agent"], Sync(Direction.up, str(bench.here), str(bench.there)), bench.meter(), None)
    assert (done.state, done.files) == ("ok", count)
    assert seen(bench.there) == seen(bench.here)


async def test_an_operator_reads_only_what_everybody_on_the_node_may(bench: Rig, tmp_path: Path) -> None:
    registry, clock = ActionRegistry(), SystemClock()
    registry.add(*file_actions(bench.files, bench.machines, Jobs(Store(tmp_path / "jobs.db"), LiveState(clock), clock)))
    desk = Dispatcher(registry, NoAudit())
    operator = Actor("op", Role.operator, "socket")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for place, mode in (("open", 0o755), ("closed", 0o700)):
            (folder / place).mkdir(mode)
            (folder / place / "text").write_text("said")
        (folder / "link").symlink_to(folder / "closed")
        seen = await desk.invoke("fleet.read-file", {"node": "agent", "path": f"{folder}/open/text"}, operator)
        assert seen.text == "said"
        assert len(await desk.invoke("fleet.files", {"node": "agent", "path": name}, operator)) == 3
        for path in ("closed/text", "link/text", "open/../link/text"):
            with pytest.raises(NotAuthorizedError):
                await desk.invoke("fleet.read-file", {"node": "agent", "path": f"{folder}/{path}"}, operator)
            (got,) = await bench.files.get(
                ["agent"], f"{folder}/{path}", str(bench.here / "got"), bench.meter(), None, public=True
            )
            assert (got.state, "Not everybody" in got.reason, (bench.here / "got").exists()) == ("failed", True, False)
        with pytest.raises(NotAuthorizedError):
            await desk.invoke("fleet.files", {"node": "agent", "path": f"{folder}/link"}, operator)


async def test_a_node_whose_sftp_server_hangs_holds_nobody_up(bench: Rig, server: SshServer) -> None:
    server.stop()
    server.sftp = "/bin/sleep 1000"
    server.start()
    (bench.here / "file").write_text("text")
    files = FleetFiles(bench.links, bench.files.places, rest=0.05, patience=1.0)
    (done,) = await files.put(["agent"], str(bench.here / "file"), str(bench.there / "file"), bench.meter(), None)
    assert (done.state, "its SFTP server does not answer within 1 s" in done.reason) == ("failed", True), done
    assert (await bench.links.run("agent", ["echo", "well"])).stdout == b"well\n"


async def test_two_writers_of_one_target_do_not_meet(bench: Rig) -> None:
    (bench.here / "file").write_bytes(os.urandom(3_000_000))
    path, target = str(bench.here / "file"), str(bench.there / "file")
    first = asyncio.create_task(bench.files.put(["agent"], path, target, bench.meter(), 2_000_000))
    await wait_for(lambda: parts(bench.there))
    (second,) = await bench.files.put(["agent"], path, target, bench.meter(), None)
    assert second.state == "failed"
    assert "another transfer" in second.reason
    assert (await first)[0].state == "ok"


async def test_the_local_end_hashes_and_fits_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    side = LocalSide()
    assert await side.beginning(str(tmp_path / "file"), 4) == hashlib.sha256(b"0123").hexdigest()
    assert (await side.free(str(tmp_path / "not/there"))) == shutil.disk_usage(tmp_path).free or await side.free(str(tmp_path))
    assert PART_END in part_of("a" * 255, 1, 1.0)
    assert len(os.path.basename(part_of("/x/" + "ü" * 120, 1, 1.0)).encode()) <= 255
