"""An upstream and a gateway, each in a process of its own: `python -m benchmarks.llm_rig upstream|gateway [URL]`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from appliance.api.llm import llm_routes
from appliance.core.clock import SystemClock
from appliance.core.llm.service import Ground, LlmService
from appliance.core.model import Actor, Role
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.settingllm import LlmSettings
from tests.llm.upstreams import FakeOllama

MOST = 1000


@contextlib.contextmanager
def process(*words: str) -> Iterator[tuple[str, int]]:
    """One of the two; (its address, its process id)."""
    command = [sys.executable, "-m", "benchmarks.llm_rig", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().strip(), child.pid
        finally:
            child.terminate()


async def upstream() -> None:
    """Answers at once."""
    await serve(FakeOllama().app())


async def gateway(url: str) -> None:
    """Routes to one endpoint."""
    with tempfile.TemporaryDirectory(prefix="ps-llm-") as own:
        clock = SystemClock()
        wanted: dict[str, Any] = {"url": url, "limit": MOST, "queue": MOST}
        settings = LlmSettings.model_validate({"endpoints": {"home": wanted}})
        store = Store(Path(own) / "state.db")
        store.open()
        service = LlmService(Ground(settings, store, Secrets(Path(own), {}), LiveState(clock), clock))
        await service.start()
        running = asyncio.create_task(service.run())
        try:
            await serve(Starlette(routes=llm_routes(service, lambda _: Actor("bench", Role.operator, "api"))))
        finally:
            running.cancel()
            await service.stop()
            store.close()


async def serve(app: Starlette) -> None:
    """On a port of loopback, until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0), backlog=MOST) as sock:
        print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[sock])


if __name__ == "__main__":
    asyncio.run(upstream() if sys.argv[1] == "upstream" else gateway(sys.argv[2]))
