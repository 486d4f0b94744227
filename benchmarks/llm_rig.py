"""Upstream, gateway and peer, each in a process of its own: `python -m benchmarks.llm_rig upstream|gateway …`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from appliance.api.llm import llm_routes
from appliance.core.clock import SystemClock
from appliance.core.llm.service import Ground, LlmService
from appliance.core.model import Actor, Role
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.settingllm import LlmSettings
from tests.llm.upstreams import bound

MOST = 1000
MODEL = "bench"
WORDS = ("The", " sky", " is", " blue", ".")
LITELLM = "litellm[proxy]==1.77.7"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prime-spark-bench" / "litellm-1.77.7"
INSTALLING, STARTING = 900.0, 120.0
"""Seconds."""


@contextlib.contextmanager
def process(*words: str) -> Iterator[tuple[str, int]]:
    """One of ours; (its address, its process id)."""
    command = [sys.executable, "-m", "benchmarks.llm_rig", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().strip(), child.pid
        finally:
            child.terminate()


# -- the upstream ------------------------------------------------------------------------------------------------------


def upstream(pause: float = 0.0) -> Starlette:
    """Speaks as OpenAI does, and answers after so many seconds."""

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}]})

    async def chat(request: Request) -> Response:
        body = json.loads(await request.body())
        if pause:
            await asyncio.sleep(pause)
        if body.get("stream"):
            return StreamingResponse(_events(), media_type="text/event-stream")
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**_head("chat.completion"), "choices": [choice], "usage": USAGE})

    return Starlette(routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])])


USAGE = {"prompt_tokens": 26, "completion_tokens": len(WORDS), "total_tokens": 26 + len(WORDS)}


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": MODEL}


async def _events() -> AsyncIterator[bytes]:
    head = _head("chat.completion.chunk")
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in WORDS] + [({}, "stop")]
    for delta, finish in deltas:
        row = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        yield b"data: " + json.dumps(row).encode() + b"\n\n"
    yield b"data: " + json.dumps({**head, "choices": [], "usage": USAGE}).encode() + b"\n\ndata: [DONE]\n\n"


# -- the gateway -------------------------------------------------------------------------------------------------------


async def gateway(*places: str) -> None:
    """Routes to endpoints, each told as PLACE=URL."""
    with tempfile.TemporaryDirectory(prefix="ps-llm-") as own:
        clock = SystemClock()
        endpoints: dict[str, Any] = {}
        for place, _, url in (each.partition("=") for each in places):
            endpoints[place] = {"url": url, "kind": "openai", "place": place, "limit": MOST, "queue": MOST}
        settings = LlmSettings.model_validate({"endpoints": endpoints, "strategy": "cloud-first", "hedge": True,
                                               "cloud_timeout_seconds": 0.25})  # fmt: skip
        store, state = Store(Path(own) / "state.db"), LiveState(clock)
        store.open()
        service = LlmService(Ground(settings, store, Secrets(Path(own), {}), state, clock))
        await service.start()
        running = asyncio.create_task(service.run())
        await service.gateway.probe()

        async def status(_: Request) -> Response:
            shown = service.gateway.status()
            return JSONResponse({"hedges": shown.hedges, "failovers": shown.failovers, "failed": shown.failed})

        routes = [*llm_routes(service, lambda _: Actor("bench", Role.operator, "api")), Route("/status", status)]
        try:
            await serve(Starlette(routes=routes))
        finally:
            running.cancel()
            await service.stop()
            store.close()


async def serve(app: Starlette) -> None:
    """On a port of loopback, until SIGTERM."""
    with bound(MOST) as sock:
        print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[sock])


# -- the peer ----------------------------------------------------------------------------------------------------------


def litellm_program() -> Path | None:
    """LiteLLM's proxy in an environment of its own, installed at the first call; None where that does not succeed."""
    program = CACHE / "bin" / "litellm"
    if program.exists():
        return program
    venv.create(CACHE, with_pip=True, clear=True)
    command = [str(CACHE / "bin" / "pip"), "install", "--quiet", "--only-binary", ":all:", LITELLM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING, check=False)
    if done.returncode:
        print(f"LiteLLM could not be installed, so it is not measured: {done.stderr[-300:]}", file=sys.stderr)
        return None
    return program


@contextlib.contextmanager
def litellm(url: str) -> Iterator[tuple[str, int] | None]:
    """Its proxy before the same upstream; (its address, its process id), None where it cannot be had."""
    program = litellm_program()
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ps-litellm-") as own, socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        given = {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"}
        config = Path(own) / "config.yaml"
        config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": given}]}))
        command = [program, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "HOME": own}
        with (Path(own) / "log").open("wb") as log:
            child = subprocess.Popen(
                [str(each) for each in [*command, "--telemetry", "False"]], stdout=log, stderr=log,
                env={**os.environ, **quiet}, cwd=own,
            )  # fmt: skip
            try:
                ready = _listens(port, child)
                if not ready:
                    print(f"LiteLLM did not start: {(Path(own) / 'log').read_text()[-600:]}", file=sys.stderr)
                yield (f"http://127.0.0.1:{port}", child.pid) if ready else None
            finally:
                child.terminate()
                child.wait(20)


def _listens(port: int, child: subprocess.Popen[bytes]) -> bool:
    ends = time.monotonic() + STARTING
    while time.monotonic() < ends and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        asyncio.run(serve(upstream(*map(float, sys.argv[2:]))))
    else:
        asyncio.run(gateway(*sys.argv[2:]))
