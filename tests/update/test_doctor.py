"""The doctor on a machine with two slots: what an update would need, asked before there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.core.doctor.checks import update
from appliance.core.doctor.checks.update import CHECK
from appliance.core.doctor.model import DoctorContext
from appliance.core.lifecycle.update import proving
from appliance.core.lifecycle.update.book import Book
from appliance.core.model import CheckResult
from appliance.settingupdate import UpdateSettings
from tests.unit.doctor_support import Machine as Root
from tests.update import release_rig
from tests.update.raucrig import Machine
from tests.update.release_rig import bundle


@pytest.fixture
def maker(tmp_path: Path) -> release_rig.Maker:
    """Of releases."""
    (tmp_path / "maker").mkdir()
    return release_rig.maker(tmp_path / "maker")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A file system that our image was started from."""
    (tmp_path / "root").mkdir()
    return Root(tmp_path / "root")


def context(root: Root, machine: Machine, **settings: object) -> DoctorContext:
    """Of the machine whose RAUC runs."""
    for place, name in (("firmware", "boot/firmware"), ("run", "run/prime-spark"), ("data", "home")):
        link = root.root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(machine.root / place)
    root.file("proc/cmdline", (machine.root / "cmdline").read_text())
    root.file("etc/os-release", (machine.root / "os-release").read_text())
    return root.context(environ=machine.environ, updates=UpdateSettings.model_validate(settings))


async def look(context: DoctorContext, status: str) -> CheckResult:
    found = await CHECK.run(context)
    assert found.status == status, found
    assert bool(found.fix) is (status != "ok")
    return found


async def test_off_our_image_there_are_none(root: Root) -> None:
    found = await look(root.context(), "absent")
    assert "not started from our image" in found.reason


async def test_all_that_an_update_needs_is_asked(root: Root, machine: Machine, maker: release_rig.Maker) -> None:
    await machine.up()
    found = await look(context(root, machine, key=maker.home / "none.pub"), "failed")
    assert "public key of the releases is not there" in found.reason
    found = await look(context(root, machine, key=maker.key), "ok")
    assert found.reason == "1.0.0 runs from slot A; no source is configured: bundles are installed by hand"
    place = maker.release(bundle("2.0.0", "amd64"))
    given = context(root, machine, key=maker.key, source=str(place))
    assert "2.0.0 is newer than 1.0.0" in (await look(given, "ok")).reason
    (place / "SHA256SUMS").write_text("0" * 64 + "  prime-spark-3.0.0-amd64.raucb\n")
    assert "signature of SHA256SUMS is not good" in (await look(given, "failed")).reason
    assert "is not there" in (await look(context(root, machine, key=maker.key, source="/nowhere/at/all"), "failed")).reason


async def test_a_user_who_may_not_ask_is_told_how(root: Root, machine: Machine) -> None:
    given = context(root, machine)
    root.program("rauc", "echo 'Error: GDBus.Error:org.freedesktop.DBus.Error.AccessDenied: Rejected send message' >&2; exit 1")
    found = await look(replace(given, environ=root.bare()), "absent")
    assert (found.reason, found.fix) == ("This user may not use RAUC's service", "sudo prime-spark doctor")


async def test_a_damaged_slot_a_trial_and_a_lost_choice_are_told(
    root: Root, machine: Machine, maker: release_rig.Maker
) -> None:
    await machine.up()
    given, book = context(root, machine, key=maker.key), Book(machine.root / "data/update.json")
    book.change_slot("B", problem="voice: no microphone")
    await look(given, "ok")
    book.change_slot("B", problem=f"system: {proving.DAMAGED}")
    assert "slot B: system: its contents are not" in (await look(given, "failed")).reason
    book.change_slot("B", problem="")
    path = machine.places.boot / "EFI/BOOT/grubenv"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"trial=-", b"trial=A").replace(b"committed=A", b"committed=B"))
    assert "on trial; slot B is claimed" in (await look(given, "warning")).reason
    path.write_bytes(b"nothing of that")
    assert "damaged" in (await look(given, "warning")).reason
    path.write_bytes(sound)
    machine.end_rauc()
    assert "does not answer" in (await look(given, "failed")).reason


async def test_rauc_without_a_slot_is_told(machine: Machine) -> None:
    await machine.up()
    status = await machine.rauc.status()
    book = Book(machine.root / "data/update.json")
    assert update.slots(status, book.notes) == ""
    alone = type(status)(status.compatible, status.booted, status.primary, status.of("A"))
    assert update.slots(alone, book.notes) == "RAUC knows no slot B"
