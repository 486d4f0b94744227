"""An appliance whose API listens, in a process of its own on one core: `python -m benchmarks.api_rig CORE`.

It prints where it is, and tokens of ten programs. Beside the API runs what fills the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.api.rig import serving
from tests.llm.upstreams import FakeOllama, up

PROGRAMS = 10
RUNNING = ("telemetry", "analytics", "queues", "figures", "memory", "queries", "devices", "llm", "power", "tasks")
SETTINGS = """
[api]
enabled = true
port = 0
requests_per_second = 1000
streams = 600
connections = 4096

[llm]
edge_url = "{url}"
"""


class Place(msgspec.Struct):
    """Where it listens."""

    url: str
    port: int
    pid: int
    tokens: list[str]


@contextlib.contextmanager
def appliance(core: int) -> Iterator[Place]:
    """It, until the end of the context."""
    command = [sys.executable, "-m", "benchmarks.api_rig", str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            yield msgspec.json.decode(child.stdout.readline(), type=Place)
        finally:
            child.terminate()


async def main(core: int) -> None:
    """Serve until SIGTERM."""
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory(prefix="ps-api-") as own:
        home = Path(own) / "home"
        home.mkdir(mode=0o700)
        model = FakeOllama()
        async with up(model), serving(home, "", RUNNING, SETTINGS.format(url=model.url)) as api:
            names = [f"program{number}" for number in range(PROGRAMS)]
            made = [await api.invoke("api.token-create", name=name, user="otto", role="operator") for name in names]
            told = Place(api.url, api.port, os.getpid(), [each["token"] for each in made])
            sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
            sys.stdout.buffer.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
