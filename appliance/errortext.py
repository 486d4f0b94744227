"""Errors as people read them on a terminal."""

from __future__ import annotations

from appliance.core.printable import printable
from appliance.errors import ApplianceError


def error_text(error: ApplianceError) -> str:
    """What happened, and the next step, on two lines."""
    text = f"error: {error.message}" + (f"\nnext: {error.next_step}" if error.next_step else "")
    return printable(text, keep="\n")
