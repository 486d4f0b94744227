"""The page of one machine: facts with their age and why some are missing, trends, services, history."""

from __future__ import annotations

import time
from typing import Any

import pytest

from appliance.core.fleet.model import FileInfo, NodeStatus, Reach, ServiceState
from appliance.core.fleet.operations.model import NodeRun, RunState, Stage
from appliance.core.model import Health
from appliance.core.state import Section
from appliance.screens import node_files as files
from appliance.screens import node_services as services
from appliance.screens import node_view as view
from appliance.screens.glyphs import CONSOLE, FULL, Caps, Colours, unsafe
from appliance.screens.node import Node
from appliance.screens.node_keys import PANELS
from appliance.screens.widgets.grid import Row
from appliance.screens.widgets.lines import Line
from tests.screens.conftest import Bench, Seen
from tests.screens.machines import entry, facts, fleet, good, link, machine, numbers, operation
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def told(row: Row) -> list[str]:
    return [cell if isinstance(cell, str) else cell[0] for cell in row.cells]


def test_a_fact_that_was_not_told_says_why() -> None:
    lines = text_of(
        view.fact_lines(facts(missing={"docker": "no such command", "board": "no device tree", "apt": "needs root"}))
    )
    assert f"{'docker':<12}–  no such command" in lines
    assert f"{'board':<12}–  no device tree" in lines
    assert f"{'apt':<12}not told: needs root" in lines
    assert f"{'python':<12}–" in lines
    long = text_of(view.fact_lines(facts(missing={"reboot_required": "nothing says so", "a_name_of_many_words": "no"})))
    assert " restart     not told: nothing says so" in long
    assert " a name of m not told: no" in long
    assert text_of(view.fact_lines(None)) == " no facts yet"


def test_numbers_are_bars_with_their_trend_and_stale_ones_say_so() -> None:
    lines = text_of(view.metric_lines(good("a"), time.monotonic(), FULL, 78))
    assert "23 %" in lines
    assert "62 % of 100.0 GiB, ext4 on /dev/sda1" in lines
    assert "~" not in lines
    old = text_of(view.metric_lines(good("a", metrics=numbers(90.0)), time.monotonic(), FULL, 78))
    assert "~23 %" in old
    assert f"{'swap':<12}–" in old
    assert text_of(view.metric_lines(machine("a"), 0.0, FULL, 78)) == " no numbers yet"


@pytest.mark.parametrize("width", [10, 40, 78, 200])
def test_bars_keep_to_the_consoles_glyphs(width: int) -> None:
    assert unsafe(text_of(view.metric_lines(good("a"), time.monotonic(), CONSOLE, width)).replace("\n", "")) == set()


def test_a_link_that_is_down_says_why_and_when_it_is_tried_again() -> None:
    now = time.monotonic()
    down = link(
        Reach.unreachable, reason="no answer", next_step="look at its cable", retry_at=now + 17.5, offered_key="SHA256:new"
    )
    lines = text_of(view.state_lines(machine("a", link=down, health=Health.unhealthy, reason="gone"), now, CONSOLE))
    for text in ("never answered", "no answer", "look at its cable", "tried again in 17 s", f"{'it shows':<12}SHA256:new"):
        assert text in lines


def test_ages_of_numbers_and_facts_are_told_apart() -> None:
    assert view.ages(good("a", facts=facts(1000.0)), time.monotonic()) == ("3 s", "16 min, stale")
    assert view.ages(machine("a"), 0.0) == ("never", "never")


def test_expected_services_come_first_then_units_then_containers() -> None:
    expected = (
        ServiceState("redis-server.service", ok=True, state="running"), ServiceState("compose:openwebui", ok=None, state=""),
    )  # fmt: skip
    rows = services.service_rows(good("a", expected=expected), "", CONSOLE)
    assert [row.key for row in rows] == [
        "expected/compose:openwebui", "unit/redis-server.service", "unit/web.service", "unit/apt-daily.service",
        "container/open-webui",
    ]  # fmt: skip
    assert told(rows[1])[:3] == ["●", "redis-server", "● active running"]
    assert told(rows[2])[:3] == ["", "web", "✗ failed"]
    assert told(rows[3])[2] == "– inactive dead"
    assert [row.key for row in services.service_rows(good("a"), "webui", CONSOLE)] == ["container/open-webui"]


