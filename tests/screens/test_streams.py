"""The Streams page on a real appliance: what it shows, what its keys do; and how pages are reached."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.model import Role
from appliance.core.state import Section
from appliance.core.streams.model import (
    ClassStatus,
    CommandStats,
    LinkState,
    LinkStatus,
    OutboxStatus,
    StreamsStatus,
    Tailed,
    TopicStatus,
)
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.streams_letters import retried
from appliance.screens.streams_rules import document, form, window
from appliance.screens.streams_tail import gist, message_lines
from appliance.screens.streams_view import command_pieces, flow, link_pieces, outbox_lines, topic_rows, words
from appliance.screens.tabs import ABOUT, LETTERS, TABS, tab_line
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import Line, width_of
from appliance.verbs import render
from appliance.verbs.streams import FORMS
from tests.screens.conftest import Bench, running
from tests.servers.kafka import KafkaServer
from tests.support import free_ports, wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def outbox(**more: Any) -> OutboxStatus:
    values: dict[str, Any] = {
        "waiting": 12, "bytes": 1024, "byte_limit": 4096, "age_limit_s": 3600.0, "oldest_s": 7.0, "drain_rate": 2.5,
        "eta_s": 4.8, "paused": False, "sent": 99, "dropped": 0, "dead": 0, "quarantined": 0, "retry_s": None,
    }  # fmt: skip
    return OutboxStatus(**{**values, **more})


@pytest.mark.parametrize("width", [1, 20, 80, 100, 160, 300])
def test_the_line_of_tabs_never_overflows(width: int) -> None:
    """Every page's own line names it whole, fits where one tab can, and all lines together lead to all pages."""
    reached = set()
    for _, page, title in TABS:
        tabs = tab_line(page, width)
        reached |= {tab.page for tab in tabs}
        assert any(title in tab.text for tab in tabs if tab.page == page)
        if width >= 20:
            assert sum(len(tab.text) for tab in tabs) <= width
    assert reached - {""} == {page for _, page, _ in TABS}


def test_the_last_part_of_the_tabs_uses_the_room_that_there_is() -> None:
    """A wide line whose end is shown has no empty half beside a sign that there is more."""
    shown = {tab.page for tab in tab_line("lifecycle", 160)}
    assert {"streams", "fleet", "lifecycle"} <= shown


def test_every_page_has_a_letter_of_its_own() -> None:
    pages = {page for _, page, _ in TABS}
    assert set(LETTERS) == set(ABOUT) == pages
    assert len(set(LETTERS.values())) == len(pages)
    assert "g" not in LETTERS.values()


def test_the_outbox_says_what_is_known_and_no_more() -> None:
    told = text_of(outbox_lines(outbox(), 78, CONSOLE, link_up=True))
    assert "12 waiting" in told
    assert "oldest 7 s of 1 h" in told
    assert "empty in 4.8 s" in told
    assert "PAUSED" not in told
    stuck = text_of(outbox_lines(outbox(eta_s=None, oldest_s=None, drain_rate=0.0), 78, CONSOLE, link_up=False))
    assert "oldest – " in stuck
    assert "does not empty" in stuck


def test_paused_and_losses_are_seen() -> None:
    losses = ClassStatus(priority="low", waiting=3, in_memory=1, on_disk=2, bytes=10, oldest_s=1.0, sent=0, dropped=8)
    status = outbox(paused=True, dropped=8, quarantined=2, error="refused", next_step="wait.", retry_s=12.0, classes=(losses,))
    lines = outbox_lines(status, 78, CONSOLE, link_up=False)
    told = text_of(lines)
    for text in (
        "PAUSED",
        "p resumes",
        "dropped 8",
        "lost to damage 2",
        "low 3 (2 on disk) dropped 8",
        "refused",
        "12 s",
        "wait.",
    ):
        assert text in told
    assert tuple(role for line in lines for piece, role in line if "PAUSED" in piece) == ("sim",)
    assert max(width_of(line) for line in lines) <= 78
    assert unsafe(told.replace("\n", "")) == set()


