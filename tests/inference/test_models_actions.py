"""What the actions on models leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import Invocation
from appliance.core.catalog.models import Versioned, model_actions
from appliance.core.jobs import Jobs
from appliance.core.model import Actor, Role
from appliance.errors import ModelError
from tests.inference.registry_rig import Rig, running, write_model


async def verify(rig: Rig, version: str) -> Any:
    jobs = Jobs(rig.store, rig.state, rig.clock)
    action = next(each for each in model_actions(rig.parts, jobs) if each.name == "model.verify")
    params = Versioned(name="colours", version=version)
    return await action.handler(Invocation(Actor("ada", Role.admin, "ssh"), "model.verify", "1"), params)


async def test_what_a_proof_showed_is_known_afterwards(tmp_path: Path) -> None:
    """Of a version that a set-up put there, and after a restart too; a failure is known as well."""
    rig = Rig(tmp_path / "home")
    given = write_model(rig.given / "colours")
    async with running(rig):
        assert rig.row("1").tested == ""
        told = await verify(rig, "1")
        assert "self-test on ONNX Runtime" in told["shown"]
        assert rig.row("1").tested == told["shown"]
    again = Rig(tmp_path / "home")
    async with running(again):
        assert again.row("1").tested == told["shown"]
        (given / "model.onnx").write_bytes(b"another")
        with pytest.raises(ModelError, match="SHA-256"):
            await verify(again, "1")
        assert again.row("1").tested.startswith("failed: ")
