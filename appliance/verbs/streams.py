"""The streams' answers as text, and `streams tail`, which follows a topic until it is stopped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.screens.values import moment
from appliance.verbs import render
from appliance.verbs.context import Context, pass_context
from appliance.verbs.forms import Command

Block = Table | Text
TOPIC = ("topic", "way", "parts", "copies", "sent", "received", "refused", "rate", "problem")
CLASS = ("class", "waiting", "memory", "disk", "size", "oldest", "sent", "dropped")
LETTER = ("id", "time", "origin", "topic", "size", "reason")
OFFER = ("model", "version", "stage", "note")
SHOWN = 5000
"""Messages that are remembered as shown while a topic is followed."""
EVERY = 0.5
"""Seconds between two looks while a topic is followed."""


def _status(value: Mapping[str, Any], width: int) -> list[Block]:
    blocks: list[Block] = [Text(_link(value["link"])), *_outbox(value["outbox"])]
    if value["topics"]:
        blocks += _topics(value["topics"], width)
    if value["groups"]:
        blocks.append(render.table(value["groups"], ("group", "topic", "lag", "members")))
    blocks.append(Text(_commands(value["commands"])))
    if value.get("offers"):
        blocks.append(render.table(value["offers"], OFFER))
    if value.get("offers_passed"):
        blocks.append(Text(f"{value['offers_passed']} messages of models.updates were passed over: too many came at a time"))
    return blocks


def _link(link: Mapping[str, Any]) -> str:
    step = f" Next: {link['next_step']}" if link["next_step"] else ""
    where = f"\nbrokers {', '.join(link['brokers'])}" if link["brokers"] else ""
    since = f" since {moment(link['since'])}" if link["since"] else ""
    return printable(f"link {link['state']}{since}: {link['reason']}{step}{where}", keep="\n")


def _outbox(box: Mapping[str, Any]) -> list[Block]:
    parts = [
        "paused" if box["paused"] else "", f"{box['waiting']} waiting",
        f"{f.size(box['bytes'])} of {f.size(box['byte_limit'])}", f"oldest {_span(box['oldest_s'])}",
        f"out {_rate(box['drain_rate'])}", _ends(box), f"sent {box['sent']}", f"dropped {box['dropped']}",
        f"dead letters {box['dead']}", f"dead letters given up {box['dead_dropped']}" if box["dead_dropped"] else "",
        f"lost {box['quarantined']}" if box["quarantined"] else "",
        f"next try in {_span(box['retry_s'])}" if box["retry_s"] is not None else "",
    ]  # fmt: skip
    told = "outbox " + "  ".join(part for part in parts if part)
    if box["error"]:
        told += f"\n{box['error']}" + (f" Next: {box['next_step']}" if box["next_step"] else "")
    rows = [
        {
            "class": each["priority"], "waiting": each["waiting"], "memory": each["in_memory"], "disk": each["on_disk"],
            "size": f.size(each["bytes"]), "oldest": _span(each["oldest_s"]), "sent": each["sent"], "dropped": each["dropped"],
        }
        for each in box["classes"]
    ]  # fmt: skip
    return [Text(printable(told, keep="\n")), *([render.table(rows, CLASS)] if rows else [])]


def _span(seconds: float | None) -> str:
    return f.NONE if seconds is None else f.duration(seconds)


def _rate(value: float) -> str:
    return f"{value:.0f}/s" if value >= 10 else f"{value:.1f}/s"


def _ends(box: Mapping[str, Any]) -> str:
    if not box["waiting"]:
        return "empty"
    return "" if box["paused"] else f"empty in {_span(box['eta_s'])}" if box["eta_s"] is not None else "it does not empty"


def _topics(value: list[Mapping[str, Any]], _: int) -> list[Block]:
    rows = [
        {
            "topic": each["name"], "way": each["direction"], "parts": each["partitions"], "copies": each["replication"],
            "sent": each["sent"], "received": each["received"], "refused": each["refused"] or "",
            "rate": f"{each['rate']:.1f}/s" if each["rate"] else "", "problem": each["problem"],
        }
        for each in value
    ]  # fmt: skip
    return [render.table(rows, TOPIC)]


def _commands(stats: Mapping[str, Any]) -> str:
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(stats["refused"].items())) or "none"
    last = f"\nlast: {stats['last']}, {moment(stats['last_time'])}" if stats["last"] else ""
    return printable(f"commands taken {stats['accepted']}  refused: {refused}{last}", keep="\n")


def _letters(value: list[Mapping[str, Any]], _: int) -> list[Block]:
    rows = [{**each, "id": each["letter_id"][-8:], "size": f.size(each["size"])} for each in value]
    return [render.table(rows, LETTER), Text("whole: streams dead-letter ID   again: streams retry ID|all")]


def _tail(value: list[Mapping[str, Any]], _: int) -> list[Block]:
    return [Text("\n".join(line(each) for each in value))]


def line(message: Mapping[str, Any]) -> str:
    """One message of a tail, on one line."""
    text = message["text"].replace("\n", " ")
    return printable(f"{f.clock(message['time'])} {message['partition']}:{message['offset']} {message['key']} {text}")


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "streams.status": _status, "streams.topics": _topics, "streams.dead-letters": _letters, "streams.tail": _tail,
})  # fmt: skip


def fresh(found: list[dict[str, Any]], shown: deque[tuple[int, int, float]]) -> list[dict[str, Any]]:
    """Messages that were not shown yet: a tail that begins anew, after a restart, begins before the end."""
    known = set(shown)
    new = [each for each in found if (each["partition"], each["offset"], each["time"]) not in known]
    shown.extend((each["partition"], each["offset"], each["time"]) for each in new)
    return new


@click.command("tail", cls=Command)
@click.argument("topic")
@click.option("--filter", "text", default="", help="Only messages that contain this text, in key or value.")
@click.option("--regex", is_flag=True, help="The filter is a regular expression.")
@click.option("--limit", default=20, type=click.IntRange(1, 1000), help="Messages before the end to begin with. Default: 20.")
@click.option("--once", is_flag=True, help="Print what is there and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one message on each line (a list with --once).")
@pass_context
def tail(context: Context, topic: str, text: str, regex: bool, limit: int, once: bool, as_json: bool) -> None:
    """Follow a topic until Ctrl-C."""
    after, wanted = 0, {"topic": topic, "filter": text, "regex": regex}
    shown: deque[tuple[int, int, float]] = deque(maxlen=SHOWN)
    while True:
        count = 1000 if after else limit
        found: list[dict[str, Any]] = context.client.invoke("streams.tail", {**wanted, "after": after, "limit": count})
        after = max([after, *(each["number"] for each in found)])
        found = fresh(found, shown)
        if once and as_json:
            context.json(found)
        elif as_json:
            for each in found:
                context.say(msgspec.json.encode(each).decode())
        elif found:
            context.say("\n".join(line(each) for each in found))
        if once or context.client.local:
            return
        time.sleep(EVERY)