def test_no_services_says_why() -> None:
    assert "f reads it now" in services.no_services(machine("a"), "")
    assert services.no_services(good("a", facts=facts(missing={"units": "no systemctl"})), "") == "no systemctl"
    assert "Esc clears" in services.no_services(good("a"), "zz")


def file(path: str, **more: Any) -> FileInfo:
    values: dict[str, Any] = {"size": 2048, "mode": 0o100644, "modified": time.time(), "owner": 0, "group": 0}
    return FileInfo(path, **{**values, **more})


def test_files_are_told_with_rights_and_where_links_lead() -> None:
    assert told(files.file_row(file("/etc/hosts")))[:3] == ["hosts", "2.0 KiB", "-rw-r--r--"]
    assert told(files.file_row(file("/etc", is_folder=True, mode=0o040755)))[:3] == ["etc/", "", "drwxr-xr-x"]
    assert told(files.file_row(file("/bin", link_to="usr/bin", mode=0o120777)))[0] == "bin → usr/bin"


def test_a_file_that_is_no_text_or_longer_says_so() -> None:
    assert "no text" in text_of(files.text_lines(files.View("/x", 10, 10, "", binary=True), 70))
    cut = text_of(files.text_lines(files.View("/x", 4096, 1024, "a\nb", more=True), 70))
    assert "Only the first 1.0 KiB of 4.0 KiB" in cut
    assert text_of(files.text_lines(files.View("/x", 0, 0, ""), 70)).strip() in {"", "an empty file"}


def page(seen: Seen) -> Node:
    assert isinstance(seen.app.page, Node)
    return seen.app.page


async def on_node(bench: Bench, node: NodeStatus, size: tuple[int, int] = (80, 24)) -> Seen:
    """A console on the page of that machine."""
    seen = bench.open(PLAIN, size)
    await seen.press("gf", "by name")
    bench.appliance.state.put(Section.fleet, fleet(node))
    await seen.shows(f"▶  {node.node.name}")
    await seen.press("\r", "Overview")
    await wait_for(lambda: isinstance(seen.app.page, Node))
    return seen


async def test_every_panel_by_tab_and_the_filter(bench: Bench) -> None:
    seen = await on_node(bench, good("nas"))
    for text in ("23 %", "Debian GNU/Linux 12", "healthy"):
        await seen.press("\x1b[B", text) if text.startswith("Deb") and text not in seen.display else await seen.shows(text)
    await seen.press("\t", "redis-server")
    await seen.press("/", "text that a row must contain")
    await seen.press("webui\r", "open-webui")
    await wait_for(lambda: "apt-daily" not in seen.display)
    await seen.press("\x1b", "apt-daily")
    await seen.press("\t\t", "What was done on it")
    done = operation(NodeRun("nas", RunState.ok), title="restart web.service on nas", stage=Stage.completed)
    other = operation(NodeRun("web1"), operation_id="02-two", title="something elsewhere")
    bench.appliance.state.put(Section.operations, (done, other))
    await seen.shows("restart web.service on nas")
    assert "something elsewhere" not in seen.display
    await seen.press("\r", "1 ok")
    await seen.press("\x1b", "What was done on it")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.press("\x1b", "by name")
    await seen.end()


async def test_a_machine_that_was_removed_meanwhile_says_so(bench: Bench) -> None:
    seen = await on_node(bench, good("nas"))
    bench.appliance.state.put(Section.fleet, fleet())
    await seen.shows("nas is not in the inventory any more")
    await seen.end()


async def test_wide_terminals_show_facts_services_and_history_at_once(bench: Bench) -> None:
    seen = await on_node(bench, good("nas", node=entry("nas", role="storage", groups=("edge",))), (160, 48))
    for text in ("Debian GNU/Linux 12", "redis-server", "What was done on it", "storage", "no such command"):
        await seen.shows(text)
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (500, 3)])
async def test_odd_sizes_harm_nothing(bench: Bench, size: tuple[int, int]) -> None:
    seen = await on_node(bench, good("nas"))
    for _ in PANELS:
        seen.session.resize(*size)
        seen.session.feed(b"\t")
        seen.session.resize(80, 24)
    await seen.shows("nas")
    assert not seen.run.done()
    await seen.end()
