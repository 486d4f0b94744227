"""Releases are found where they lie, for this machine, newest first; nothing of a list counts that its maker did not sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.core.lifecycle.update import releases, source
from appliance.core.lifecycle.update.source import SIGNATURE, SUMS
from appliance.errors import ApplianceError, NotFoundError, UpdateError
from tests.update import release_rig as rig
from tests.update.release_rig import bundle

SMALL = 4096


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> rig.Maker:
    return rig.maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture
def release(maker: rig.Maker, tmp_path: Path) -> Path:
    maker.home = tmp_path
    return maker.release(bundle("1.10.0"), bundle("1.9.0"), bundle("1.11.0rc1"), bundle("2.0.0", "amd64"), size=SMALL)


@pytest.fixture
def server(release: Path) -> Iterator[rig.Server]:
    found = rig.Server(release)
    yield found
    found.close()


def told(work: Callable[[], object]) -> ApplianceError:
    """The error of a work; it must say what to do next."""
    with pytest.raises(ApplianceError) as caught:
        work()
    assert caught.value.next_step
    return caught.value


@pytest.mark.parametrize("web", [False, True], ids=["directory", "web"])
def test_the_newest_for_this_machine_is_found(maker: rig.Maker, release: Path, server: rig.Server, web: bool) -> None:
    place = server.address if web else str(release)
    offer = releases.look(place, maker.access, "arm64", "1.9.0")
    assert [each.version for each in offer.releases] == ["1.11.0rc1", "1.10.0", "1.9.0"]
    assert offer.newest is not None
    assert (offer.newest.version, offer.newest.size) == ("1.10.0", SMALL)
    assert offer.newest.place == f"{place}/{bundle('1.10.0')}"
    assert offer.newest.published is not None
    assert offer.said == "1.10.0 is newer than 1.9.0, which runs here."
    assert releases.newest(place, maker.access, "arm64", "1.9.0") == offer.newest


@pytest.mark.parametrize(
    ("arch", "running", "newest", "said"),
    [
        ("arm64", "1.10.0", None, "1.10.0 runs here, and nothing is newer."),
        ("arm64", "1.10", None, "1.10 runs here, and nothing is newer."),
        ("arm64", "3.0.0", None, "The newest there is 1.10.0, older than 3.0.0, which runs here."),
        ("arm64", "1.10.1rc1", "1.11.0rc1", "1.11.0rc1 is newer than 1.10.1rc1, which runs here."),
        ("amd64", "1.9.0", "2.0.0", "2.0.0 is newer than 1.9.0, which runs here."),
        ("arm64", "no version", "1.10.0", "1.10.0 is newer than no version, which runs here."),
    ],
    ids=["equal", "equal-in-other-words", "older", "early", "other-arch", "unknown"],
)
def test_what_is_newer_is_said(maker: rig.Maker, release: Path, arch: str, running: str, newest: str | None, said: str) -> None:
    offer = releases.look(str(release), maker.access, arch, running)
    assert (offer.newest.version if offer.newest else None) == newest
    assert offer.said == said


NONE = "There is no bundle of a version in the signed list: they are called prime-spark-VERSION-ARCH.raucb."


def test_nothing_for_this_machine_is_said(maker: rig.Maker, tmp_path: Path) -> None:
    maker.home = tmp_path
    for names, said in (
        ((bundle("2.0.0", "amd64"),), "Nothing there is for this machine (arm64); it has bundles for amd64."),
        (("notes.txt",), NONE),
        ((bundle("2.0.0rc1"),), "Only versions before a release are there (2.0.0rc1); name one to install it."),
        ((bundle("not-a-version"),), NONE),
    ):
        root = maker.release(*names, size=SMALL)
        offer = releases.look(str(root), maker.access, "arm64", "1.0.0")
        assert (offer.newest, offer.said) == (None, said)


def test_a_version_is_picked_by_its_meaning(maker: rig.Maker, release: Path) -> None:
    found = releases.look(str(release), maker.access, "arm64", "1.0.0").releases
    assert releases.pick(found, "1.9").version == "1.9.0"
    with pytest.raises(NotFoundError, match=r"no version '7.0'") as caught:
        releases.pick(found, "7.0")
    assert "1.11.0rc1, 1.10.0, 1.9.0" in caught.value.next_step


def test_a_list_that_was_changed_is_refused(maker: rig.Maker, release: Path) -> None:
    (release / SUMS).write_text((release / SUMS).read_text().replace("1.10.0", "9.10.0"))
    error = told(lambda: source.read(str(release), maker.access))
    assert "The signature of SHA256SUMS is not good" in error.message
    assert "verification failed" in error.message
    assert str(release) not in error.message


def test_a_list_of_somebody_else_is_refused(maker: rig.Maker, release: Path, tmp_path: Path) -> None:
    rig.maker(tmp_path, "other").sign(release)
    assert "The signature of SHA256SUMS is not good" in told(lambda: source.read(str(release), maker.access)).message


@pytest.mark.parametrize(
    "junk", [b"", b"untrusted comment: x\nnot base64\n", bytes(range(256)) * 8], ids=["empty", "text", "bytes"]
)
def test_a_signature_that_is_none_is_refused(maker: rig.Maker, release: Path, junk: bytes) -> None:
    (release / SIGNATURE).write_bytes(junk)
    assert "The signature of SHA256SUMS is not good" in told(lambda: source.read(str(release), maker.access)).message


def test_without_a_key_or_without_minisign_nothing_is_taken(
    maker: rig.Maker, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = source.Access(tmp_path / "gone.pub")
    assert "public key of the releases is not there" in told(lambda: source.read(str(release), missing)).message
    (tmp_path / "empty.pub").touch()
    assert "not good" in told(lambda: source.read(str(release), source.Access(tmp_path / "empty.pub"))).message
    monkeypatch.setenv("PATH", str(tmp_path))
    error = told(lambda: source.read(str(release), maker.access))
    assert error.message == "minisign is not installed here."


def test_signed_nonsense_and_a_list_without_end_are_refused(maker: rig.Maker, tmp_path: Path) -> None:
    maker.home = tmp_path
    odd = maker.release(bundle("1.0.0"), size=SMALL, sums="this is no line of it\n")
    assert "Line 2 of SHA256SUMS" in told(lambda: source.read(str(odd), maker.access)).message
    (odd / SUMS).write_bytes(b"#" * (source.LONGEST + 1))
    assert "longer than 256 KiB" in told(lambda: source.read(str(odd), maker.access)).message


@pytest.mark.parametrize("place", ["", "release", "ftp://192.0.2.7/x", "../x"])
def test_a_place_that_is_none_is_told(maker: rig.Maker, place: str) -> None:
    error = told(lambda: source.read(place, maker.access))
    assert isinstance(error, UpdateError)
    assert "[update]" in error.next_step


def test_a_directory_that_went_is_told(maker: rig.Maker, release: Path, tmp_path: Path) -> None:
    assert "is not there" in told(lambda: source.read(str(tmp_path / "usb"), maker.access)).message
    assert "is a file" in told(lambda: source.read(str(release / SUMS), maker.access)).message
    (release / SIGNATURE).unlink()
    assert f"There is no {SIGNATURE}" in told(lambda: source.read(str(release), maker.access)).message
    (release / SUMS).unlink()
    (release / SUMS).mkdir()
    assert "cannot be read: Is a directory" in told(lambda: source.read(str(release), maker.access)).message


@pytest.mark.parametrize(("status", "step"), [(401, "login"), (403, "owner"), (404, "update.source"), (503, "later")], ids=str)
def test_a_server_that_refuses_is_told(maker: rig.Maker, server: rig.Server, status: int, step: str) -> None:
    server.manners.status = status
    error = told(lambda: source.read(server.address, maker.access))
    assert f"127.0.0.1 answers {status}" in error.message
    assert step in error.next_step


def test_redirects_are_followed_and_not_for_ever(maker: rig.Maker, server: rig.Server, tmp_path: Path) -> None:
    other = rig.Server(tmp_path)
    try:
        other.manners.redirect = f"{server.address}/{SUMS}"
        assert SUMS.encode() not in source.of(other.address, maker.access).read(SUMS, 9999)
        other.manners.redirect = f"{other.address}/round"
        assert "more than 5 times" in told(lambda: source.read(other.address, maker.access)).message
        other.manners.redirect = "http://[nonsense"
        assert told(lambda: source.read(other.address, maker.access)).message
    finally:
        other.close()


def test_a_certificate_must_be_trusted_and_https_stays_https(maker: rig.Maker, release: Path, tmp_path: Path) -> None:
    pem = rig.certificate(tmp_path)
    server = rig.Server(release, pem)
    try:
        assert "The certificate of 127.0.0.1 is not trusted" in told(lambda: source.read(server.address, maker.access)).message
        trusting = source.Access(maker.key, certificates=pem)
        assert bundle("1.10.0") in source.read(server.address, trusting)
        server.manners.redirect = "http://127.0.0.1:9/release"
        assert "sends on from https to http" in told(lambda: source.read(server.address, trusting)).message
        bad = source.Access(maker.key, certificates=release / SUMS)
        assert "holds no certificates" in told(lambda: source.read(server.address, bad)).message
    finally:
        server.close()


def test_a_server_or_a_proxy_that_is_gone_is_told(maker: rig.Maker, server: rig.Server) -> None:
    gone = server.address
    server.close()
    assert "127.0.0.1 cannot be reached" in told(lambda: source.read(gone, maker.access)).message
    behind = source.Access(maker.key, proxy=gone)
    assert "cannot be reached" in told(lambda: source.read("http://192.0.2.7/x", behind)).message
    odd = source.Access(maker.key, proxy="carrier pigeon")
    assert "proxy" in told(lambda: source.read("http://192.0.2.7/x", odd)).message


def test_a_proxy_is_used(maker: rig.Maker, server: rig.Server) -> None:
    behind = source.Access(maker.key, proxy=server.address)
    told(lambda: source.read("http://releases.example.net/stable", behind))
    assert server.manners.asked[0][1] == "http://releases.example.net/stable/SHA256SUMS"


def test_a_proxy_that_cannot_be_used_is_told_without_its_login(maker: rig.Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://ada:secret@127.0.0.1:1")
    error = told(lambda: source.read("http://updates.example.net/x", maker.access))
    assert "no address of http or https" in error.message
    assert "secret" not in f"{error} {error.next_step}"
