"""What serves where nobody named a model, and what is told where nothing can be gone back to."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ConflictError, NotFoundError
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.registry_rig import Rig, picture, running, write_model
from tests.inference.test_service import ByteDevice


async def test_what_is_added_does_not_become_the_one_that_serves_unasked(tmp_path: Path) -> None:
    """Neither at once nor at the next start, wherever its directory comes in the search."""
    home = tmp_path / "home"
    write_model(home / "given/z", name="zebra")
    for _ in range(2):
        rig = Rig(home)
        rig.parts.registry.setup.shelf.places[:] = [rig.models, rig.given]
        async with running(rig):
            if not rig.models.exists() or not list(rig.models.rglob("*.onnx")):
                await rig.serve("1")
            assert (await rig.service.infer(picture(), "a.png")).model == "zebra"
            assert (await rig.service.infer(picture(), "a.png", model="colours")).model == "colours"


async def test_a_rollback_that_cannot_be_says_what_is_meant_instead(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home")) as rig:
        with pytest.raises(NotFoundError, match="There is no model colors"):
            await rig.parts.deciding.rollback("colors")
        await rig.serve("1")
        with pytest.raises(ConflictError) as raised:
            await rig.parts.deciding.rollback("colours")
        assert "model activate colours" in raised.value.next_step
        await rig.add("2")
        await rig.parts.deciding.split("colours", "2", "ab", 10.0)
        with pytest.raises(ConflictError, match="2 is only on trial") as raised:
            await rig.parts.deciding.rollback("colours")
        assert "model split-end colours" in raised.value.next_step


async def test_the_backend_that_is_shown_can_run_the_model(tmp_path: Path) -> None:
    """A Hailo without a HEF of it is none."""
    rig = Rig(tmp_path / "home", accelerators=[ByteDevice(), OnnxAccelerator(1)])
    async with running(rig):
        assert rig.service.status().backend == ""
        await rig.serve("1")
        assert rig.service.status().backend == "cpu"
