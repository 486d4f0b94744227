"""Backups of real folders to real folders, a share and real S3: read back, thinned out, never half, and honest of lacks."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import os
import socket
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from pydantic import ValidationError

from appliance.core.fleet.files.globs import Chosen
from appliance.core.memory.object_files import ObjectFiles
from appliance.core.memory.objects import ObjectReplica
from appliance.core.tasks.handlers import backup_places
from appliance.core.tasks.handlers.backup import BackupHandler
from appliance.core.tasks.handlers.backup_pack import Packed, verify
from appliance.core.tasks.handlers.backup_tree import MANIFEST, Tree
from appliance.core.tasks.model import Schedule, TaskState
from appliance.core.tasks.wire import Order
from appliance.errors import ApplianceError, DiskFullError, InvalidArgumentsError, NotAuthorizedError, TaskError
from appliance.settingtasks import BackupTask, TaskSettings
from tests.servers.nas import Nas
from tests.servers.s3 import Bucket, S3Server
from tests.support import wait_for
from tests.tasks.rig import running

ORDER = Order(
    task_id="t", type="backup", priority=2, payload=None, attempt=1, worker="pi", session="s", lease=1, lease_s=9, beat=1,
    limit_s=60,
)  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with some of everything."""
    folder = tmp_path / "source"
    (folder / "below" / "empty").mkdir(parents=True)
    (folder / "a.txt").write_text("text")
    (folder / "below" / "big").write_bytes(os.urandom(700_000))
    (folder / "below" / "nothing").touch()
    (folder / os.fsdecode(b"na\xefve\nname")).write_text("odd")
    (folder / ("long" * 60)).write_text("long")
    (folder / "link").symlink_to("a.txt")
    (folder / "away").symlink_to("/etc")
    (folder / "junk.tmp").write_text("junk")
    (folder / "cache").mkdir()
    (folder / "cache" / "x").write_text("x")
    return folder


def wanted(folder: Path, target: str | Path, **more: Any) -> BackupHandler:
    return handler(BackupTask(folders=(folder,), target=str(target), **more))


def handler(task: BackupTask, **more: Any) -> BackupHandler:
    return BackupHandler({"it": task}, **more)


async def make(made: BackupHandler) -> dict[str, Any]:
    found: dict[str, Any] = await made.run({"backup": "it"}, ORDER)
    return found


def place(target: Path, worker: str = "pi") -> Path:
    return target / worker / "it"


def names(target: Path, worker: str = "pi") -> list[str]:
    folder = place(target, worker)
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def target(tmp_path: Path) -> Path:
    found = tmp_path / "target"
    found.mkdir()
    return found


async def test_a_folder_is_not_kept_in_itself(source: Path) -> None:
    with pytest.raises(TaskError, match="where its own archives go"):
        await make(wanted(source, source))
    assert names(source) == []


async def test_a_folder_becomes_an_archive_that_other_tools_read(source: Path, target: Path, tmp_path: Path) -> None:
    told = await make(wanted(source, target, exclude=("*.tmp", "cache/")))
    assert (told["files"], told["folders"], told["links"], told["excluded"]) == (5, 2, 2, 2)
    assert (told["verified"], told["troubles"], told["kept"], told["removed"]) == (True, {}, 1, 0)
    archive = Path(told["archive"])
    body = archive.read_bytes()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (told["bytes"], told["sha256"])
    assert oct(archive.stat().st_mode & 0o777) == "0o600"
    out = tmp_path / "out"
    out.mkdir()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    subprocess.run(["tar", "-x", "-C", str(out)], input=plain, check=True, timeout=60)
    again = out / str(source).lstrip("/")
    assert (again / "below" / "big").read_bytes() == (source / "below" / "big").read_bytes()
    assert (again / "away").readlink() == Path("/etc"), "a link is kept as one, and not followed"
    assert (again / "below" / "empty").is_dir()
    assert not (again / "cache").exists()
    checked = subprocess.run(["sha256sum", "-c", "--quiet", MANIFEST], cwd=out, capture_output=True, check=False, timeout=60)
    assert (checked.returncode, checked.stdout) == (0, b"")
    about = msgspec.json.decode(archive.with_name(archive.name.replace(".tar.zst", ".json")).read_bytes())
    assert (about["sha256"], about["device_id"], about["files"]) == (told["sha256"], "pi", 5)


async def test_only_what_the_settings_name_is_kept(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAuthorizedError, match="No backup '/etc' is allowed"):
        await wanted(source, target).run({"backup": "/etc"}, ORDER)
    with pytest.raises(InvalidArgumentsError, match="does not fit backup"):
        await wanted(source, target).run({"backup": "it", "folders": ["/etc"]}, ORDER)
    with pytest.raises(InvalidArgumentsError, match="No S3 is configured"):
        await make(wanted(source, "s3://bucket/x"))
    assert not BackupHandler({}).available()
    assert wanted(source, target).available()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not wanted(source, target).available(), "the library is not there: it is not offered"


