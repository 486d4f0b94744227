"""Version of our agent there, by the link that its installation switches; nothing is begun where there is none."""

from __future__ import annotations

import re
from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told

HOME = "/opt/prime-spark-agent"
"""Where it is installed: versions/VERSION-HASH, and the link `current` to one of them."""
NONE = "none is installed"
BROKEN = "its installation is broken: no version is in force"
"""Why there is no version, where that is known for sure."""
NAME = re.compile(r"(?:.*/)?(?P<version>[0-9][0-9A-Za-z.+!]{0,60})(?:-[0-9a-f]{4,64})?/?")


def parse(told: Told) -> dict[str, Any]:
    """The version that is in force."""
    found = NAME.fullmatch(told.line())
    if found is None:
        raise ValueError
    return {"agent": found["version"]}


FACT = Fact(
    "agent", parse,
    script=(
        f'if ! [ -e {HOME} ]; then echo "!{NONE}"\n'
        f'elif [ -d {HOME}/current/ ]; then readlink {HOME}/current || echo "!its version cannot be read"\n'
        f'else echo "!{BROKEN}"; fi'
    ),
)  # fmt: skip
