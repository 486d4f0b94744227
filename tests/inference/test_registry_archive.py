"""Archives of models: nothing lies outside of its directory, nothing grows beyond its bound, nothing bad stays."""

from __future__ import annotations

import gzip
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from appliance.core.inference.registry.archive import unpack
from appliance.errors import ConflictError, DiskFullError, ModelError
from tests.inference.registry_rig import Rig, archive, picture, running, write_model
from tests.support import wait_for

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1 << 20


def tar(path: Path, *entries: tarfile.TarInfo, data: bytes = b"x") -> Path:
    with tarfile.open(path, "w") as file:
        for entry in entries:
            entry.size = len(data) if entry.isreg() else 0
            file.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


@pytest.mark.parametrize(
    "bad",
    [
        entry("../manifest.toml"), entry("/etc/manifest.toml"), entry("a/b/manifest.toml"), entry("a/../../manifest.toml"),
        entry(".hidden"), entry("..\\manifest.toml"), entry("C:manifest.toml"), entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("hard", tarfile.LNKTYPE, "manifest.toml"), entry("pipe", tarfile.FIFOTYPE), entry("device", tarfile.CHRTYPE),
    ],
    ids=lambda each: each.name,
)  # fmt: skip
def test_what_would_lie_elsewhere_or_is_no_file_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    with pytest.raises(ModelError) as raised:
        unpack(tar(tmp_path / "a.tar", entry("model.onnx"), bad), into, LIMIT)
    assert raised.value.next_step
    assert {path.name for path in tmp_path.rglob("*") if not path.is_dir()} <= {"a.tar", "model.onnx"}


@pytest.mark.parametrize("name", ["../x", "/x", "a/b/x", "a/../../x"])
def test_a_zip_is_held_to_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / "into").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(ModelError, match="outside"):
        unpack(tmp_path / "a.zip", tmp_path / "into", LIMIT)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="no regular file"):
        unpack(tmp_path / "b.zip", tmp_path / "into", LIMIT)


def test_bombs_are_refused_before_they_fill_disk_or_memory(tmp_path: Path) -> None:
    for name in ("zip", "gz", "pax", "many", "twice"):
        (tmp_path / name).mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.onnx", bytes(50 << 20))
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    plain = tar(tmp_path / "b.tar", entry("model.onnx"), data=bytes(20 << 20))
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    header = entry("pax", tarfile.XHDTYPE)
    header.size = 64 << 20  # a header that would be read into memory
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(64 << 20)))
    for archived, into in (("a.zip", "zip"), ("b.tar.gz", "gz"), ("c.tar.gz", "pax")):
        with pytest.raises(ModelError, match=r"more than 1 MiB|larger than a version"):
            unpack(tmp_path / archived, tmp_path / into, LIMIT)
        assert sum(path.stat().st_size for path in (tmp_path / into).iterdir()) <= LIMIT + (1 << 20)
    many = tar(tmp_path / "d.tar", *(entry(f"file{number}") for number in range(100)))
    with pytest.raises(ModelError, match="more than 64 files"):
        unpack(many, tmp_path / "many", LIMIT)
    twice = tar(tmp_path / "e.tar", entry("model.onnx"), entry("model.onnx"))
    with pytest.raises(ModelError):
        unpack(twice, tmp_path / "twice", LIMIT)


def test_what_costs_time_and_memory_alone_is_refused_by_its_count(tmp_path: Path) -> None:
    """200 000 directories in a tar of 450 kB took 47 s; a zip's directory of 13 MB took 27 s."""
    folder = entry("a", tarfile.DIRTYPE).tobuf()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(folder * 20_000 + bytes(1024)))
    row = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 30_000 * len(row), 0, 0)
    (tmp_path / "b.zip").write_bytes(row * 30_000 + end)
    far = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)  # the true size stands elsewhere
    (tmp_path / "c.zip").write_bytes(row * 9 + far + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(row), 0, 0))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as file:
        for number in range(200):
            file.writestr(f"a{number}/", b"")
    for name in ("a.tar.gz", "b.zip", "c.zip", "d.zip"):
        into = tmp_path / f"into-{name}"
        into.mkdir()
        tracemalloc.start()
        with pytest.raises(ModelError, match="more than 64 files"):
            unpack(tmp_path / name, into, 1 << 30)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3_000_000


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_damaged_archives_are_told_as_such(tmp_path: Path, share: float) -> None:
    source = write_model(tmp_path / "new", "1")
    archive(source, tmp_path / "a.tar")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in source.iterdir():
            file.write(path, path.name)
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as packed:
        for path in source.iterdir():
            packed.add(path, path.name)
    for name in ("a.zip", "a.tar.xz"):
        body = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(body[: int(len(body) * share)])
        (tmp_path / f"into-{name}").mkdir()
        with pytest.raises(ModelError, match="no archive"):
            unpack(tmp_path / f"cut-{name}", tmp_path / f"into-{name}", LIMIT)


