"""Window rules as rows, as lines, and as a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.core.analytics.model import Aggregation
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.widgets.grid import Column, Row

RULES = (
    Column("rule", 14), Column("state", 5), Column("topic", 16), Column("function"), Column("window", 14, least=70),
    Column("by", 20, least=100),
)  # fmt: skip
LISTS = ("types", "group_by")


def rule_rows(rules: Sequence[Mapping[str, Any]], glyphs: Glyphs) -> list[Row]:
    """A row a rule."""
    return [
        Row(
            str(rule["id"]),
            (
                str(rule["id"]), (f"{glyphs.ok} on", "ok") if rule["enabled"] else (f"{glyphs.none} off", "muted"),
                (str(rule["topic"]), "muted"), what(rule), window(rule), (", ".join(rule["group_by"]) or f.NONE, "muted"),
            ),
        )
        for rule in rules
    ]  # fmt: skip


def what(rule: Mapping[str, Any]) -> str:
    """The function over its field: "avg metrics.cpu_usage"."""
    name = f"p{rule['percentile']:g}" if rule["function"] == Aggregation.percentile.value else str(rule["function"])
    return f"{name} {rule['field']}".strip()


def window(rule: Mapping[str, Any]) -> str:
    """ "hopping 1m every 10s"."""
    its = rule["window"]
    return " ".join(
        part for part in (its["kind"], its.get("gap") or its.get("size"), its.get("step") and f"every {its['step']}") if part
    )


def form(rule: Mapping[str, Any] | None, topics: Sequence[str]) -> dict[str, Any]:
    """What is asked for a rule.

    Args:
        rule: The one to change; None for a new one.
        topics: Where events may come from.
    """
    its: dict[str, Any] = dict(rule) if rule is not None else {"topic": "edge.telemetry", "group_by": ["device_id"]}

    def text(name: str, about: str, default: str = "") -> dict[str, Any]:
        value = its.get(name, default)
        return {"type": "string", "description": about, "default": ", ".join(value) if name in LISTS and value else value or ""}

    return {
        "id": text("id", "its name: lower case letters, digits, dashes"),
        "topic": {"enum": list(topics), "default": its["topic"]} if topics else text("topic", "where its events come from"),
        "function": {"enum": [each.value for each in Aggregation], "default": its.get("function", "avg")},
        "field": text("field", "number of the event, such as metrics.cpu_usage; count needs none"),
        "window": {
            "type": "string", "default": "tumbling 1m" if rule is None else window(rule),
            "description": "tumbling 1m, hopping 5m every 1m, sliding 5m, session 30s",
        },
        "group_by": text("group_by", "device_id, source, type, tag:NAME or a path; empty: all together"),
        "types": text("types", "types of events; empty for all"),
        "filter": text("filter", "must be true, such as metrics.cpu_usage > 80; empty for all"),
        "percentile": {"type": "number", "description": "0 to 100, for that function", "default": its.get("percentile", 95.0)},
        "lateness": text("lateness", "how much later an event may come", "10s"),
        "idle": text("idle", "closes a quiet group's windows after", "auto"),
        "description": text("description", "what it is for"),
    }  # fmt: skip


REQUIRED = ("id", "topic", "function", "window")


def document(values: Mapping[str, Any], enabled: bool) -> dict[str, Any]:
    """The rule that was typed, as `rules.set` takes it."""
    rule = dict(values)
    for name in LISTS:
        rule[name] = [part.strip() for part in str(rule.get(name, "")).split(",") if part.strip()]
    return {**rule, "enabled": enabled}
