"""A bundle is here only when it is the one of the signed list; what has come of it is kept, and the reason is told."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.lifecycle.update import download, releases, source, source_web
from appliance.core.lifecycle.update.model import Release
from appliance.errors import ApplianceError, DiskFullError, UpdateError
from tests.update import release_rig as rig
from tests.update.release_rig import bundle

NAME, SIZE = bundle("2.0.0"), 3 << 20
WHOLE = rig.content(NAME, SIZE)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> rig.Maker:
    made = rig.maker(tmp_path_factory.mktemp("maker"))
    made.release(NAME)
    return made


@pytest.fixture
def server(maker: rig.Maker) -> Iterator[rig.Server]:
    found = rig.Server(maker.home / "release")
    yield found
    found.close()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "updates"


def listed(place: str, maker: rig.Maker) -> Release:
    """The release that the signed list has."""
    found = releases.newest(place, maker.access, "arm64", "1.0.0")
    assert found is not None
    return found


def fetch(release: Release, into: Path, maker: rig.Maker) -> Path:
    return download.fetch(release, into, maker.access, lambda _: None)


def told(release: Release, into: Path, maker: rig.Maker) -> ApplianceError:
    """Why it was not fetched; there must be a next step, and nothing that looks like a bundle."""
    with pytest.raises(ApplianceError) as caught:
        fetch(release, into, maker)
    assert caught.value.next_step
    assert list(into.glob("*.raucb")) == []
    return caught.value


def part(into: Path) -> bytes:
    """What has come of it."""
    found = list(into.glob(".*.part"))
    return found[0].read_bytes() if found else b""


@pytest.mark.parametrize("web", [False, True], ids=["directory", "web"])
def test_it_comes_whole_and_once(maker: rig.Maker, server: rig.Server, into: Path, web: bool) -> None:
    release = listed(server.address if web else str(maker.home / "release"), maker)
    into.mkdir()
    for other in (bundle("1.0.0"), ".prime-spark-1.0.0-arm64.raucb.0123456789abcdef.part"):
        (into / other).write_bytes(b"of before")
    shares: list[float | None] = []
    path = download.fetch(release, into, maker.access, shares.append)
    assert path.read_bytes() == WHOLE
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in into.iterdir()] == [NAME]
    assert shares == sorted(shares, key=lambda each: each or 0)
    assert shares[-1] == 1.0
    asked = len(server.manners.asked)
    assert fetch(release, into, maker) == path
    assert len(server.manners.asked) == asked


def test_one_here_that_was_damaged_is_fetched_anew(maker: rig.Maker, into: Path) -> None:
    release = listed(str(maker.home / "release"), maker)
    fetch(release, into, maker).write_bytes(b"damaged")
    assert fetch(release, into, maker).read_bytes() == WHOLE


def test_it_goes_on_where_it_was_cut(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    server.manners.cut = 1 << 20
    assert fetch(release, into, maker).read_bytes() == WHOLE  # three pieces, in one go
    ranges = [each for method, path, each in server.manners.asked if method == "GET" and path.endswith(".raucb")]
    assert ranges[0] == ""
    assert all(0 < int(each.removeprefix("bytes=").rstrip("-")) < SIZE for each in ranges[1:])
    assert len(ranges) >= 3


def test_what_came_is_kept_for_the_next_try(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    server.manners.cut = SIZE // 8
    error = told(release, into, maker)
    assert "127.0.0.1 broke off" in error.message
    assert "1 MiB of it are here; the next try goes on from there" in error.message
    came = part(into)
    assert 0 < len(came) < SIZE
    assert came == WHOLE[: len(came)]
    server.manners.cut, server.manners.asked[:] = None, []
    assert fetch(release, into, maker).read_bytes() == WHOLE
    assert server.manners.asked == [("GET", f"/{NAME}", f"bytes={len(came)}-")]


def test_a_kill_before_the_last_step_costs_no_second_download(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    into.mkdir()
    (into / f".{NAME}.{release.sha256[:16]}.part").write_bytes(WHOLE)
    server.manners.asked.clear()
    assert fetch(release, into, maker).read_bytes() == WHOLE
    assert server.manners.asked == []


@pytest.mark.parametrize("junk", [b"x" * 100, b"x" * SIZE, b"x" * (SIZE + 9)], ids=["shorter", "as-long", "longer"])
@pytest.mark.parametrize("web", [False, True], ids=["directory", "web"])
def test_a_spoilt_part_is_found_out(maker: rig.Maker, server: rig.Server, into: Path, junk: bytes, web: bool) -> None:
    release = listed(server.address if web else str(maker.home / "release"), maker)
    into.mkdir()
    (into / f".{NAME}.{release.sha256[:16]}.part").write_bytes(junk)
    if len(junk) < SIZE or (len(junk) == SIZE and not web):  # the rest of the file is put behind it
        assert "not the bundle of the signed list" in told(release, into, maker).message
        assert part(into) == b""
    assert fetch(release, into, maker).read_bytes() == WHOLE


def test_a_server_without_ranges_begins_anew(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    into.mkdir()
    (into / f".{NAME}.{release.sha256[:16]}.part").write_bytes(WHOLE[: SIZE // 2])
    server.manners.ranges = False
    assert fetch(release, into, maker).read_bytes() == WHOLE


def test_a_server_that_gives_another_part_is_told(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    into.mkdir()
    (into / f".{NAME}.{release.sha256[:16]}.part").write_bytes(WHOLE[: SIZE // 2])
    server.manners.shift = 7
    assert "another part of the file" in told(release, into, maker).message


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "no-length"])
def test_another_bundle_under_that_name_is_refused(maker: rig.Maker, tmp_path: Path, into: Path, chunked: bool) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / NAME).write_bytes(rig.content("something else", SIZE))
    server = rig.Server(other)
    server.manners.chunked = chunked
    try:
        release = listed(str(maker.home / "release"), maker)
        error = told(Release("2.0.0", "arm64", f"{server.address}/{NAME}", None, release.sha256), into, maker)
        assert "another hash" in error.message
        assert part(into) == b""
    finally:
        server.close()


@pytest.mark.parametrize("lie", [1000, -1000], ids=["promises-more", "promises-less"])
def test_a_length_that_is_a_lie_is_found_out(maker: rig.Maker, server: rig.Server, into: Path, lie: int) -> None:
    release = listed(server.address, maker)
    server.manners.lie = lie
    error = told(release, into, maker)
    assert ("broke off" if lie > 0 else "another hash") in error.message
    server.manners.lie = 0
    assert fetch(release, into, maker).read_bytes() == WHOLE


def test_nothing_is_taken_beyond_a_bound(
    maker: rig.Maker, server: rig.Server, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = listed(server.address, maker)
    monkeypatch.setattr(download, "MOST", 1 << 20)
    assert "is said to have 3 MiB; at most 1 are taken" in told(release, into, maker).message
    server.manners.chunked = True
    endless = Release(release.version, release.arch, release.place, None, release.sha256)
    assert "longer than the source said" in told(endless, into, maker).message
    assert len(part(into)) <= 1 << 20


def test_a_packed_answer_is_refused(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    server.manners.packed = "gzip"
    assert "packs" in told(release, into, maker).message


def test_a_server_that_says_nothing_is_told(
    maker: rig.Maker, server: rig.Server, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = listed(server.address, maker)
    monkeypatch.setattr(source_web, "ANSWER", 0.2)
    server.manners.stall = threading.Event()
    assert "127.0.0.1 did not go on with" in told(release, into, maker).message


def test_a_server_that_drips_is_told(maker: rig.Maker, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_web, "OVER", 0.2)
    dripper = rig.Dripper(SIZE)
    try:
        release = Release("2.0.0", "arm64", f"{dripper.address}/{NAME}", SIZE, "0" * 64)
        monkeypatch.setattr(download, "TRIES", 1)
        assert "too slowly" in told(release, into, maker).message
    finally:
        dripper.close()


def test_a_server_that_is_gone_is_told(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release = listed(server.address, maker)
    server.close()
    assert "127.0.0.1 cannot be reached" in told(release, into, maker).message


def test_it_is_not_begun_where_it_does_not_fit(maker: rig.Maker, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 30, 0, download.ROOM + SIZE - 1))
    error = told(listed(str(maker.home / "release"), maker), into, maker)
    assert isinstance(error, DiskFullError)
    assert "needs 3 MiB more and 128 MiB to spare" in error.message
    assert part(into) == b""


def full(_: int) -> None:
    """What a disk says that has no room left."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_or_refuses_is_told(
    maker: rig.Maker, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = listed(str(maker.home / "release"), maker)
    into.mkdir()
    (into / f".{NAME}.{release.sha256[:16]}.part").symlink_to("/dev/full")  # somebody's; it is neither read nor written
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert isinstance(told(release, into, maker), DiskFullError)
    assert part(into) == b""  # the room is everybody's
    assert fetch(release, into, maker).read_bytes() == WHOLE
    fetch(release, into, maker).unlink()
    (tmp_path / "file").touch()
    assert "cannot be kept" in told(release, tmp_path / "file" / "updates", maker).message


def test_it_stops_when_it_is_told_to_and_keeps_what_came(maker: rig.Maker, server: rig.Server, into: Path) -> None:
    release, looks = listed(server.address, maker), iter(range(1000))

    def check() -> None:
        if next(looks) == 3:
            raise UpdateError("It was stopped.")

    with pytest.raises(UpdateError, match="It was stopped"):
        download.fetch(release, into, maker.access, lambda _: None, check)
    came = part(into)
    assert came == WHOLE[: len(came)]
    assert came


def test_what_no_list_names_is_not_fetched(maker: rig.Maker, into: Path) -> None:
    assert "in no signed list" in told(Release("2.0.0", "arm64", "/media/usb/x.raucb"), into, maker).message


def test_a_disk_that_is_pulled_is_told(maker: rig.Maker, tmp_path: Path, into: Path) -> None:
    usb = tmp_path / "usb"
    shutil.copytree(maker.home / "release", usb)
    release = listed(str(usb), maker)
    shutil.rmtree(usb)
    assert f"{usb} is not there" in told(release, into, maker).message
    assert source.of(str(usb), maker.access).place(NAME) == release.place
