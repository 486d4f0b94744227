"""RAUC itself: what it takes, what it refuses, and what is told of that."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from appliance.core.lifecycle.update import rauc
from appliance.core.lifecycle.update.faults import BusyError, RefusedError, ServiceAwayError
from appliance.core.lifecycle.update.rauc import Rauc
from appliance.errors import AbsentError, UpdateError
from tests.update import raucrig
from tests.update.raucrig import Bundles, Machine


async def test_a_bundle_goes_into_the_other_slot_which_is_tried_next(whole: Machine, bundles: Bundles) -> None:
    await whole.up()
    steps: list[tuple[float, str]] = []
    await whole.rauc.install(bundles["good"], 60, lambda share, what: steps.append((share, what)))
    now = whole.choice
    assert (now.committed, now.trial, now.left, now.good) == ("A", "B", 1, "A")
    assert steps[-1][0] == 1.0
    assert any("rootfs.1" in what for _, what in steps)
    status = await whole.rauc.status()
    assert (status.booted, status.compatible) == ("A", "prime-spark-amd64")
    assert status.primary == "rootfs.1"
    system, boot = sorted(status.of("B"), key=lambda each: each.kind, reverse=True)
    content = (whole.root / "system-b.img").read_bytes()
    assert (system.version, system.status, system.size) == ("2.0.0", "ok", len(content))
    assert system.sha256 == hashlib.sha256(content).hexdigest()
    assert boot.kind == "bootfs"
    assert all(each.version is None and not each.status for each in status.of("A"))
    assert content == raucrig.content_of(1, raucrig.SYSTEM_SIZE)


REFUSED = {
    "foreign": (RefusedError, "does not trust"), "other": (RefusedError, "another kind of machine"),
    "truncated": (RefusedError, "ends without a signature"), "unsigned": (RefusedError, "ends without a signature"),
    "altered": (RefusedError, "altered after it had been signed"), "text": (RefusedError, "ends without a signature"),
    "missing": (RefusedError, "is not there"),
}  # fmt: skip


async def test_what_is_refused_says_why_and_writes_nothing(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    before = machine.choice
    for name, (kind, said) in REFUSED.items():
        with pytest.raises(kind, match=said) as told:
            await machine.rauc.install(bundles[name], 60, lambda share, what: None)
        assert told.value.next_step, name
        if name != "other":
            with pytest.raises(kind, match=said):
                await machine.rauc.info(bundles[name])
    assert machine.choice == before
    assert (machine.root / "system-b.img").read_bytes() == bytes(raucrig.SYSTEM_SIZE)
    found = await machine.rauc.info(bundles["other"])
    assert (found.compatible, found.version) == ("prime-spark-arm64", "2.0.0")
    assert found.size == raucrig.SYSTEM_SIZE + raucrig.BOOT_SIZE


async def test_two_at_once_are_refused_by_rauc_itself(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    held = machine.hold("set-state")
    first = asyncio.create_task(machine.rauc.install(bundles["good"], 60, lambda share, what: None))
    await machine.reached("set-state B bad")
    assert await machine.rauc.busy()
    with pytest.raises(BusyError, match="Another update"):
        await machine.rauc.install(bundles["newer"], 60, lambda share, what: None)
    with pytest.raises(BusyError):
        await machine.rauc.mark("good")
    held.unlink()
    await first
    assert not await machine.rauc.busy()


async def test_a_backend_that_fails_stops_the_update_before_anything_is_written(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    (machine.root / "backend").write_text(
        '#!/bin/sh\ncase "$1" in get-primary) echo A;; get-state) echo good;; *) exit 1;; esac\n'
    )
    with pytest.raises(UpdateError, match="boot choice could not be changed"):
        await machine.rauc.install(bundles["good"], 60, lambda share, what: None)
    with pytest.raises(UpdateError, match="boot choice could not be changed"):
        await machine.rauc.mark("good")
    assert (machine.root / "system-b.img").read_bytes() == bytes(raucrig.SYSTEM_SIZE)


async def test_a_service_that_is_away_or_was_killed_is_told(machine: Machine, bundles: Bundles) -> None:
    await machine.up()
    machine.hold("set-primary")
    work = asyncio.create_task(machine.rauc.install(bundles["good"], 60, lambda share, what: None))
    await machine.reached("set-primary B")
    machine.end_rauc(kill=True)
    with pytest.raises(ServiceAwayError, match="does not answer"):
        await work
    with pytest.raises(ServiceAwayError, match="does not answer"):
        await machine.rauc.status()
    nowhere = Rauc({**machine.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={machine.root}/nobody"})
    with pytest.raises(ServiceAwayError):
        await nowhere.status()


async def test_a_machine_without_rauc_says_so() -> None:
    without = Rauc({"PATH": "/nonexistent"})
    assert without.missing()
    with pytest.raises(AbsentError, match="not installed"):
        await without.status()


STATUS = (
    b'{"compatible": "x", "booted": "A", "boot_primary": null, "slots": [{"rootfs.0": {"class": "rootfs", "device": "/dev/x", '
)
STATUS += b'"state": "booted", "slot_status": {"installed": {"timestamp": "yesterday"}}}}]}'


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"compatible": "\xff"}', STATUS])
def test_an_answer_that_makes_no_sense_is_told(said: bytes) -> None:
    with pytest.raises(UpdateError, match="cannot be read"):
        rauc.read_status(said)
    with pytest.raises(UpdateError, match="cannot be read"):
        rauc.read_bundle(said)
