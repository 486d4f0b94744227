"""What an action came to, and what went wrong, as it is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from appliance.core.actions import Action
from appliance.core.figures import counted
from appliance.core.model import Actor
from appliance.core.voice.intents.model import Command
from appliance.core.voice.intents.spoken import aloud, said, sentence, series
from appliance.errors import ApplianceError

NAMED = ("name", "rule", "title", "summary", "message", "event", "text", "host", "device", "topic", "peer")
"""Fields by which an entry of a list is told, in order."""
SCALARS = 6
LISTED = re.compile(r"[\[(](?:'[^']*'(?:, )?)+,?[\])]")
"""Names as Python writes a list of them."""


def result_text(action: Action, result: Any) -> str:
    """A result in a sentence or two: by the action's own words, else by what it is made of."""
    if action.brief is not None:
        return aloud(sentence(action.brief(result)))
    if not action.query:
        return "Done."
    data = msgspec.to_builtins(result, enc_hook=str)
    subject = said(action.name.removesuffix("-list").removesuffix(".list"))
    if action.name == "tls.show":
        return sentence(expiry(data))
    return aloud(sentence(f"{subject}: {plain(data)}"))


def expiry(data: Mapping[str, Any]) -> str:
    """Until when the certificate holds."""
    ends = (data.get("certificate") or {}).get("ends")
    if ends is None:
        return "there is no certificate"
    return f"the certificate ends on {datetime.fromtimestamp(ends).astimezone():%d %B %Y}"


def plain(value: Any) -> str:
    """Data in words: how many and which, or its fields."""
    if value is None or value in ("", [], {}, ()):
        return "there is nothing"
    if isinstance(value, Mapping):
        return _fields(value)
    if isinstance(value, list | tuple):
        names = [_name(each) for each in value]
        told = series([each for each in names if each], 4) if any(names) else ""
        return f"{counted(len(value), 'entry').replace('entrys', 'entries')}{': ' + told if told else ''}"
    return "yes" if value is True else "no" if value is False else str(value)


def _name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return next((str(entry[field]) for field in NAMED if entry.get(field)), "")
    return str(entry) if isinstance(entry, str | int | float) else ""


def _fields(value: Mapping[str, Any]) -> str:
    only = [each for each in value.values() if isinstance(each, list)]
    if len(only) == 1 and len(value) <= 3:
        return plain(only[0])
    told = [
        f"{said(name)} {plain(each)}"
        for name, each in value.items()
        if isinstance(each, str | int | float | bool) and each != ""
    ]
    return ", ".join(told[:SCALARS]) or ", ".join(f"{said(name)}: {plain(each)}" for name, each in list(value.items())[:3])


def error_text(error: ApplianceError) -> str:
    """What went wrong, and the next step."""
    step = f" {sentence(error.next_step)}" if error.next_step else ""
    return aloud(f"{sentence(error.message)}{step}")


def role_text(action: Action, actor: Actor, error: ApplianceError) -> str:
    """Why somebody may not do it, and who may."""
    if actor.role >= action.role:  # it is the account itself that is not let in
        return error_text(error)
    name = sentence(said(action.name))[:-1]
    return f"{name} needs the role {action.role.value}, and you have {actor.role.value} here. Do it on the console."


def what(action: Action, command: Command) -> str:
    """A command as it was understood: "Restart a service: redis"."""
    values = [said(str(part)) for each in command.args.values() for part in (each if isinstance(each, list) else [each])]
    summary = action.summary.partition(" (on nodes")[0]
    return f"{summary}{': ' + ', '.join(values) if values else ''}"


def danger(action: Action, command: Command, text: str) -> str:
    """What a confirmation says: the action's own words, with what was understood where those do not name it."""
    values = [str(part) for each in command.args.values() for part in (each if isinstance(each, list) else [each])]
    text = LISTED.sub(lambda found: ", ".join(re.findall(r"'([^']*)'", found[0])), text)
    named = all(value in text or value in {"all", "True", "False"} for value in values)
    return aloud(text if named else f"{sentence(what(action, command))} {text}")
