"""Settings of the assistant: what it may use, how much it sends, what it keeps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settinggroups import Group


class AssistantSettings(Group):
    """The assistant, which talks through [llm]. It loads nothing where no language model is configured."""

    model: Annotated[str, Field(max_length=200)] = ""
    """Model or alias that it asks; empty for llm.default_model."""
    edge_only: bool = False
    """Talks begin as such that must not leave the house."""
    tools: bool = True
    """Offer actions to the model; what changes something is asked for first."""
    tools_offered: Annotated[int, Field(ge=1, le=64)] = 12
    """Actions that are offered with a question; the model finds others by asking for them."""
    rounds: Annotated[int, Field(ge=1, le=20)] = 6
    """Most requests to the model for one answer: each use of tools takes one more."""
    tool_kib: Annotated[int, Field(ge=1, le=256)] = 8
    """Largest result of an action that the model is given, KiB; a larger one is cut, and told so."""
    history_kib: Annotated[int, Field(ge=1, le=4096)] = 24
    """Most of a talk's earlier messages that is sent along, KiB."""
    state_kib: Annotated[int, Field(ge=1, le=64)] = 4
    """Most of the live state that is sent along, KiB."""
    answer_kib: Annotated[int, Field(ge=1, le=4096)] = 256
    """Longest answer, KiB; a longer one is cut off."""
    confirm_seconds: Annotated[float, Field(ge=1, le=3600)] = 300.0
    """How long an action waits for its confirmation; then it is declined."""
    talks: Annotated[int, Field(ge=1, le=5000)] = 200
    """Talks that are kept for each user; the oldest go first."""
    messages: Annotated[int, Field(ge=4, le=2000)] = 200
    """Messages that are kept of a talk; the oldest go first."""
    facts: Annotated[int, Field(ge=1, le=1000)] = 100
    """Facts that are kept for each user and agent; further ones are refused."""
    picture_mib: Annotated[float, Field(gt=0, le=64)] = 5.0
    """Largest picture that is attached, MiB; llm.request_mib bounds it too, and it grows by a third on its way."""
