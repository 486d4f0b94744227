"""The API against its own description, by schemathesis on a real socket: what it makes up, nothing answers wrongly.

What changes something is checked and does nothing here: requests that somebody makes up must not reach the machine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.api import gate
from tests.api.rig import USERS, Api, serving

EXAMPLES = int(os.environ.get("PRIME_SPARK_EXAMPLES", "0"))
"""Of each operation; all operations and phases then. Otherwise a few of some, by turns."""
pytestmark = pytest.mark.timeout(7200 if EXAMPLES else 120)

HERE = Path(__file__).resolve().parent
RUNNING = ("telemetry", "analytics", "queries", "memory", "tasks", "figures", "queues")
LONG = r"(wait|assistant|streams\.tail|llm\.(chat|generate))$|^/api/v1/events$"
"""Operations that take their time by their nature."""
SHORT = (
    r"^/(health|metrics|api/(memory|tasks|agents|power|llm/models|routing|v1/(analytics|cache|compute|preprocess|state|jobs)))"
)


def harmless(api: Api) -> None:
    """Actions that change something are admitted and checked as ever, and do nothing."""

    async def nothing(_: Any, __: Any) -> None:
        return None

    held = api.appliance.registry._actions
    held.update({name: dataclasses.replace(each, handler=nothing) for name, each in held.items() if not each.query})


@pytest.mark.parametrize("user", USERS if EXAMPLES else ["otto"])
async def test_nothing_contradicts_the_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setattr(gate, "STRANGERS", 1e6)  # it asks without a token all the time
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home, "", RUNNING) as api:
        role = USERS[user].name
        made = await api.invoke("api.token-create", name="maker", user=user, role=role)  # no session, which it would end
        harmless(api)
        what = ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--exclude-path-regex", LONG]
        few = ["--phases", "fuzzing", "--max-examples", "3", "--include-path-regex", SHORT]
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run",
            f"{api.url}/openapi.json", "-H", f"Authorization: Bearer {made['token']}", "--warnings", "off",
            "--no-shrink", "--continue-on-failure", "--seed", "1", *(what if EXAMPLES else few),
        ]  # fmt: skip
        child = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            told, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    text = told.decode(errors="replace")
    (tmp_path / "told.txt").write_text(text)
    assert child.returncode == 0, text[-6000:]
    assert " passed in " in text or "No issues found" in text, text[-2000:]
