"""A token of the package manager's state: what could be upgraded is asked anew only where it is another one."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told


def parse(told: Told) -> dict[str, Any]:
    """The times of its files, as they stand there; empty where it has no manager that is known."""
    return {"packages": " ".join(told.lines())}


FACT = Fact(
    "packages", parse,
    script=(
        "set --; for each in /var/lib/dpkg/status /var/lib/apt/lists /var/lib/apt/lists/partial /lib/apk/db/installed "
        "/var/cache/apk /usr/lib/opkg/status /tmp/opkg-lists; do [ -e \"$each\" ] && set -- \"$@\" \"$each\"; done\n"
        '[ "$#" -gt 0 ] && ls -ld --time-style=+%s "$@" || ls -ld "$@"'
    ),
)  # fmt: skip
