"""What is not wrong in a first-boot file, and may still not be what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from appliance.core.lifecycle.firstboot.form import FirstBoot
from appliance.core.secrets import VARIABLES

KNOWN = frozenset({*VARIABLES, "acme.eab_key"})
"""Secrets that have a name of their own."""
FAMILIES = re.compile(r"(source|ups\.nut|vpn\.peer|fleet)\..+|.+\.key|.+\.pem")
"""Those of sources, UPSes, peers and machines are named after these; keys come from elsewhere."""


def notes(found: FirstBoot) -> tuple[str, ...]:
    """What is to be said of a file that is valid."""
    return tuple(_all(found))


def _all(found: FirstBoot) -> Iterator[str]:
    if found.users and not any(each.role == "admin" for each in found.users):
        yield 'none of its users is an administrator (role = "admin"): nobody of them may set it up, or update it'
    for name in found.network:
        if re.fullmatch(r"eth\d+", name):
            yield f"network.{name}: sockets are called end0, enp2s0 and the like here; network.wired is for all of them"
    named = set(_texts(found.settings))
    for name in found.secrets:
        if name not in KNOWN | named and FAMILIES.fullmatch(name) is None:
            near = difflib.get_close_matches(name, sorted(KNOWN | named), 1, 0.7)
            yield f"secrets.{name}: no setting asks for it" + (f"; did you mean {near[0]}?" if near else "")


def _texts(value: Any) -> Iterator[str]:
    """All texts of the settings: some of them name secrets."""
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _texts(each)