async def test_archives_of_every_kind_can_be_added(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        for number, kind in enumerate(("w", "w:gz", "w:bz2", "w:xz")):
            source = write_model(tmp_path / f"new{number}", str(number))
            (source / "notes.txt").write_text("not in the manifest")
            with tarfile.open(tmp_path / f"{number}.tar", kind) as packed:
                packed.add(source, "colours")
            await rig.parts.intake.add(str(tmp_path / f"{number}.tar"))
        assert [row.version for row in rig.service.status().models] == ["0", "1", "2", "3"]
        assert not list(rig.models.rglob("notes.txt"))
        with pytest.raises(ConflictError, match="there already"):
            await rig.parts.intake.add(str(tmp_path / "1.tar"))
        with pytest.raises(ModelError, match="not there"):
            await rig.parts.intake.add(str(tmp_path / "nothing.tar"))
        path, digest = archive(write_model(tmp_path / "five", "5"), tmp_path / "5.tar")
        with pytest.raises(ModelError, match="SHA-256"):
            await rig.parts.intake.add(str(path), sha256="0" * 64)
        await rig.parts.intake.add(str(path), sha256=digest.upper())


async def test_a_full_disk_leaves_nothing_half_added(tmp_path: Path) -> None:
    """A file system of 1 MiB of its own."""
    from tests.support import capability

    home = tmp_path / "small"
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home)], capture_output=True, check=False)
    capability(mounted.returncode == 0, "mounting a tmpfs")
    try:
        rig = Rig(tmp_path / "home")
        rig.parts.registry.setup.shelf._own = home
        rig.parts.registry.setup.shelf.places[:] = [home]
        async with running(rig):
            big = write_model(tmp_path / "big", "1")
            with (big / "test.png").open("ab") as file:
                file.write(os.urandom(2 << 20))
            with pytest.raises(DiskFullError) as raised:
                await rig.parts.intake.add(str(big))
            assert raised.value.next_step
            assert not [path for path in home.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", str(home)], check=True)


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.inference.registry_rig import Rig, write_model

async def main():
    rig = Rig(Path(sys.argv[1]))
    await rig.start()
    names = [row.version for row in rig.service.status().models]
    number = 1 + max((int(name) for name in names), default=0)
    while True:
        await rig.serve(str(number))
        print(number, flush=True)
        if number > 2 and number % 3 == 0:
            await rig.parts.deciding.rollback("colours")
            await rig.parts.deciding.remove("colours", str(number))
            print(-number, flush=True)
        number += 1

asyncio.run(main())
"""


async def test_a_killed_appliance_has_every_version_whole_and_what_was_acknowledged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for life in range(3):
        with (tmp_path / f"told-{life}").open("w+") as told:
            child = subprocess.Popen(
                [sys.executable, "-c", KILLED, str(home)], cwd=ROOT, stdout=told, stderr=subprocess.DEVNULL
            )
            path = tmp_path / f"told-{life}"
            try:
                await wait_for(lambda path=path, life=life: len(path.read_text().split()) > 2 + 2 * life, 60)
            finally:
                child.send_signal(signal.SIGKILL)
                child.wait()
        acknowledged = int(path.read_text().split()[-1])
        async with running(Rig(home)) as rig:
            rows = rig.service.status().models
            assert not [row.error for row in rows if row.error]
            assert sum(row.active for row in rows) == 1
            active = int(next(row.version for row in rows if row.active))
            if acknowledged < 0:  # it was rolled back, and removed
                assert str(-acknowledged) not in {row.version for row in rows}
            elif acknowledged % 3:
                assert active in {acknowledged, acknowledged + 1}
            else:  # the rollback may have been done, and not yet told
                before = max((int(row.version) for row in rows if int(row.version) < acknowledged), default=0)
                assert active in {acknowledged, acknowledged + 1, before}
            await rig.service.infer(picture(), "a.png")
            for version in sorted((row.version for row in rows), key=int):
                await rig.parts.deciding.activate("colours", version)  # each of them is whole
            assert not list(rig.models.glob(".staging/*"))
