"""Settings of the sources of frames."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from appliance import settingforms as forms
from appliance.settinggroups import Group


class SourceSettings(Group):
    """Where frames come from, and what is kept of them."""

    most: Annotated[int, Field(ge=1, le=64)] = 16
    """Sources that may be set."""
    time_zone: Annotated[str, AfterValidator(forms.time_zone)] = ""
    """Of the schedules, such as Europe/Berlin; empty for this machine's own."""
    keep_days: Annotated[float, Field(gt=0, le=3650)] = 14.0
    """Days that snapshots and clips are kept."""
    keep_mib: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Most that all of them take in the memory, MiB; the oldest make room."""
    retry_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Longest wait between two tries of a source that gives no frames."""
