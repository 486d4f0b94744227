"""The image from its packages to an update, on one machine that starts twice. The tests run in their order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import NEWER, VERSION
from imagelab import tunnel
from imagelab.build import Builder, Built
from imagelab.guest import FIRST_BOOT, READY, Guest

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.timeout(1500)]


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


@pytest.mark.image_full
def test_an_update_is_tried_and_kept(guest: Guest, builder: Builder, newer: Built, web: tuple[Path, int]) -> None:
    guest.wait_up(900)
    builder.release(web[0] / "releases", newer.bundle)
    boot = guest.boot_id()
    guest.spark("update install --no-backup --wait --yes", limit=900)
    assert guest.update()["trial"]["state"] == "waiting"
    guest.restart()
    guest.wait("it started again", lambda: guest.boot_id() != boot, 900)
    guest.wait_up()
    assert guest.version() == NEWER
    assert guest.slot() == "B"
    status = guest.wait("the new system is kept", lambda: (s := guest.update())["committed"] == "B" and s, 300)
    assert status["last"]["kind"] == "committed"
    assert guest.unwell() == {}


@pytest.mark.image_full
def test_the_console_is_there_after_the_update(guest: Guest) -> None:
    guest.machine.screen.wait_for_text(READY, limit=300)
