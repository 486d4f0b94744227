"""cashews, in a directory of its own, on the same redis-server."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

CASHEWS = "cashews==7.6.0"


@asynccontextmanager
async def cashews(url: str) -> AsyncIterator[Any]:
    """A cache as its documentation sets it up; None where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="cashews-") as target:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, CASHEWS]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            print(f"{CASHEWS} cannot be installed: nothing is measured beside it", file=sys.stderr)
            yield None
            return
        sys.path.insert(0, target)
        try:
            library, backends = importlib.import_module("cashews"), importlib.import_module("cashews.backends.redis")
            picklers = importlib.import_module("cashews.picklers")
            library.register_backend("unix", backends.Redis, pass_uri=True, pickler=picklers.PicklerType.DEFAULT)
            cache = library.Cache()
            cache.setup(url)
            await cache.init()
            yield cache
            await cache.close()
        finally:
            sys.path.remove(target)
