"""Packages whose front is not run until something of it is asked for; in processes of their own."""

from __future__ import annotations

import subprocess
import sys

START = "import sys\nfrom appliance.core.lean import without_front, hidden\n"


def run(text: str) -> str:
    done = subprocess.run([sys.executable, "-c", START + text], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_parts_come_without_the_front_and_the_front_when_it_is_asked_for() -> None:
    text = """
without_front("uvicorn")
from uvicorn.server import Server
assert "uvicorn.main" not in sys.modules
import uvicorn
assert uvicorn.config.Config and "uvicorn.main" not in sys.modules
assert uvicorn.run and "uvicorn.main" in sys.modules
assert uvicorn.Server is Server
without_front("uvicorn")
print(sys.modules["uvicorn"] is uvicorn)
"""
    assert run(text) == "True"


def test_what_is_not_there_is_told_as_ever() -> None:
    text = """
without_front("no_such_package_at_all")
try:
    import no_such_package_at_all
except ModuleNotFoundError as error:
    print(error.name)
without_front("redis")
import redis
try:
    redis.nothing
except AttributeError as error:
    print("nothing" in str(error))
"""
    assert run(text).split() == ["no_such_package_at_all", "True"]


def test_redis_takes_neither_clusters_nor_telemetry_along() -> None:
    text = """
for name in ("redis", "redis.asyncio"):
    without_front(name)
with hidden("opentelemetry"):
    from appliance.core.memory.redis_wire import connect
print(sorted({"redis.cluster", "redis.asyncio.cluster", "opentelemetry"} & set(sys.modules)))
"""
    assert run(text) == "[]"
