"""What goes wrong in the life of a card, one machine for each: it starts all the same, and says what is the matter."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import CARD, VERSION
from imagelab.disk import Overlay
from imagelab.guest import FIRST_BOOT, READY, Guest, prepare
from imagelab.machine import Machine, Wishes
from imagelab.ssh import Login

pytestmark = [pytest.mark.image_full, pytest.mark.xdist_group("image"), pytest.mark.timeout(3600)]
Start = Callable[..., Guest]


@pytest.fixture
def card(settled: Path, tmp_path: Path) -> Overlay:
    """A card whose machine was set up and switched off; both slots hold a system, A is committed."""
    return Overlay(settled, tmp_path / "card", CARD)


@contextmanager
def started(disk: Overlay, login: Login, wishes: Wishes | None = None) -> Iterator[Guest]:
    """A machine with it."""
    login.forget()
    with Machine(disk, wishes) as machine:
        yield Guest(machine, login)


def test_a_full_data_partition_is_told_and_hinders_no_start(card: Overlay, login: Login) -> None:
    with started(card, login) as guest:
        guest.wait_up()
        guest.root("fallocate -l $(df -B1 --output=avail /data | tail -1) /data/fill; dd if=/dev/zero of=/data/fill2 || true")
        guest.wait("somebody says so", lambda: "disk" in str(guest.json("alert list")).lower(), 300)
        guest.machine.switch_off()
        guest.machine.start()
        guest.machine.screen.wait_for_text(READY, limit=900)
        guest.wait("it answers", lambda: guest.json("services"), 600)
        guest.root("rm /data/fill /data/fill2; sync")
        guest.wait("every service is well", lambda: not guest.unwell() or None, 600)


@pytest.mark.parametrize("part", ["system-a", "boot-a"])
def test_a_damaged_slot_gives_way_to_the_other(card: Overlay, login: Login, part: str) -> None:
    card.spoil(part, seed=1, length=8 << 20)
    with started(card, login) as guest:
        guest.wait_up(1500)
        assert guest.slot() == "B"
        guest.machine.screen.wait_for_text(READY)


def test_damage_in_the_middle_of_the_running_slot_is_found(card: Overlay, login: Login) -> None:
    with started(card, login) as guest:
        guest.wait_up()
        guest.spark("update verify --wait", limit=900)
        assert all(not each["problem"] for each in guest.update()["slots"])
        guest.machine.switch_off()
        card.spoil("system-b", seed=2, offset=200 << 20, length=4096)
        guest.machine.start()
        guest.wait_up()
        guest.login.run(guest.machine.port("ssh"), "sudo prime-spark update verify --wait || true", limit=900)
        bad = guest.wait("it is told", lambda: [each["name"] for each in guest.update()["slots"] if each["problem"]], 120)
        assert bad == ["B"]


def test_a_damaged_grubenv_is_rebuilt(card: Overlay, login: Login) -> None:
    card.put_file("config", "EFI/BOOT/grubenv", b"\xff" * 1024)
    with started(card, login) as guest:
        guest.wait_up(900)
        assert guest.update()["repaired"]
        assert "committed=" in guest.root("cat /boot/firmware/EFI/BOOT/grubenv")


def test_a_damaged_data_partition_is_told_and_not_formatted(card: Overlay) -> None:
    card.spoil("data", seed=3)
    before = card.take("data").read_bytes()
    with Machine(card) as machine:
        machine.screen.wait_for_text("data partition", limit=900)
        machine.screen.wait_for_text("data reset", "restore", limit=60)
        machine.screen.keys("enter")
        machine.cut()
    assert card.take("data").read_bytes() == before


def test_a_broken_first_boot_file_is_shown_and_nothing_of_it_applied(built_image: Path, tmp_path: Path) -> None:
    fresh = Overlay(built_image, tmp_path / "card", CARD)
    prepare(fresh, '[system]\nhostname = "edge-test"\ntimezone = "Europe/Atlantis"\n')
    with Machine(fresh) as machine:
        machine.screen.wait_for_text(FIRST_BOOT, limit=900)
        shown = machine.screen.wait_for_text("line 3", limit=60)
        assert "Atlantis" in shown
        assert "edge-test" not in shown


@pytest.mark.parametrize("rtc", ["1999-12-31T23:59:30", "2038-01-19T03:14:00"])
def test_a_wrong_clock_hinders_nothing(card: Overlay, login: Login, rtc: str) -> None:
    with started(card, login, Wishes(rtc=rtc)) as guest:
        guest.wait_up(900)
        guest.wait("every service is well", lambda: not guest.unwell() or None, 300)
        assert guest.version() == VERSION


def test_without_a_network_the_console_is_there(card: Overlay) -> None:
    with Machine(card, Wishes(network=False)) as machine:
        machine.screen.wait_for_text(READY, limit=900)


def test_without_a_console_it_works(card: Overlay, login: Login) -> None:
    with started(card, login, Wishes(serial=False, display=False)) as guest:
        guest.wait_up(900)
        with login.terminal(guest.machine.port("console")) as screen:
            screen.wait_for_text(READY, limit=300)


HANGS = {
    "the kernel": "import pathlib; pathlib.Path('/proc/sys/kernel/panic').write_text('0'); "
    "pathlib.Path('/proc/sysrq-trigger').write_text('c')",
    "the first process": "import ctypes, time; ctypes.CDLL(None).ptrace(16, 1, None, None); time.sleep(86400)",
}
"""Programs after which nobody feeds the watchdog: a panic that is told not to restart; PTRACE_ATTACH, which stops process 1."""


@pytest.mark.parametrize("what", HANGS)
def test_a_machine_that_hangs_is_started_again(card: Overlay, login: Login, what: str) -> None:
    with started(card, login) as guest:
        guest.wait_up()
        boot = guest.boot_id()
        with suppress(subprocess.TimeoutExpired):
            line = f'sudo /opt/prime-spark/bin/python -c "{HANGS[what]}"'
            login.try_run(guest.machine.port("ssh"), line, limit=30)
        guest.machine.monitor.wait("WATCHDOG", 600)
        guest.wait("it started again", lambda: guest.boot_id() != boot, 900)
        guest.wait_up(900)
