"""A machine with an I2C bus, pins and power supplies that are not there: umockdev around the unmodified drivers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.power.model import UpsReading
from appliance.hw.ups.found import Wanted
from tests.support import capability, needs_program

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
LIMIT = 30.0


class Machine:
    """The rig, by lines.

    Args:
        process: umockdev around the rig.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def order(self, **order: Any) -> Any:
        """Give one order of umockdev_rig or umockdev_child, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        line = await asyncio.wait_for(self._process.stdout.readline(), LIMIT)
        assert line, "the rig has ended"
        return json.loads(line)

    async def chips(self, **registers: dict[int, int]) -> None:
        """Set registers: chips(x36={0x02: 0xC800})."""
        told = {str(int(name[1:], 16)): {str(key): word for key, word in words.items()} for name, words in registers.items()}
        await self.order(chips=told)

    async def probe(self) -> list[str]:
        """Names of what is found."""
        return [name for name, _, _ in await self.order(probe=True)]

    async def read(self, name: str) -> UpsReading:
        """A look that succeeds."""
        return msgspec.convert(await self.order(read=name), UpsReading)

    async def refused(self, name: str) -> tuple[str, str, str]:
        """A look that does not: its error's type, message and next step."""
        answer = await self.order(read=name)
        assert "error" in answer, answer
        return answer["error"], answer["message"], answer["next"]


@contextlib.asynccontextmanager
async def machine(**wanted: Any) -> AsyncIterator[Machine]:
    """A machine for the time of a test.

    Args:
        **wanted: Of hw.ups.found.Wanted; NUT and PiSugar are not asked unless they are named.
    """
    wrapper = needs_program("umockdev-wrapper")
    known = subprocess.run([PYTHON, "-c", "import gi; gi.require_version('UMockdev', '1.0')"], capture_output=True, check=False)
    capability(known.returncode == 0, "gir1.2-umockdev-1.0 with python3-gi")
    described = msgspec.json.encode(Wanted(**({"nut": (), "pisugar": None} | wanted))).decode()
    environ = os.environ | {"GPIOZERO_PIN_FACTORY": "mock", "PYTHONPATH": str(HERE.parents[1])}
    command = [wrapper, PYTHON, str(HERE / "umockdev_rig.py"), sys.executable, str(HERE / "umockdev_child.py"), described]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environ)
    try:
        yield Machine(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), LIMIT)
