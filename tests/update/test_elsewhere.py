"""A machine that was not started from our image: the service is absent, and every order says why and what to do instead."""

from __future__ import annotations

import pytest

from appliance.core.lifecycle.update.model import UpdateStatus
from appliance.core.lifecycle.update.service import UpdateService
from appliance.core.model import Actor, Health, Role
from appliance.core.state import Section
from appliance.errors import AbsentError
from tests.screens.conftest import Bench, bench  # noqa: F401
from tests.support import wait_for

ADA = Actor("ada", Role.admin, "console")


async def test_it_is_absent_with_a_reason(bench: Bench) -> None:  # noqa: F811
    def found() -> bool:
        services = bench.appliance.state.get(Section.services).value or ()
        return any(each.name == UpdateService.name and each.health is Health.absent for each in services)

    await wait_for(found)
    dispatcher = bench.appliance.dispatcher
    status = await dispatcher.invoke("update.status", {}, ADA)
    assert isinstance(status, UpdateStatus)
    assert (status.booted, status.slots) == (None, ())
    for name in ("update.install", "update.rollback", "update.reboot", "update.check", "update.verify"):
        with pytest.raises(AbsentError, match="not started from our image") as told:
            await dispatcher.invoke(name, {}, ADA, confirm=True)
        assert "apt install" in told.value.next_step
