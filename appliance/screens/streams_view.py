"""The streams as lines and rows: the link, the outbox, commands, topics, groups."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from appliance.core.streams.model import (
    ClassStatus,
    GroupLag,
    LinkState,
    LinkStatus,
    OutboxStatus,
    StreamsStatus,
    TopicStatus,
)
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.charts import meter
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

TOPICS = (
    Column("topic", 18), Column("way", 4), Column("msg/s", 7, "right"), Column("bytes/s", 11, "right", 96),
    Column("sent", 7, "right"), Column("received", 8, "right"), Column("lag", 7, "right"), Column("refused", 7, "right", 96),
    Column("parts", 5, "right"), Column("copies", 6, "right", 112), Column("what differs"),
)  # fmt: skip
GROUPS = (Column("group"), Column("topic", 18), Column("behind", 8, "right"), Column("members", 7, "right"))
BAR = 12
MUCH_LAG = 1000
"""Messages behind from which it is a warning (contracts, section 9)."""


def count(value: int | None) -> str:
    """A number in at most six characters."""
    if value is None:
        return f.NONE
    return str(value) if value < 100_000 else f"{value // 1000}k" if value < 10_000_000 else f"{value // 1_000_000}M"


def per_second(value: float) -> str:
    """Messages a second."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def link_sign(link: LinkStatus, glyphs: Glyphs) -> Piece:
    """The link's state as sign and word."""
    signs: dict[LinkState, tuple[str, Role]] = {
        LinkState.up: (glyphs.ok, "ok"), LinkState.connecting: (glyphs.warn, "warn"),
        LinkState.down: (glyphs.bad, "bad"), LinkState.absent: (glyphs.none, "muted"),
    }  # fmt: skip
    sign, role = signs[link.state]
    return (f" {sign} {link.state.value}", role)


def link_pieces(link: LinkStatus, glyphs: Glyphs, *, names: bool) -> list[Piece]:
    """The link: state, why, what to do, for how long, brokers.

    Args:
        link: As it is.
        glyphs: Of the session.
        names: There is room for the brokers' names.
    """
    pieces = [
        link_sign(link, glyphs),
        *words(f"  {link.reason}", "text"),
        *words("  Next: " + link.next_step if link.next_step else "", "accent"),
    ]
    if link.since:
        pieces.append((f"  since {f.clock(link.since)}, {f.since(link.since)}", "muted"))
    if link.brokers:
        listed = f": {', '.join(link.brokers)}" if names else ""
        pieces.append((f"  {len(link.brokers)} broker{'s' if len(link.brokers) != 1 else ''}{listed}", "muted"))
    elif link.bootstrap and link.bootstrap not in link.reason:
        pieces.append((f"  {link.bootstrap}", "muted"))
    return pieces


def outbox_lines(outbox: OutboxStatus, width: int, glyphs: Glyphs, *, link_up: bool) -> list[Line]:
    """The outbox: paused or not, what waits and since when, how fast it goes out, its room, its losses, its classes, its fault.

    Args:
        outbox: As it is.
        width: Cells.
        glyphs: Of the session.
        link_up: Messages can go out.
    """
    lines: list[Line] = []
    if outbox.paused:
        lines.append(
            ((" ", "text"), (f" {glyphs.warn} PAUSED ", "sim"), ("  nothing goes out, events wait; p resumes", "warn"))
        )
    ends = (
        "empty"
        if not outbox.waiting
        else f"empty in {f.span(outbox.eta_s)}"
        if outbox.eta_s is not None
        else "it does not empty"
    )
    waits: list[Piece] = [
        (f" {outbox.waiting} waiting", "text" if link_up or not outbox.waiting else "warn"),
        (f"  oldest {f.span(outbox.oldest_s)} of {f.duration(outbox.age_limit_s)}", "muted"),
        (f"  out {per_second(outbox.drain_rate)}/s", "text"),
        ("" if outbox.paused else f"  {ends}", "muted"),
    ]
    classes = [piece for each in outbox.classes for piece in class_pieces(each)]
    parts = (waits, _room(outbox, glyphs), classes, _fault(outbox, glyphs))
    return [*lines, *(line for part in parts for line in flow(part, width))]


def flow(pieces: Sequence[Piece], width: int) -> list[Line]:
    """Pieces on as many lines as they need, broken between them.

    Args:
        pieces: Left to right.
        width: Cells; a longer piece is cut where it is painted.
    """
    lines: list[list[Piece]] = []
    used = width + 1
    for text, role in pieces:
        if not text:
            continue
        begins = used + cell_len(text) > width and bool(text.strip())
        if begins or not lines:
            lines.append([])
            used = 0
        shown = f" {text.lstrip()}" if begins else text
        lines[-1].append((shown, role))
        used += cell_len(shown)
    return [tuple(line) for line in lines]


