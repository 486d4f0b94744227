"""Values of the understanding, and what it stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from appliance.core.dispatch import Dispatcher
    from appliance.core.llm.gateway import Gateway
    from appliance.core.ports import Clock
    from appliance.core.state import LiveState
    from appliance.settingvoice import VoiceSettings


@dataclass(frozen=True)
class Ground:
    """What the dialogue stands on.

    Attributes:
        dispatcher: Carries actions out; its registry is the source of the grammar.
        state: Names and answers are taken from there.
        clock: For ages and for what is forgotten.
        settings: As the operator has them.
        gateway: The door to the language models; raises AbsentError where none is configured.
        privacy: "edge-only" or "cloud", as it is now.
        degraded: What does not work as it should, as one spoken sentence, or nothing.
        device: The appliance's name.
    """

    dispatcher: Dispatcher
    state: LiveState
    clock: Clock
    settings: VoiceSettings
    gateway: Callable[[], Gateway]
    privacy: Callable[[], str]
    degraded: Callable[[], str] = lambda: ""
    device: str = ""


class Command(msgspec.Struct, frozen=True):
    """What a sentence means.

    Attributes:
        intent: Name of what was understood: an action ("power.mode"), an action with a topic ("power.status/battery"), or a
            word of the dialogue itself ("local/help").
        args: Of the action, as JSON has them.
        text: The sentence as the grammar has it.
        confidence: 0 to 1.
        wants: A parameter that is missing, to be asked for.
        subject: What a question is about, such as the name of a service; no argument of the action.
    """

    intent: str
    args: dict[str, Any] = {}
    text: str = ""
    confidence: float = 1.0
    wants: str = ""
    subject: str = ""

    @property
    def action(self) -> str:
        """Name of the action; empty for words of the dialogue itself."""
        name = self.intent.partition("/")[0]
        return "" if name == LOCAL else name

    @property
    def topic(self) -> str:
        """What of the action's answer is asked for; empty for the whole of it."""
        return self.intent.partition("/")[2]


LOCAL = "local"
"""Noun of intents that are no actions: help, stop, repeat, yes, no, …"""


class Example(msgspec.Struct, frozen=True):
    """Sentences by which something can be said."""

    intent: str
    action: str
    summary: str
    says: tuple[str, ...]
    dangerous: bool = False
    query: bool = False
    reason: str = ""
    """Why it cannot be said at all; then `says` is empty."""
