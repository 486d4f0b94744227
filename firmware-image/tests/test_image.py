"""The image from its packages to an update, on one machine that starts twice. The tests run in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BROKEN, CARD, NEWER, VERSION
from imagelab import tunnel
from imagelab.build import Builder, Built
from imagelab.disk import Overlay
from imagelab.guest import FIRST_BOOT, READY, Guest, stick_with
from imagelab.machine import Machine, Wishes
from imagelab.newcard import Taken, take
from imagelab.ssh import Login

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def stick(newer: Built, broken: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stick with two updates."""
    return stick_with(tmp_path_factory.mktemp("stick"), newer.bundle, broken.bundle)


@pytest.fixture(scope="module")
def new_card(
    guest: Guest, built: Built, login: Login, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, Taken]]:
    """A machine that starts from a new card with the first one's backup."""
    taken = take(guest)
    disk = Overlay(built.image, tmp_path_factory.mktemp("new"), CARD)
    taken.put(disk, guest)
    with Machine(disk, Wishes(processors=1), "new-card") as machine:
        yield machine, taken


def test_the_console_is_on_the_serial_line(guest: Guest) -> None:
    shown = guest.machine.screen.wait_for_text(READY, limit=900)
    assert "edge-test" in shown


def test_every_service_is_well_or_absent_with_a_reason(guest: Guest) -> None:
    guest.wait_up()
    guest.wait("every service is well", lambda: not guest.unwell() or None, 120)
    assert guest.version() == VERSION
    assert guest.slot() == "A"


def test_what_is_not_of_the_image_lies_on_the_data_partition(guest: Guest) -> None:
    sizes = guest.root("findmnt -bno FSTYPE,SIZE /; findmnt -bno FSTYPE,SIZE /data; findmnt -no FSTYPE /etc").split()
    assert sizes[0] == "squashfs"
    assert sizes[2] == "ext4"
    assert int(sizes[3]) > 2 << 30, "it grew to the end of the card"
    assert sizes[4] == "overlay"
    assert guest.root("hostname").strip() == "edge-test"


def test_the_first_boot_file_was_applied_and_says_so(guest: Guest) -> None:
    text = guest.root(f"cat /boot/firmware/{FIRST_BOOT}")
    assert "[applied]" in text
    status = guest.wait("the updates' state", guest.update, 120)  # the first question takes long in emulation
    assert status["source"].startswith("http://10.0.2.100")


def test_the_console_opens_over_ssh(guest: Guest) -> None:
    with guest.login.terminal(guest.machine.port("console")) as screen:
        screen.wait_for_text(READY, limit=300)
        screen.keys("?")
        screen.wait_for_text("Keys", "Help", limit=120)


def test_a_tunnel_of_the_kernel_carries_a_peer(guest: Guest) -> None:
    guest.spark("vpn peer add laptop")
    exported = guest.json("vpn peer export laptop --yes")
    found = json.loads(guest.python(tunnel.program(exported["text"], "10.8.0.2", "wg0")))
    assert found["kind"] == "wireguard"
    assert found["handshake"] > 0
    assert found["ping"] == 0, found["said"]
    guest.spark("vpn peer remove laptop --yes")


@pytest.mark.image_full
def test_a_release_is_found_over_http(guest: Guest, builder: Builder, newer: Built, web: tuple[Path, int]) -> None:
    builder.release(web[0] / "releases", newer.bundle)
    guest.spark("update check")
    assert guest.update()["newest"]["version"] == NEWER


@pytest.mark.image_full
def test_a_backup_can_be_taken_along(guest: Guest, new_card: tuple[Machine, Taken]) -> None:
    """The machine with the new card starts beside the next test; then it is looked at."""
    assert new_card[1].content.startswith(b"age-encryption.org/v1")


@pytest.mark.image_full
def test_an_update_that_never_becomes_healthy_gives_way(guest: Guest, stick: Path, broken: Built) -> None:
    boot = guest.boot_id()
    guest.spark(f"update install {guest.stick(stick)}/{broken.bundle.name} --no-backup --wait --yes", limit=900)
    assert guest.update()["trial"]["state"] == "waiting"
    guest.restart()
    guest.wait("it is told", lambda: guest.boot_id() != boot and (guest.update()["last"] or {}).get("kind") == "fell_back", 900)
    last = guest.update()["last"]
    assert (guest.slot(), guest.version(), last["version"]) == ("A", VERSION, BROKEN)
    assert "it started" in last["reason"], last
    assert last["next_step"]


@pytest.mark.image_full
def test_a_new_card_begins_with_the_backup(new_card: tuple[Machine, Taken], login: Login) -> None:
    machine, taken = new_card
    restored = Guest(machine, login)
    restored.wait_up(1500)
    taken.found(restored)
    machine.keep_record()
    machine.cut()


@pytest.mark.image_full
def test_an_update_is_tried_and_kept(guest: Guest, stick: Path, newer: Built) -> None:
    guest.wait_up(900)
    boot = guest.boot_id()
    guest.spark(f"update install {guest.stick(stick)}/{newer.bundle.name} --no-backup --wait --yes", limit=900)
    assert guest.update()["trial"]["state"] == "waiting"
    guest.restart()
    guest.wait("it started again", lambda: guest.boot_id() != boot, 900)
    status = guest.wait("the new system is kept", lambda: (s := guest.update())["committed"] == "B" and s, 600)
    assert (guest.slot(), guest.version(), status["last"]["kind"]) == ("B", NEWER, "committed")
    guest.machine.screen.wait_for_text(READY, limit=300)
