"""What dialogs about machines say."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 3
"""Machines that are named in a title."""


def several(names: Sequence[str]) -> str:
    """ "web1", "web1 and web2", "web1, web2 and 7 more"."""
    if len(names) <= 1:
        return "".join(names)
    if len(names) <= NAMED:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


def to_compare(name: str, confirmed: str) -> str:
    """How a host key is compared."""
    text = (
        f"Compare this with what {name} says of itself, on its own screen or in its provider's console: "
        "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Press its number only where both are the same."
    )
    if not confirmed:
        return text
    was = f"IT IS NOT THE KEY THAT WAS TRUSTED, {confirmed}. Either it was set up anew, or somebody is between here and there."
    return f"{was} {text}"
