"""Disks that are plugged into a machine that runs from a card."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import CARD
from imagelab.disk import Overlay
from imagelab.guest import Guest
from imagelab.machine import USB, Machine, Wishes
from imagelab.run import run
from imagelab.ssh import Login, RefusedError

pytestmark = [pytest.mark.image_full, pytest.mark.xdist_group("image"), pytest.mark.timeout(3600)]
PLACE = "/media/BACKUPS"


def test_a_backup_is_made_onto_a_stick_that_is_plugged_in(settled: Path, tmp_path: Path, login: Login) -> None:
    stick = tmp_path / "stick.img"
    run("mke2fs", "-q", "-t", "ext4", "-L", "BACKUPS", str(stick), f"{256 << 10}k")
    login.forget()
    with Machine(Overlay(settled, tmp_path / "card", CARD), Wishes(extra=list(USB))) as machine:
        guest = Guest(machine, login)
        guest.wait_up()
        guest.spark(f"config set backup.targets.usb.path {PLACE}/prime-spark")
        guest.root("systemctl restart prime-spark")
        guest.wait_up()
        with pytest.raises(RefusedError, match="in memory"):
            guest.spark("backup run usb --wait", limit=900)

        name = machine.plug(stick, usb=True)
        options = guest.wait("it is mounted", lambda: guest.root(f"findmnt -n -o OPTIONS --mountpoint {PLACE}"), 120)
        assert {"rw", "nosuid", "nodev", "noexec"} <= set(options.strip().split(","))
        guest.spark("backup run usb --wait", limit=900)
        assert "prime-spark" in guest.root(f"stat -c %U {PLACE}/prime-spark/config")

        machine.pull(name)
        guest.wait("it is gone", lambda: guest.root(f"! mountpoint -q {PLACE} && echo gone"), 120)
        with pytest.raises(RefusedError, match="in memory"):
            guest.spark("backup run usb --wait", limit=900)
        machine.switch_off()
    checked = subprocess.run(["e2fsck", "-p", str(stick)], capture_output=True, text=True, check=False)
    assert checked.returncode in {0, 1}, checked.stdout