def words(text: str, role: Role) -> list[Piece]:
    """A sentence in pieces, one a word."""
    lead = " " * (len(text) - len(text.lstrip()))
    return [(f"{' ' if index else lead}{word}", role) for index, word in enumerate(text.split())]


def _room(outbox: OutboxStatus, glyphs: Glyphs) -> list[Piece]:
    share = outbox.bytes / outbox.byte_limit if outbox.byte_limit else None
    pieces: list[Piece] = [
        (" ", "text"),
        *meter(share, BAR, glyphs),
        (f" {f.size(outbox.bytes)} of {f.size(outbox.byte_limit)}", "text"),
        (f"  sent {outbox.sent}", "muted"),
        (f"  dropped {outbox.dropped}", "bad" if outbox.dropped else "muted"),
        (f"  dead {outbox.dead}", "warn" if outbox.dead else "muted"),
        (f" (and {outbox.dead_dropped} given up)" if outbox.dead_dropped else "", "bad"),
    ]
    return [*pieces, (f"  lost to damage {outbox.quarantined}", "bad")] if outbox.quarantined else pieces


def class_pieces(each: ClassStatus) -> list[Piece]:
    """One class of the outbox: what waits, how much of it on disk, what was given up."""
    disk = f" ({each.on_disk} on disk)" if each.on_disk else ""
    pieces: list[Piece] = [(f"  {each.priority} {each.waiting}{disk}", "text" if each.waiting else "muted")]
    return [*pieces, (f" dropped {each.dropped}", "bad")] if each.dropped else pieces


def _fault(outbox: OutboxStatus, glyphs: Glyphs) -> list[Piece]:
    if not outbox.error and outbox.retry_s is None:
        return []
    again = f"  next try in {f.span(outbox.retry_s)}" if outbox.retry_s is not None else ""
    told = words(f" {glyphs.bad} {outbox.error}", "bad") if outbox.error else [(f" {glyphs.warn}", "warn")]
    return [*told, (again, "muted"), *words(f"  Next: {outbox.next_step}" if outbox.next_step else "", "accent")]


def command_pieces(status: StreamsStatus) -> list[Piece]:
    """Signed commands: how many were taken, how many refused and why, the newest; the models that were offered."""
    commands = status.commands
    refused = sum(commands.refused.values())
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(commands.refused.items()))
    pieces: list[Piece] = [
        (" Commands: ", "title"),
        (f"{commands.accepted} taken, ", "text"),
        (f"{refused} refused", "warn" if refused else "text"),
        *words(f" ({reasons})" if reasons else "", "muted"),
        *words(f"  last {f.since(commands.last_time)} ago: {commands.last}" if commands.last else "", "muted"),
    ]
    if status.offers or status.offers_passed:
        pieces += [("  Models: ", "title"), (f"{len(status.offers)} offered", "text")]
    if status.offers_passed:
        pieces.append((f", {status.offers_passed} passed over: too many came at a time", "warn"))
    return pieces


def topic_rows(status: StreamsStatus, glyphs: Glyphs) -> list[Row]:
    """A row a topic; what differs from the contract has a sign."""
    behind: dict[str, int] = {}
    for group in status.groups:
        behind[group.topic] = max(behind.get(group.topic, 0), group.lag)
    return [Row(topic.name, _topic_cells(topic, behind.get(topic.name), glyphs)) for topic in status.topics]


def _topic_cells(topic: TopicStatus, lag: int | None, glyphs: Glyphs) -> tuple[Cell, ...]:
    quiet: Role = "muted"
    return (
        (topic.name, "warn" if topic.problem else "text"),
        (topic.direction, quiet),
        (per_second(topic.rate), "text" if topic.rate else quiet),
        (f.rate(topic.byte_rate), "text" if topic.byte_rate else quiet),
        (count(topic.sent), quiet),
        (count(topic.received), quiet),
        (count(lag), "warn" if lag is not None and lag > MUCH_LAG else "text" if lag else quiet),
        (count(topic.refused), "warn" if topic.refused else quiet),
        (count(topic.partitions), quiet),
        (count(topic.replication), quiet),
        (f"{glyphs.warn} {topic.problem}" if topic.problem else "", "warn"),
    )


def group_rows(groups: Sequence[GroupLag]) -> list[Row]:
    """A row for each group and topic."""
    return [
        Row(
            f"{group.group}/{group.topic}",
            (
                group.group, (group.topic, "muted"),
                (count(group.lag), "warn" if group.lag > MUCH_LAG else "text"), (count(group.members), "muted"),
            ),
        )
        for group in groups
    ]  # fmt: skip
