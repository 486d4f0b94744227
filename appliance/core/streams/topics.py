"""The topics of contracts.md, section 2: which there are, how they should be, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DAY_MS = 86_400_000
RETENTION_MS = 7 * DAY_MS
PARTITIONS = 3
REPLICAS = 3
"""Where the cluster has so many brokers; else as many as it has."""
COMMANDS = "cloud.commands"
UPDATES = "models.updates"


class TopicSpec(NamedTuple):
    """One topic as the contract has it."""

    name: str
    direction: str
    """"out", "in" or "both", as this appliance sees it."""


CONTRACT: tuple[TopicSpec, ...] = (
    TopicSpec("edge.telemetry", "out"),
    TopicSpec("edge.ai.inference", "out"),
    TopicSpec("edge.sensors", "out"),
    TopicSpec("system.health", "out"),
    TopicSpec(COMMANDS, "in"),
    TopicSpec(UPDATES, "in"),
    TopicSpec("analytics.events", "both"),
    TopicSpec("agents.tasks", "both"),
    TopicSpec("agents.results", "both"),
    TopicSpec("cloud.aggregated", "in"),
)
NAMES = frozenset(each.name for each in CONTRACT)
REPLY_PREFIXES = ("agents.", "cloud.")
"""Of further topics that a command may be answered on."""


class TopicFacts(NamedTuple):
    """One topic as the cluster has it."""

    partitions: int
    replication: int
    settings: Mapping[str, str]
    """By Kafka's names; empty where the cluster did not tell."""

    def number(self, name: str) -> int | None:
        """One setting as a number."""
        text = self.settings.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else None


def created_with() -> dict[str, str]:
    """Settings of a topic that is created here.

    The broker's own time is kept with each message: an appliance whose clock is wrong must not have its events removed as
    too old, nor refused as being of tomorrow. The time of the event is in its envelope.
    """
    return {"retention.ms": str(RETENTION_MS), "cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}


def problem(facts: TopicFacts | None, brokers: int) -> str:
    """What differs from the contract; empty for nothing. None of it is ever altered from here."""
    if facts is None:
        return "it is not there"
    told = []
    if facts.partitions != PARTITIONS:
        told.append(f"{facts.partitions} partitions, not {PARTITIONS}")
    if facts.replication < min(REPLICAS, brokers):
        told.append(f"on {facts.replication} of {brokers} brokers, not on {min(REPLICAS, brokers)}")
    kept = facts.number("retention.ms")
    if kept is not None and kept != RETENTION_MS:
        told.append("kept for ever, not 7 days" if kept < 0 else f"kept for {kept / DAY_MS:g} days, not 7")
    policy = facts.settings.get("cleanup.policy", "delete")
    if policy != "delete":
        told.append(f"cleanup.policy is {policy}: messages of a key are removed")
    return "; ".join(told)


def may_reply_on(topic: str) -> bool:
    """Whether a command may be answered on this topic: analytics.events, or agents.* and cloud.* that are no contract's.

    On the others stand orders and results of their own kinds: who may only ask must not have answers put among them.
    """
    plain = all(each.isalnum() or each in "._-" for each in topic) and topic.isascii() and len(topic) <= 249
    return plain and (topic == "analytics.events" or (topic not in NAMES and topic.startswith(REPLY_PREFIXES)))
