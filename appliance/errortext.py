"""Errors as people read them on a terminal."""

from __future__ import annotations

from appliance.core.printable import printable
from appliance.errors import ApplianceError


def error_text(error: ApplianceError) -> str:
    """What happened, and the next step, on two lines; and so for what else is wrong in the same file."""
    told = [
        f"error: {each.message}" + (f"\nnext: {each.next_step}" if each.next_step else "") for each in (error, *error.others)
    ]
    return printable("\n".join(told), keep="\n")
