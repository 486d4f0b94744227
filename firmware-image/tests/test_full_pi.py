"""The image for the Raspberry Pi on a machine whose firmware is played: it starts, tries an update, keeps it or goes back.

Both ways of trying: `tryboot`, which the Pi's own kernel asks the firmware for, and `swap`, where the kernel cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BROKEN, CARD, NEWER, NO_APPLIANCE, TUNNEL, VERSION, needs_what_images_need
from imagelab.build import Builder
from imagelab.disk import Overlay
from imagelab.guest import READY, Guest, first_boot, prepare, stick_with
from imagelab.pi import Pi
from imagelab.ssh import Login

pytestmark = [pytest.mark.image_full, pytest.mark.xdist_group("image"), pytest.mark.timeout(3 * 3600)]


@pytest.fixture(scope="module")
def pi_builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds images for arm64."""
    needs_what_images_need("arm64")
    return Builder(tmp_path_factory.mktemp("built-arm64"), "arm64")


@pytest.fixture(scope="module")
def pi_image(pi_builder: Builder) -> Path:
    """The image, built once."""
    return pi_builder.build(VERSION).image


@pytest.fixture(scope="module")
def updates(pi_builder: Builder, pi_image: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(a stick with two updates, the good one, the one whose appliance never starts)."""
    good, bad = pi_builder.bundle(NEWER).bundle, pi_builder.bundle(BROKEN, NO_APPLIANCE).bundle
    return stick_with(tmp_path_factory.mktemp("stick"), good, bad), good, bad


@pytest.fixture(scope="module", params=["tryboot", "swap"])
def pi(request: pytest.FixtureRequest, pi_image: Path, login: Login, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    """A machine at its first start that tries updates in one of the two ways, shared by the tests in their order."""
    disk = Overlay(pi_image, tmp_path_factory.mktemp("card"), CARD)
    prepare(disk, first_boot(login, hostname="edge-pi", more=TUNNEL))
    login.forget()
    with Pi(disk, name=f"pi-{request.param}", words=f"prime-spark.way={request.param}") as machine:
        yield machine
        machine.keep_record()


@pytest.fixture(scope="module")
def guest(pi: Pi, login: Login) -> Guest:
    """The machine, and somebody who may log in there."""
    return Guest(pi, login)


def test_it_starts_to_its_console(pi: Pi, guest: Guest) -> None:
    shown = pi.screen.wait_for_text(READY, limit=1200)
    assert "edge-pi" in shown
    guest.wait_up(900)
    guest.wait("every service is well", lambda: not guest.unwell() or None, 300)
    assert (guest.slot(), guest.version()) == ("A", VERSION)


def test_an_update_is_tried_once_and_kept(pi: Pi, guest: Guest, updates: tuple[Path, Path, Path]) -> None:
    stick, good, _ = updates
    starts = len(pi.choices)
    guest.spark(f"update install {guest.stick(stick)}/{good.name} --no-backup --wait --yes", limit=3600)
    guest.restart()
    assert pi.wait_boots(starts + 1, 900).partition == 3
    guest.wait("it is kept", lambda: guest.version() == NEWER and guest.update()["committed"] == "B", 1800)


def test_an_update_that_fails_gives_way(pi: Pi, guest: Guest, updates: tuple[Path, Path, Path]) -> None:
    stick, _, bad = updates
    starts = len(pi.choices)
    guest.spark(f"update install {guest.stick(stick)}/{bad.name} --no-backup --wait --yes", limit=3600)
    guest.restart()
    assert pi.wait_boots(starts + 1, 900).partition == 2
    assert pi.wait_boots(starts + 2, 2400).partition == 3
    guest.wait("the former system runs", lambda: guest.version() == NEWER and guest.slot() == "B", 900)
    guest.wait_up(900)
    last = guest.update()["last"]
    assert (last["kind"], last["version"]) == ("fell_back", BROKEN)
    assert last["reason"]


def test_a_kernel_that_cannot_be_loaded_gives_way(pi: Pi, guest: Guest) -> None:
    pi.cut()
    pi.disk.spoil("boot-b", seed=4, length=4 << 20)
    starts = len(pi.choices)
    pi.start()
    assert pi.wait_boots(starts + 1, 60).partition == 2
    guest.wait("the other slot runs", lambda: guest.slot() == "A", 1200)
