"""Packages that could be upgraded, by what the package manager knows already; nothing is fetched and nothing is changed."""

from __future__ import annotations

import re
from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

SECURITY = re.compile(r"[Ss]ecurity")


def parse(told: Told) -> dict[str, Any]:
    """How many, and how many of them mend security where it says so (apt does)."""
    how, *rows = told.lines()
    if how == "apt":
        found = [line for line in rows if line.startswith("Inst ")]
        if not found and not any(" upgraded, " in line for line in rows):
            raise NotToldError(f"apt-get said {(rows or ['nothing'])[0][:120]!r}")
        return {"updates": len(found), "security_updates": sum(SECURITY.search(line) is not None for line in found)}
    if how == "opkg":
        return {"updates": sum(" - " in line for line in rows), "security_updates": None}
    if how == "apk":
        return {"updates": sum("<" in line or "upgradable" in line for line in rows), "security_updates": None}
    raise NotToldError(how[:120])


FACT = Fact(
    "updates", parse,
    script=(
        "if command -v apt-get >/dev/null; then echo apt; "
        "nice -n 19 apt-get -q -s -o Debug::NoLocking=true upgrade 2>&1 | grep -E '^(Inst |E: )| upgraded, ' | head -c 400000\n"
        "elif command -v apk >/dev/null; then echo apk; nice -n 19 apk version -l '<' 2>&1 | head -c 400000\n"
        "elif command -v opkg >/dev/null; then echo opkg; nice -n 19 opkg list-upgradable 2>&1 | head -c 400000\n"
        'else echo "!it has neither apt nor apk nor opkg"; fi'
    ),
)  # fmt: skip
