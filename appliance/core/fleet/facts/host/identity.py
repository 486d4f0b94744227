"""Name, kernel and architecture."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told


def parse(told: Told) -> dict[str, Any]:
    """As uname tells them."""
    name, kernel, arch = told.line().split()
    return {"hostname": name, "kernel": kernel, "arch": arch}


FACT = Fact("uname", parse, script="uname -nrm")
