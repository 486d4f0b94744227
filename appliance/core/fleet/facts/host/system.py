"""The distribution (os-release(5))."""

from __future__ import annotations

import shlex
from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

FILES = ("/etc/os-release", "/usr/lib/os-release")


def parse(told: Told) -> dict[str, Any]:
    """Its pretty name."""
    for path in FILES:
        values = dict(line.split("=", 1) for line in told.files.get(path, []) if "=" in line)
        name = values.get("PRETTY_NAME") or values.get("NAME")
        if name:
            return {"os": " ".join(shlex.split(name)) or name}
    raise NotToldError("it has no os-release")


FACT = Fact("os", parse, files=FILES)