def test_a_link_that_is_down_says_why_and_what_to_do() -> None:
    link = LinkStatus(state=LinkState.down, reason="No broker answers.", next_step="start one.", since=time.time() - 90)
    told = text_of(flow(link_pieces(link, CONSOLE, names=False), 78))
    for text in ("✗ down", "No broker answers.", "Next: start one.", "1 min"):
        assert text in told


def status(**more: Any) -> StreamsStatus:
    return StreamsStatus(**{"link": LinkStatus(state=LinkState.up, reason=""), "outbox": outbox(), **more})


def test_refused_commands_are_told_by_reason() -> None:
    """An accepted command may still fail, or be refused for its role: it is taken, not obeyed."""
    stats = CommandStats(accepted=4, refused={"expired": 2, "unsigned": 1}, last="x", last_time=time.time())
    told = text_of(flow(command_pieces(status(commands=stats)), 100))
    assert "4 taken, 3 refused (expired 2, unsigned 1)" in told
    assert "last 0 s ago: x" in told
    assert "obeyed" not in told
    assert "Models" not in told
    narrow = flow(command_pieces(status(commands=stats)), 40)
    assert all(width_of(line) <= 40 for line in narrow)
    assert "unsigned" in text_of(narrow)


def test_what_was_passed_over_and_given_up_is_seen() -> None:
    assert "0 offered, 7 passed over" in text_of(flow(command_pieces(status(offers_passed=7)), 200))
    assert "dead 2 (and 5 given up)" in text_of(outbox_lines(outbox(dead=2, dead_dropped=5), 100, CONSOLE, link_up=True))
    assert "given up" not in text_of(outbox_lines(outbox(dead=2), 78, CONSOLE, link_up=True))


def test_the_text_twin_says_the_same() -> None:
    def told(**more: Any) -> str:
        return str(render.formed(FORMS, "streams.status", msgspec.to_builtins(status(**more)), 200, colour=False))

    assert "out 2.5/s  empty in 4 s" in told()
    assert "out 0.5/s  empty  sent" in told(outbox=outbox(waiting=0, drain_rate=0.5, eta_s=0.0))
    assert "it does not empty" in told(outbox=outbox(eta_s=None))
    assert "dead letters given up 5" in told(outbox=outbox(dead_dropped=5))
    assert "7 messages of models.updates were passed over" in told(offers_passed=7)


def test_letters_that_stay_are_not_told_as_gone() -> None:
    assert retried({"retried": 2, "kept": 0}) == ("2 dead letters sent again or stored", "ok")
    assert retried({"retried": 0, "kept": 14}) == (
        "0 dead letters sent again or stored, 14 cannot be and stay: r on one says why", "warn",
    )  # fmt: skip


def test_a_topic_that_differs_has_a_sign() -> None:
    topics = (TopicStatus(name="a", direction="out", problem="retention is 1 d"), TopicStatus(name="b", direction="in"))
    status = StreamsStatus(link=LinkStatus(state=LinkState.up, reason=""), outbox=outbox(), topics=topics)
    first, second = topic_rows(status, CONSOLE)
    assert ("▲ retention is 1 d", "warn") in first.cells
    assert ("–", "muted") in second.cells


@pytest.mark.parametrize("width", [5, 20, 78])
def test_flowing_text_keeps_every_word(width: int) -> None:
    text = "one two three four five six seven eight nine ten eleven twelve"
    lines = flow(words(text, "text"), width)
    assert text_of(lines).split() == text.split()
    assert all(width_of(line) <= width + 8 for line in lines)


def test_a_rule_goes_through_its_form_unchanged() -> None:
    """What the form shows of a rule, taken as it stands, is the same rule."""
    rule = {
        "id": "warm", "topic": "edge.telemetry", "types": ["metrics"], "filter": "a > 1", "group_by": ["device_id", "tag:room"],
        "field": "metrics.a", "function": "avg", "percentile": 95.0, "lateness": "10s", "idle": "1m", "description": "d",
        "window": {"kind": "hopping", "size": "5m", "step": "1m", "gap": ""}, "enabled": False,
    }  # fmt: skip
    shown = {name: kind["default"] for name, kind in form(rule, ["edge.telemetry"]).items()}
    assert document(shown, enabled=False) == {**rule, "window": "hopping 5m every 1m"}
    assert window({"window": {"kind": "session", "gap": "30s", "size": ""}}) == "session 30s"


