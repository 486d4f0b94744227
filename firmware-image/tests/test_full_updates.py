"""Updates over HTTP that must not come in, or must not stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BROKEN, CARD, NEWER, VERSION
from imagelab.build import Builder, Built
from imagelab.disk import Overlay
from imagelab.guest import Guest
from imagelab.machine import Machine, Wishes
from imagelab.ssh import Login, RefusedError

pytestmark = [pytest.mark.image_full, pytest.mark.xdist_group("image"), pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def running(settled: Path, login: Login, web: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A machine that was set up before, shared by the tests in their order."""
    login.forget()
    disk = Overlay(settled, tmp_path_factory.mktemp("card"), CARD)
    with Machine(disk, Wishes(web=web[1]), "updates") as machine:
        guest = Guest(machine, login)
        guest.wait_up()
        yield guest
        machine.keep_record()


def fetch(guest: Guest, web: Path, bundle: Path, *, name: str, keep: int | None = None) -> str:
    """A bundle's path in the guest, which got it by HTTP; only its first bytes where `keep` is given."""
    target = web / name
    target.write_bytes(bundle.read_bytes()[:keep])
    guest.python(
        f"import urllib.request, shutil\nwith urllib.request.urlopen('http://10.0.2.100/{name}') as source, "
        f"open('/data/{name}', 'wb') as file: shutil.copyfileobj(source, file)\nimport os; os.chmod('/data/{name}', 0o644)"
    )
    target.unlink()
    return f"/data/{name}"


def refused(guest: Guest, path: str, *words: str) -> str:
    """What is said to a bundle that is not taken; nothing may have been written."""
    before = [(each["name"], each["state"], each["version"]) for each in guest.update()["slots"]]
    with pytest.raises(RefusedError) as caught:
        guest.spark(f"update install {path} --no-backup --wait --yes {' '.join(words)}", limit=900)
    assert [(each["name"], each["state"], each["version"]) for each in guest.update()["slots"]] == before
    guest.root(f"rm -f {path}")
    return str(caught.value)


def test_a_bundle_that_a_stranger_signed_is_refused(
    running: Guest, newer: Built, web: tuple[Path, int], tmp_path: Path
) -> None:
    foreign = Builder(tmp_path / "foreign").resign(newer.bundle)
    said = refused(running, fetch(running, web[0], foreign, name="foreign.raucb"))
    assert "sign" in said.lower(), said


def test_half_a_bundle_is_refused(running: Guest, newer: Built, web: tuple[Path, int]) -> None:
    half = fetch(running, web[0], newer.bundle, name="half.raucb", keep=newer.bundle.stat().st_size // 2)
    assert "half.raucb" in refused(running, half)


def test_an_older_bundle_is_refused_unless_it_is_asked_for(running: Guest, builder: Builder, web: tuple[Path, int]) -> None:
    older = builder.bundle("0.9.0")
    said = refused(running, fetch(running, web[0], older.bundle, name="older.raucb"))
    assert "older" in said, said


def test_an_update_that_never_becomes_healthy_gives_way_to_the_former_system(
    running: Guest, builder: Builder, broken: Built, web: tuple[Path, int]
) -> None:
    builder.release(web[0] / "releases", broken.bundle)
    boot = running.boot_id()
    running.spark("update install --no-backup --wait --yes", limit=1800)
    running.restart()
    running.wait("the former system runs", lambda: running.boot_id() != boot and running.version() == VERSION, 2400)
    running.wait_up()
    last = running.update()["last"]
    assert last["kind"] == "fell_back"
    assert last["version"] == BROKEN
    assert last["reason"]
    assert last["next_step"]
    (web[0] / "releases" / broken.bundle.name).unlink()


def test_an_update_can_be_taken_back(running: Guest, builder: Builder, newer: Built, web: tuple[Path, int]) -> None:
    builder.release(web[0] / "releases", newer.bundle)
    running.spark("update install --no-backup --wait --yes", limit=1800)
    running.restart()
    running.wait("the new system is kept", lambda: running.version() == NEWER and running.update()["committed"] == "B", 1200)
    running.restart("update rollback --reboot --yes")
    running.wait(
        "the former system is kept", lambda: running.version() == VERSION and running.update()["committed"] == "A", 1200
    )
    assert running.update()["last"]["kind"] == "rolled_back"
