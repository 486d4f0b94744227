"""Devices that fail at random, callers that go away, models that come and go: nobody is forgotten, or gets another's answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.inference.engine import Limits
from appliance.core.inference.engine.engine import DeviceEngine
from appliance.core.inference.model import DeviceReading, ModelVersion, Priority
from appliance.errors import ApplianceError, DeviceError, DeviceStalledError, ModelError
from tests.inference.engine_rig import SIDE, Doll, DollModel, deadline_in, engine, expected, request, version

LIMITS = Limits(
    waiting=20, stall={"hailo": -0.3, "cpu": 0.2}, slow=0, models=3, poll=0.02, probe_first=0.01, probe_longest=0.03,
    absent_retry=0.05, broken_retry=0.1,
)  # fmt: skip
REQUESTS = 800


class Wild(Doll):
    """Fails as chance will."""

    def __init__(self, chance: random.Random, *names: str) -> None:
        super().__init__(*names)
        self.chance = chance

    def load(self, path: str) -> WildModel:
        if self.chance.random() < 0.1:
            raise self.chance.choice([DeviceError("load"), ModelError("load")])
        return WildModel(self, path)

    def reading(self) -> DeviceReading:
        if self.chance.random() < 0.02:
            raise self.chance.choice([DeviceError("reading"), DeviceStalledError("reading")])
        return self.told

    def reset(self) -> None:
        if self.chance.random() < 0.3:
            raise DeviceError("reset")


class WildModel(DollModel):
    """Likewise; or answers so late that it was given up."""

    def infer(self, inputs: Any) -> Any:
        chance, x = self._doll.chance, np.array(inputs["x"])  # type: ignore[attr-defined]
        drawn = chance.random()
        time.sleep(chance.random() * 0.002)
        if drawn < 0.06:
            raise chance.choice([DeviceError("run"), DeviceStalledError("run"), ModelError("run"), ValueError("run")])
        if drawn < 0.065:
            time.sleep(0.5)
        return [expected(x)]


async def ask(made: DeviceEngine, chance: random.Random, model: ModelVersion, value: float) -> str:
    deadline = deadline_in(chance.random()) if chance.random() < 0.3 else None
    try:
        answer = await made.run(request(model, value, Priority(chance.randrange(4)), deadline))
    except ApplianceError as error:
        return type(error).__name__
    np.testing.assert_allclose(answer.outputs[0], expected(np.full((1, SIDE), value, np.float32)), rtol=1e-4)
    return "answered"


async def meddle(made: DeviceEngine, chance: random.Random, models: list[ModelVersion], hailo: Doll) -> None:
    """Models come and go, the card is pulled and put back."""
    while True:
        await asyncio.sleep(0.05)
        drawn = chance.random()
        if drawn < 0.4:
            await made.unload(chance.choice(models))
        elif drawn < 0.8:
            loading = asyncio.create_task(made.load(chance.choice(models)))
            await asyncio.sleep(chance.random() * 0.01)
            loading.cancel()
            await asyncio.wait([loading])
        else:
            hailo.here = not hailo.here


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_fails_each_request_ends_and_with_its_own_answer(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    hailo, cpu = Wild(chance), Wild(chance, "ONNX Runtime", "cpu", "onnx")
    models = [version(tmp_path / str(number), f"m{number}", hef_file=number != 2) for number in range(4)]
    async with engine(hailo, cpu, limits=LIMITS) as (made, _):
        meddling = asyncio.create_task(meddle(made, chance, models, hailo))
        asked = []
        for value in range(REQUESTS):
            asked.append(asyncio.create_task(ask(made, chance, chance.choice(models), float(value))))
            if chance.random() < 0.05:
                asyncio.get_running_loop().call_later(chance.random() * 0.05, asked[-1].cancel)
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.01)
        done, left = await asyncio.wait(asked, timeout=30)
        assert not left
        meddling.cancel()
        await asyncio.wait([meddling])
        results = Counter("cancelled" if task.cancelled() else task.result() for task in done)
        assert results["answered"], results
        status = made.status()
        assert (sum(status.waiting.values()), status.waiting_bytes, status.running) == (0, 0, 0)