def test_a_message_is_shown_by_its_data() -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07"
    message = Tailed(number=1, time=0.0, partition=0, offset=7, key="k", size=3, text=evil, document={"data": {"a": 1}})
    assert gist(message) == '{"a": 1}'
    assert gist(msgspec.structs.replace(message, document=None)) == evil
    raw = msgspec.structs.replace(message, document=None)
    assert "\x1b" not in text_of(message_lines(raw, 60))


async def test_nothing_configured_is_absent_and_the_outbox_is_there(bench: Bench) -> None:
    """Absent, why, how to configure it; what waits is told all the same; rules are kept without Kafka."""
    seen = bench.open(PLAIN)
    await seen.press("gt", "absent")
    await seen.shows("kafka.bootstrap_servers")
    await seen.shows("waiting")
    await seen.press("\t\t\t", "no rules; a adds one")
    await seen.end()


@pytest.fixture
def dead_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka is configured, and nobody listens there."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_ports(1)[0]}")


async def test_pause_is_unmistakable_and_undone(dead_broker: None, bench: Bench) -> None:
    """The broker does not answer: the page says so, and the outbox keeps what comes; paused, resumed by a key."""
    seen = bench.open(PLAIN)
    await seen.press("gt", "Outbox")
    await seen.shows("✗ down")
    await wait_for(lambda: re.search(r"[1-9]\d* waiting", seen.display), 20)
    await seen.press("p", "Outbox PAUSED")
    await seen.shows("nothing goes out")
    assert bench.appliance.state.get(Section.streams).value.outbox.paused
    await seen.press("p", "sends again")
    await wait_for(lambda: "PAUSED" not in seen.display)
    await seen.end()


async def test_a_rule_is_added_switched_and_removed_by_keys(bench: Bench) -> None:
    seen = bench.open(PLAIN)
    await seen.press("gt", "absent")
    await seen.press("\t\t\t", "no rules; a adds one")
    await seen.press("a", "its name")
    for field in form(None, []):
        await seen.fill(field, {"id": "warm", "field": "metrics.cpu_usage"}.get(field, ""))
    await seen.shows("the rule is set")
    await seen.shows("avg metrics.cpu_usage")
    await seen.press("o", "warm is disabled")
    rules: Any = await bench.invoke("rules.list")
    assert [(rule["id"], rule["enabled"], rule["window"]["size"]) for rule in rules] == [("warm", False, "1m")]
    await seen.press("d", "open windows are not written")
    seen.session.feed(b"y")

    async def gone() -> bool:
        return await bench.invoke("rules.list") == []

    await wait_for(gone, 20)
    await seen.shows("no rules; a adds one")
    await seen.end()


async def test_a_viewer_cannot_pause(dead_broker: None, bench: Bench) -> None:
    seen = bench.open(PLAIN, role=Role.viewer)
    await seen.press("gt", "✗ down")
    await seen.press("p", "needs the role operator")
    assert not bench.appliance.state.get(Section.streams).value.outbox.paused
    await seen.end()


async def test_g_is_a_letter_while_one_types(bench: Bench) -> None:
    """`g` in a filter opens nothing; twice on a table it goes to the top."""
    seen = bench.open(PLAIN)
    await seen.press("gl", "following")
    await seen.press("/", "text that lines must contain")
    await seen.press("gg", "/gg")
    seen.session.feed(b"\x1b")
    await wait_for(lambda: "/gg" not in seen.display, 20)
    await seen.press("2", "Detail")
    assert seen.app.page is not None
    grid = seen.app.page.query_one(Grid)
    await wait_for(lambda: len(grid.rows) > 1, 20)
    seen.session.feed(b"G")
    await wait_for(lambda: grid.cursor > 0, 20)
    seen.session.feed(b"gg")
    await wait_for(lambda: grid.cursor == 0, 20)
    await seen.end()


