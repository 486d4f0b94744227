"""What came of the file is told where people look: the wizard, the services, the doctor, the notice before the console."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from appliance import config, paths
from appliance.core.doctor.checks import first_boot
from appliance.core.lifecycle.firstboot.apply import tell
from appliance.core.lifecycle.firstboot.model import Outcome
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Health, Role
from appliance.core.state import Section
from appliance.errors import ApplianceError, PreconditionError
from appliance.runtime import Appliance
from tests.firstboot import rig
from tests.screens.conftest import Bench
from tests.support import wait_for
from tests.unit.doctor_support import Machine

BROKEN = Outcome("broken", "/boot/firmware/prime-spark.toml", 7, "users[1].name: it is missing.", "write name = … there.")


@pytest.fixture
async def new(home: Path) -> AsyncIterator[Bench]:
    """A running appliance that nobody has set up, as a fresh image starts it."""
    where = paths.find()
    where.make()
    tell(where.run, BROKEN)
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    assert appliance.supervisor is not None
    await appliance.supervisor.settled()
    yield Bench(appliance)
    await appliance.stop()


async def test_the_wizard_says_what_is_wrong_and_asks_as_ever(new: Bench) -> None:
    seen = new.open()
    await seen.shows("First run")
    await seen.shows("/boot/firmware/prime-spark.toml:7: users[1].name: it is missing.")
    await seen.shows("Next: write name = … there.")
    await seen.shows("Nobody is administrator yet")
    services = {each.name: each for each in new.appliance.state.get(Section.services).value}
    assert services["accounts"].health is Health.degraded
    assert "users[1].name: it is missing." in services["accounts"].reason
    await seen.fill("device_id", "spark-7")
    await seen.fill("admin", "ada")
    await seen.fill("password", "correct horse")
    await seen.fill("again", "correct horse")
    await wait_for(lambda: new.appliance.state.get(Section.setup).value["done"])
    assert new.appliance.state.get(Section.setup).value["problem"], "the file is still wrong"
    await seen.end()


async def test_a_data_partition_that_cannot_be_used_is_told_first(new: Bench) -> None:
    run = new.appliance.paths.run
    with pytest.raises(PreconditionError, match="is sound"):
        await new.invoke("setup.reset-data")
    (run / "data-fault.json").write_text('{"reason": "it cannot be mounted", "next": "x"}')
    await new.invoke("setup.complete", admin="ada", password="correct horse")
    with pytest.raises(ApplianceError, match="only at this machine"):
        await new.appliance.dispatcher.invoke("setup.reset-data", {}, Actor("ada", Role.admin, "ssh"), confirm=True)
    found = new.appliance.state.get(Section.setup).value
    assert "it cannot be mounted. What is set now is kept in memory only" in found["problem"]
    assert "reset-data" in found["next_step"]


def test_the_notice_goes_when_all_is_well(box: rig.Box) -> None:
    tell(box.run, BROKEN)
    notice = box.run / "notice.d/first-boot.txt"
    assert notice.read_text() == (
        "/boot/firmware/prime-spark.toml:7: users[1].name: it is missing.\nNext: write name = … there.\n"
    )  # fmt: skip
    tell(box.run, Outcome("none"))
    assert not notice.exists()


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (None, "absent", "not started from our image"),
        (Outcome("none", "/x.toml"), "ok", "there is no first-boot file"),
        (Outcome("kept", "/x.toml", clock="1970-01-01T00:00:12Z"), "ok", "/x.toml was applied; the clock showed 1970"),
        (Outcome("applied", "/x.toml", warnings=("x.toml~ may hold the same passwords",)), "warning", "x.toml~"),
        (BROKEN, "failed", "prime-spark.toml:7: users[1].name: it is missing; nothing of it was applied"),
        (Outcome("waiting", "/x.toml", None, "It is not applied.", "wait."), "failed", "/x.toml: It is not applied"),
    ],
    ids=["another system", "no file", "kept", "copies", "broken", "waiting"],
)
async def test_the_doctor_looks_at_it(machine: Machine, outcome: Outcome | None, status: str, reason: str) -> None:
    if outcome is not None:
        machine.file("run/prime-spark/first-boot.json", msgspec.json.encode(outcome).decode())
    found = await first_boot.run(machine.context())
    assert found.status == status
    assert reason in found.reason
    assert found.fix or status == "ok"
