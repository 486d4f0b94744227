"""What all groups of settings have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


def env(name: str) -> dict[str, Any]:
    """Mark a field as set by this environment variable."""
    return {"env": name}


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400 * 365)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Group(BaseModel):
    """Base of all groups of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