async def test_a_topic_is_watched_filtered_and_held(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """With a real broker: the link is up, telemetry runs through the tail, a filter narrows it, Space holds it."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap())
    async with running(home) as bench:
        seen = bench.open(PLAIN, (160, 48))
        await seen.press("gt", "● up")
        await seen.shows("edge.telemetry")
        await seen.press("t", "Tail of edge.telemetry")
        await seen.shows('"cpu_usage"')
        await seen.press("/", "text that messages must contain")
        await seen.press("no-such-text", "nothing fits the filter yet")
        seen.session.feed(b"\x1b")
        await seen.shows('"cpu_usage"')
        await seen.press(" ", "HELD")
        seen.session.feed(b"\x1b")
        await wait_for(lambda: "Tail of" not in seen.display, 20)
        await seen.end()


async def test_dead_letters_are_read_and_discarded(broker: KafkaServer, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """What is no offer lands there with its reason; its body is shown as it came; discarding asks first."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap())
    async with running(home) as bench:
        seen = bench.open(PLAIN, (160, 48))
        await seen.press("gt", "● up")

        async def offered() -> int:
            """Sent until one was read: the consumer joins when it does."""
            await producer.send_and_wait("models.updates", b"this is no \x1b[31mJSON", key=b"ada")
            return int(bench.appliance.state.get(Section.streams).value.outbox.dead)

        async with producing(broker) as producer:
            await wait_for(offered, 40)
        seen.session.feed(b"\t\t")
        grid = seen.app.screen.query_one("#letters", Grid)
        await wait_for(lambda: len(grid.rows) > 0, 20)
        await seen.press("\r", "this is no")
        assert "\x1b[31mJSON" not in seen.channel.text
        seen.session.feed(b"\x1b")
        await wait_for(lambda: "this is no" not in seen.display, 20)
        await seen.press("r", "would be a replay")
        await seen.press("R", "cannot be and stay")
        assert "0 dead letters sent again or stored" in seen.display
        await seen.press("D", "gone for ever")
        await seen.press("y", "are discarded")
        assert await bench.invoke("streams.dead-letters") == []
        await seen.end()


async def test_kept_events_are_replayed_and_a_command_is_sent(
    broker: KafkaServer, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Both forms, typed to their ends: what they refuse is told in the form, what they did is on the broker."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap())
    async with running(home) as bench:
        seen = bench.open(PLAIN)
        await seen.press("gt", "● up")
        await seen.press("y", "Replay messages that are kept")
        for field, value in (("since", "yesterday"), ("until", ""), ("topics", "")):
            await seen.fill(field, value)
        await seen.shows("is no time")
        seen.session.feed(b"\x1b")
        await wait_for(lambda: "is no time" not in seen.display, 20)
        await seen.press("y", "Replay messages that are kept")
        for field, value in (("since", "3600"), ("until", ""), ("topics", "system.health")):
            await seen.fill(field, value)
        await seen.shows("events")
        before = bench.appliance.state.get(Section.streams).value.outbox.sent
        assert before > 0
        seen.session.feed(b"\x1b")
        await wait_for(lambda: "Send events" not in seen.display, 20)
        await seen.press("c", "Send a signed command")
        wanted = {"device": "other-pc", "action": "service.restart", "args": '{"name": "telemetry"}'}
        for field in ("device", "action", "args", "seconds", "reply_to", "confirm"):
            await seen.fill(field, wanted.get(field, ""))
        await seen.press("", "Have other-pc carry out")
        await seen.press("y", "command id")
        found = await asyncio.to_thread(broker.console_consumer, "cloud.commands", 1)
        sent = json.loads(found[0])
        assert (sent["device_id"], sent["data"]["action"]) == ("other-pc", "service.restart")
        assert sent["signature"]
        await seen.end()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker of these tests alone: the appliance's topics have the names of the contract."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def producing(kafka: KafkaServer) -> AsyncIterator[Any]:
    """A plain producer."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap())
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def test_the_palette_leads_to_pages(bench: Bench) -> None:
    seen = bench.open(PLAIN)
    await seen.shows("Host")
    await seen.press(":", "narrow down")
    await seen.press("page streams", "page: streams")
    await seen.press("\r", "Outbox")
    await seen.end()
