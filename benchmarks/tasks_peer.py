"""The peer's worker: the same task that does nothing, under Dramatiq on Redis."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["BENCH_REDIS"]
broker = RedisBroker(url=URL)  # type: ignore[no-untyped-call]
broker.add_middleware(Results(backend=RedisBackend(url=URL)))  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=3)  # type: ignore[untyped-decorator, unused-ignore]
def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Give the payload back."""
    return {"n": payload["n"]}
