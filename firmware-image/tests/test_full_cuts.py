"""The power goes at random moments, on a disk that then forgets what was not flushed: the machine starts, and nothing that was
acknowledged is lost. PRIME_SPARK_CUTS=3 makes it that short, PRIME_SPARK_SEED=N repeats a run."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from conftest import CARD, NEWER
from imagelab.build import Builder, Built
from imagelab.disk import Volatile
from imagelab.guest import Guest
from imagelab.ledger import Ledger
from imagelab.machine import Machine, Wishes
from imagelab.ssh import Login

pytestmark = [pytest.mark.image_full, pytest.mark.xdist_group("image"), pytest.mark.timeout(8 * 3600)]
CUTS = int(os.environ.get("PRIME_SPARK_CUTS", "20"))
SEED = int(os.environ.get("PRIME_SPARK_SEED", str(random.SystemRandom().randrange(1 << 30))))
EARLIEST, LATEST = 1.0, 90.0
"""Seconds after the load began, between which the power goes."""


def test_whatever_was_acknowledged_outlives_cuts_of_the_power(
    settled: Path, builder: Builder, newer: Built, login: Login, web: tuple[Path, int], tmp_path: Path
) -> None:
    print(f"PRIME_SPARK_SEED={SEED}")
    builder.release(web[0] / "releases", newer.bundle)
    chance, ledger = random.Random(SEED), Ledger()
    machine = Machine(Volatile(settled, tmp_path / "card", CARD, SEED), Wishes(web=web[1]), "cuts")
    guest = Guest(machine, login)
    with machine:
        for number in range(CUTS):
            come_back(guest, ledger, number)
            load_and_cut(guest, ledger, chance, updating=number % 2 == 0)
        come_back(guest, ledger, CUTS)
        guest.wait("every service is well", lambda: not guest.unwell() or None, 300)


def come_back(guest: Guest, ledger: Ledger, number: int) -> None:
    """Start where it is off, and look whether all is there."""
    if not guest.machine.running:
        guest.machine.start()
    guest.login.forget()
    guest.wait_up(1200)
    missing, audit = ledger.lost(guest)
    print(f"after {number} cuts: slot {guest.slot()}, {guest.version()}, {len(ledger.known)} tasks, audit {audit}")
    assert missing == [], f"seed {SEED}: lost after {number} cuts"
    assert audit["intact"], f"seed {SEED}: {audit}"


def load_and_cut(guest: Guest, ledger: Ledger, chance: random.Random, *, updating: bool) -> None:
    """Submit tasks, in half of the rounds beside an update that is written, until the power goes."""
    known, moment = len(ledger.known), chance.uniform(EARLIEST, LATEST)
    with ledger.submitting(guest):
        guest.wait("the first task is acknowledged", lambda: len(ledger.known) > known, 120)
        if updating and guest.version() != NEWER and guest.update()["doing"] == "":
            guest.spark("update install --no-backup --yes")
        time.sleep(moment)  # the moment of the cut, which is the point of this test
        guest.machine.cut()