async def test_what_cannot_be_kept_is_told_and_the_rest_is(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(source)
        server.bind("sock")
        closed = source / "below" / "big"
        real = os.open

        def refuse(path: Any, *rest: Any, **more: Any) -> int:
            if path == str(closed):  # root may read everything: only the kernel's answer is replaced
                raise PermissionError(13, "Permission denied", str(path))
            if path == str(source / "a.txt"):
                (source / "a.txt").unlink()
            return real(path, *rest, **more)

        monkeypatch.setattr(os, "open", refuse)
        told = await make(wanted(source, target))
    assert told["troubles"] == {"special": 2, "unreadable": 1, "vanished": 1}
    assert sorted(each.partition(":")[0] for each in told["told"]) == ["special", "special", "unreadable", "vanished"]
    assert told["files"] == 5
    assert told["verified"]


@pytest.mark.parametrize(("to", "size"), [(10, 10), (900_000, 900_000)])
def test_a_file_that_changes_while_it_is_read_is_told_and_breaks_nothing(source: Path, to: int, size: int) -> None:
    big = source / "below" / "big"
    before = big.stat().st_size
    tree = Tree((source,), Chosen(), frozenset(), lambda: None)
    packed = Packed(changing(tree.pieces(), tree, lambda: os.truncate(big, to)))
    body = b"".join(packed)
    assert tree.found.troubles == {"changed": 1}
    assert verify(iter([body]), packed.size, packed.sha256, lambda: None) == tree.found.files == 7
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getmember(str(big).lstrip("/")).size == before
    assert big.stat().st_size == size


def changing(pieces: Iterator[bytes], tree: Tree, change: Callable[[], None]) -> Iterator[bytes]:
    """The pieces; once the large file has been begun, it is changed."""
    done = False
    for piece in pieces:
        if not done and len(piece) > 100_000:
            change()
            done = True
        yield piece
    assert done, tree


async def test_an_archive_that_is_damaged_is_not_taken_for_good(source: Path) -> None:
    tree = Tree((source,), Chosen(), frozenset(), lambda: None)
    packed = Packed(tree.pieces())
    body = b"".join(packed)
    for damaged in (body[:-1], body[: len(body) // 2], body + b"x", b"", bytes(len(body)), flipped(body, 5000)):
        with pytest.raises(TaskError, match="not what was written"):
            verify(iter([damaged]), packed.size, packed.sha256, lambda: None)


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


async def test_what_is_read_back_wrong_does_not_count(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    await make(wanted(source, target))
    good = names(target)
    real = backup_places._read

    def bad(path: Path) -> Iterator[bytes]:
        for number, piece in enumerate(real(path)):
            yield flipped(piece, 300) if not number else piece

    monkeypatch.setattr(backup_places, "_read", bad)
    with pytest.raises(TaskError, match="not what was written"):
        await make(wanted(source, target, keep=1))
    assert names(target) == good


async def test_the_oldest_go_and_never_the_newest_good_one(source: Path, target: Path) -> None:
    now = [1_800_000_000.0]
    made = handler(BackupTask(folders=(source,), target=str(target), keep=3), wall=lambda: now[0])
    told = []
    for _ in range(5):
        now[0] += 86400
        told.append(await make(made))
    assert [each["removed"] for each in told] == [0, 0, 0, 1, 1]
    assert len(names(target)) == 2 * 3
    now[0] -= 30 * 86400.0  # the clock is set back: what was just made stays, whatever its name says
    early = await make(made)
    assert Path(early["archive"]).exists()
    assert early["kept"] == 3
    only = await make(wanted(source, target, keep=1))
    assert [name for name in names(target) if name.endswith(".zst")] == [Path(only["archive"]).name]


async def test_what_a_cut_of_the_power_left_is_swept_and_other_files_stay(source: Path, target: Path) -> None:
    place(target).mkdir(parents=True)
    for name in ("20200101T000000Z-aaaaaa.tar.zst", "20200102T000000Z-aaaaaa.tar.zst.part", "notes.txt"):
        (place(target) / name).write_text("half")
    told = await make(wanted(source, target))
    assert (told["swept"], told["kept"], len(names(target))) == (2, 1, 3)
    assert "notes.txt" in names(target)


async def test_a_backup_of_nothing_is_none(tmp_path: Path, target: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(TaskError, match="no file to keep"):
        await make(wanted(tmp_path / "bare", target))
    with pytest.raises(TaskError, match="is not there"):
        await make(wanted(tmp_path / "gone", target))
    with pytest.raises(TaskError, match="is not there"):
        await make(wanted(tmp_path, tmp_path / "unmade"))
    assert not (tmp_path / "unmade").exists()
    assert names(target) == []


async def test_the_archives_are_not_in_the_archive(source: Path) -> None:
    inside = source / "backups"
    inside.mkdir()
    first, second = await make(wanted(source, inside)), await make(wanted(source, inside))
    assert first["files"] == second["files"]
    assert second["excluded"] == 1


@asynccontextmanager
async def begun(made: BackupHandler, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[Any]]:
    """A backup that waits in the midst of its tree until it is told to stop."""
    reached = threading.Event()
    real = Tree._file

    def slow(tree: Tree, path: str, manifest: Any) -> Iterator[bytes]:
        yield from real(tree, path, manifest)
        reached.set()
        while True:
            tree._check()
            yield bytes(512)

    monkeypatch.setattr(Tree, "_file", slow)
    work = asyncio.create_task(make(made))
    await wait_for(reached.is_set, 20.0)
    yield work
    await asyncio.wait({work})


async def test_cancel_leaves_no_half_archive(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wanted(source, target)
    async with begun(made, monkeypatch) as work:
        assert [name[-5:] for name in names(target)] == [".part"]
        with pytest.raises(TaskError, match="under way"):
            await make(made)
        work.cancel()
    assert work.cancelled()
    await wait_for(lambda: names(target) == [], 20.0)


async def test_a_deadline_ends_it(source: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tree, "_content", lambda tree, *_: endless(tree))
    async with running(tmp_path, handlers=[wanted(source, target)]) as rig:
        task = await rig.submit("backup", {"backup": "it"}, limit_s=0.5, attempts=1)
        done = await rig.ended(task)
        assert (done.state, "took longer than 0.5 s" in done.reason) == (TaskState.failed, True)
    assert place(target, "control-pc").exists()
    await wait_for(lambda: names(target, "control-pc") == [], 20.0)


def endless(tree: Tree) -> Iterator[bytes]:
    while True:
        tree._check()
        yield bytes(1 << 16)


# -- a share ---------------------------------------------------------------------------------------------------------------


async def test_a_full_share_and_one_that_is_away(source: Path, nas: Nas, tmp_path: Path) -> None:
    made = wanted(source, nas.path, mount=str(nas.path), keep=1)
    assert (await make(made))["verified"]
    good = names(nas.path)
    nas.fill()
    with pytest.raises(DiskFullError, match="is full"):
        await make(made)
    assert names(nas.path) == good, "the newest good one stays, and nothing half"
    nas.free()
    nas.unmount()
    with pytest.raises(TaskError, match="Nothing is mounted"):
        await make(made)
    assert list(nas.path.iterdir()) == []


# -- S3 --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def streams(s3: Bucket) -> AsyncIterator[ObjectFiles]:
    files = ObjectFiles(ObjectReplica(s3.endpoint, s3.access_key, s3.secret_key, s3.name, False, "pi"))
    yield files
    await files.close()


def objects(server: S3Server, bucket: Bucket) -> list[str]:
    return sorted(str(each.object_name) for each in server.client().list_objects(bucket.name, recursive=True))


async def test_an_archive_goes_to_s3_in_parts_and_is_read_back(
    source: Path, s3: Bucket, s3_server: S3Server, streams: ObjectFiles
) -> None:
    (source / "huge").write_bytes(os.urandom(20 << 20))  # more than one part
    made = handler(BackupTask(folders=(source,), target=f"s3://{s3.name}/kept", keep=1), streams=streams)
    first, second = await make(made), await make(made)
    assert first["archive"] != second["archive"]
    assert (second["removed"], second["kept"], second["verified"]) == (1, 1, True)
    found = objects(s3_server, s3)
    assert found == sorted(f"{second['archive'].removeprefix(f's3://{s3.name}/').removesuffix('.tar.zst')}{end}"
                           for end in (".tar.zst", ".json"))  # fmt: skip
    size = s3_server.client().stat_object(s3.name, next(each for each in found if each.endswith(".zst"))).size
    assert size == second["bytes"] > 16 << 20


async def test_s3_holds_nothing_half(
    source: Path, s3: Bucket, s3_server: S3Server, streams: ObjectFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = handler(BackupTask(folders=(source,), target=f"s3://{s3.name}/kept"), streams=streams)
    async with begun(made, monkeypatch) as work:
        work.cancel()
    assert objects(s3_server, s3) == []
    monkeypatch.undo()
    gone = handler(BackupTask(folders=(source,), target="s3://no-such-bucket-here/kept"), streams=streams)
    with pytest.raises(ApplianceError, match="NoSuchBucket"):
        await make(gone)
    assert (await make(made))["kept"] == 1


# -- from a schedule -------------------------------------------------------------------------------------------------------


async def test_a_schedule_makes_backups(source: Path, target: Path, tmp_path: Path) -> None:
    async with running(tmp_path, handlers=[wanted(source, target)]) as rig:
        nightly = Schedule(name="nightly", cron="30 3 * * *", zone="UTC", type="backup", payload={"backup": "it"}, owner="anna")
        await rig.service.schedules.add(nightly)
        task = await rig.service.schedules.run_now("nightly", "anna")
        done = await rig.ended(task)
        assert (done.state, done.schedule) == (TaskState.completed, "nightly"), done.reason
        assert len(names(target, "control-pc")) == 2


def test_settings_refuse_what_cannot_work() -> None:
    wrong: dict[str, Any]
    for wrong in ({"folders": []}, {"folders": ["relative"]}, {"target": "relative"}, {"target": "s3://X"}, {"keep": 0}):
        with pytest.raises(ValidationError):
            TaskSettings.model_validate({"backups": {"it": {"folders": ["/srv"], "target": "/mnt/nas", **wrong}}})
