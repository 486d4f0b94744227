"""What may be asked for: a task as somebody submits it, and why it is refused."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

import msgspec

from appliance.core.tasks.model import Urgency
from appliance.core.tasks.roster import Roster
from appliance.errors import InvalidArgumentsError, NotFoundError
from appliance.settingtasks import TaskSettings


class Wish(NamedTuple):
    """A task that is to be taken; 0 and None mean what the settings say."""

    type: str
    payload: Any = None
    priority: Urgency = Urgency.normal
    attempts: int = 0
    deadline_s: float | None = None
    """Seconds from now."""
    limit_s: float = 0.0
    worker: str = ""
    schedule: str = ""


def check(wish: Wish, roster: Roster, settings: TaskSettings) -> bytes:
    """The payload as JSON, where the task can be taken.

    One that nobody can do now waits; one that nobody ever could is refused.

    Raises:
        InvalidArgumentsError: Its type is known to no worker, its payload too large, its worker unknown or unable.
    """
    types = roster.types()
    if wish.type not in types:
        near = difflib.get_close_matches(wish.type, types, n=1)
        known = f"did you mean {near[0]}?" if near else f"the types are: {', '.join(sorted(types)) or 'none'}."
        raise InvalidArgumentsError(f"No worker has ever told that it does {wish.type!r}.", known)
    if wish.worker:
        try:
            member = roster.get(wish.worker)
        except NotFoundError as error:
            raise InvalidArgumentsError(error.message, error.next_step) from None
        if not member.worker.can(wish.type):
            able = ", ".join(sorted(each.worker.name for each in roster.able((wish.type, ""))))
            raise InvalidArgumentsError(f"{wish.worker} does not do {wish.type}.", f"those that do: {able}.")
    try:
        payload = msgspec.json.encode(wish.payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentsError(f"The payload has no form in JSON: {error}.", "give plain JSON.") from error
    most = settings.payload_kib * 1024
    if len(payload) > most:
        raise InvalidArgumentsError(
            f"The payload has {len(payload)} bytes; {most} are the most (tasks.payload_kib).",
            "put it into the memory (prime-spark memory set), S3 or a file, and give the task its key or address.",
        )
    return payload
