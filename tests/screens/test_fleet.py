"""The Fleet page: what it shows of machines, how it is sorted, filtered and marked, and its keys."""

from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from appliance.core.fleet.model import NodeStatus, Reach, ServiceState
from appliance.core.model import Health, Role
from appliance.core.state import Section
from appliance.screens import fleet_order as order
from appliance.screens import fleet_view as view
from appliance.screens.fleet import Fleet
from appliance.screens.fleet_words import several, to_compare
from appliance.screens.glyphs import CONSOLE, Caps, Colours, unsafe
from appliance.screens.widgets.grid import Grid
from appliance.screens.widgets.lines import LineView
from tests.screens.conftest import Bench, Seen
from tests.screens.machines import entry, facts, fleet, good, link, machine, numbers
from tests.support import wait_for

PLAIN = Caps(Colours.console, full_glyphs=False, mouse=False)
AT_80 = [index for index, column in enumerate(view.NODES) if column.least <= 80]


def cells(node: NodeStatus, **more: Any) -> dict[str, str]:
    """Column → what stands there, and its colour where that matters."""
    row = view.node_row(node, time.monotonic(), CONSOLE, **more)
    return {
        column.title: cell if isinstance(cell, str) else cell[0] for column, cell in zip(view.NODES, row.cells, strict=True)
    }


def names(nodes: list[NodeStatus]) -> list[str]:
    return [node.node.name for node in nodes]


def test_what_nobody_knows_is_a_dash() -> None:
    told = cells(machine("new", Reach.never, Health.absent, node=entry("new", role="")))
    for column in ("cpu%", "mem%", "dsk%", "°C", "svc", "upd", "kernel", "agent", "ms", "age", "facts", "role", "health"):
        assert told[column] == "–", column
    assert told["link"] == "– never"


def test_numbers_that_are_stale_say_so_and_how_old_they_are() -> None:
    told = cells(good("a", metrics=numbers(age=90.0), facts=facts(age=1000.0)))
    assert (told["cpu%"], told["age"]) == ("~23", "~1m")
    assert (told["svc"], told["upd"], told["facts"]) == ("~1/1", "~12!", "~16m")
    fresh = cells(good("a"))
    assert (fresh["cpu%"], fresh["age"], fresh["svc"], fresh["upd"], fresh["facts"]) == ("23", "3s", "1/1", "12!", "1m")


def test_what_is_old_depends_on_how_often_is_looked() -> None:
    seldom = cells(good("a", metrics=numbers(age=90.0), facts=facts(age=1000.0), numbers_old=150.0, facts_old=1260.0))
    assert (seldom["cpu%"], seldom["age"], seldom["facts"]) == ("23", "1m", "16m")


def test_numbers_of_a_machine_that_does_not_answer_are_stale_at_once() -> None:
    told = cells(good("a", link=link(Reach.unreachable)))
    assert (told["link"], told["cpu%"], told["svc"]) == ("✗ unreachable", "~23", "~1/1")


@pytest.mark.parametrize("reach", Reach)
def test_every_link_has_a_sign_and_a_word_of_the_console(reach: Reach) -> None:
    told, _ = view.link_badge(machine("a", reach), CONSOLE)
    assert told.split(" ", 1)[1].lower().removeprefix("key ") == reach.value
    assert len(told) <= next(column.width for column in view.NODES if column.title == "link")
    assert unsafe(told) == set()


def test_services_that_nothing_tells_of_are_not_counted_as_well() -> None:
    some = (
        ServiceState("a", ok=True, state=""),
        ServiceState("b", ok=None, state=""),
        ServiceState("c", ok=False, state="dead"),
    )
    assert cells(good("a", expected=some))["svc"] == "1/3?"
    assert cells(good("a", expected=some[1:2]))["svc"] == "?/1"
    assert cells(good("a", facts=facts(reboot_required=True)))["upd"] == "12r"


def test_one_that_is_set_aside_says_so_and_how_it_comes_back() -> None:
    aside = machine("a", Reach.off, Health.absent, node=entry("a", enabled=False))
    assert cells(aside)["link"] == "– set aside"
    assert "m takes it back" in "".join(text for text, _ in view.trouble(aside))


def test_a_changed_key_is_loud() -> None:
    told = "".join(text for text, _ in view.trouble(machine("a", Reach.changed, Health.unhealthy, reason="another key")))
    assert "a SHOWS ANOTHER HOST KEY" in told
    assert "y shows its key" in told


def test_stale_numbers_fit_their_columns() -> None:
    old = cells(good("a", metrics=numbers(cpu=100.0, memory=100.0, disk=100.0, age=90.0), facts=facts(updates=124, age=1000.0)))
    widths = {column.title: column.width for column in view.NODES}
    for column in ("cpu%", "mem%", "dsk%", "°C", "svc", "upd", "age"):
        assert old[column].startswith("~"), column
        assert len(old[column]) <= widths[column], column


def test_all_columns_of_a_console_are_whole() -> None:
    """At 80 cells nothing is cut, and the longest words fit."""
    widths = [view.NODES[at].width or 11 for at in AT_80]
    assert sum(width + 1 for width in widths) + 1 == 78
    for index, column in enumerate(view.NODES):
        assert not column.width or len(column.title) <= column.width, index


def test_sorted_by_a_number_the_unknown_ones_come_last_either_way() -> None:
    nodes = [good("a", metrics=numbers(cpu=5.0)), good("b", metrics=numbers(cpu=95.0)), machine("c", Reach.never)]
    look = order.Look(order="cpu")
    assert names(order.arranged(nodes, look)) == ["b", "a", "c"]
    assert names(order.arranged(nodes, replace(look, turned=True))) == ["a", "b", "c"]


def test_sorted_by_health_what_needs_a_look_stands_on_top() -> None:
    nodes = [good("a"), machine("b", Reach.unreachable, Health.unhealthy), machine("c", health=Health.degraded)]
    assert names(order.arranged(nodes, order.Look(order="health"))) == ["b", "c", "a"]
    assert names(order.arranged(nodes, order.Look(turned=True))) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["db", "nas", "web1"]), ("web", ["web1"]), ("group:cloud", ["db", "web1"]), ("tag:site=home", ["nas"]),
        ("state:unreachable", ["db"]), ("role:storage", ["nas"]), ("cloud !db", ["web1"]), ("maintenance", ["nas"]),
        ("GROUP:CLOUD state:up", ["web1"]), ("nothing", []), ("!", ["db", "nas", "web1"]),
        ("role: !group:", ["db", "nas", "web1"]),
    ],
)  # fmt: skip
def test_the_filter_knows_names_groups_tags_roles_and_states(text: str, found: list[str]) -> None:
    nodes = [
        machine("db", Reach.unreachable, node=entry("db", groups=("cloud",))),
        machine("nas", Reach.off, node=entry("nas", role="storage", tags={"site": "home"}, enabled=False)),
        machine("web1", node=entry("web1", groups=("cloud", "front"))),
    ]
    assert names(order.arranged(nodes, order.Look(text=text))) == found


def test_groups_by_name_and_those_in_none_last() -> None:
    nodes = [machine("x"), machine("b", node=entry("b", groups=("edge",))), machine("a", node=entry("a", groups=("cloud",)))]
    assert [(name, names(members)) for name, members in order.by_group(nodes)] == [
        ("cloud", ["a"]), ("edge", ["b"]), (order.NO_GROUP, ["x"]),
    ]  # fmt: skip


def test_many_names_are_told_in_few_words() -> None:
    assert several(["a"]) == "a"
    assert several(["a", "b", "c"]) == "a, b and c"
    assert several(["a", "b", "c", "d"]) == "a, b and 2 more"


def test_what_is_said_of_a_key_names_the_command_to_compare_it() -> None:
    assert "ssh-keygen -lf" in to_compare("nas", "")
    assert "NOT THE KEY THAT WAS TRUSTED, SHA256:old" in to_compare("nas", "SHA256:old")


def page(seen: Seen) -> Fleet:
    assert isinstance(seen.app.page, Fleet)
    return seen.app.page


async def on_fleet(bench: Bench, *nodes: NodeStatus, caps: Caps = PLAIN, size: tuple[int, int] = (80, 24)) -> Seen:
    """A console on the page, with these machines."""
    seen = bench.open(caps, size)
    await seen.press("gf", "by name")
    bench.appliance.state.put(Section.fleet, fleet(*nodes))
    await wait_for(lambda: len(page(seen).nodes) == len(nodes))
    return seen


async def test_an_empty_fleet_says_what_to_do(bench: Bench) -> None:
    seen = await on_fleet(bench)
    await seen.shows("No machine yet. a adds one")
    await seen.end()


async def test_the_page_follows_the_live_state(bench: Bench) -> None:
    """A machine that goes is seen without a key pressed, with the reason and the next step."""
    seen = await on_fleet(bench, good("nas"))
    await seen.shows("● up")
    gone = link(Reach.unreachable, reason="no answer within 5 s", next_step="look at its cable")
    bench.appliance.state.put(Section.fleet, fleet(good("nas", link=gone, health=Health.unhealthy, reason="no answer")))
    await seen.shows("✗ unreachable")
    await seen.shows("Next: look at its cable")
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def test_an_inventory_that_cannot_be_used_is_told_above_the_machines(bench: Bench) -> None:
    seen = await on_fleet(bench, good("nas"))
    fault = "inventory.toml:12: this is no TOML: a bracket is missing. Next: mend that line, or take the file away."
    bench.appliance.state.put(Section.fleet, msgspec.structs.replace(fleet(good("nas")), problem=fault))
    await seen.shows("the inventory stays as it was:")
    await seen.shows("file away.")
    await seen.end()


async def test_a_long_reason_and_its_next_step_are_whole_on_a_small_console(bench: Bench) -> None:
    """A fingerprint that is cut off can be compared with nothing."""
    shown = "SHA256:yDn1GhbmVcndEzG4GRVIOv3yp3He"
    why = link(
        Reach.untrusted,
        reason=f"its host key was never confirmed: {shown}",
        next_step=f"compare it there; then trust {shown}end",
    )
    seen = await on_fleet(bench, machine("nas", Reach.untrusted, Health.absent, link=why))
    await seen.shows(f"{shown}.")
    await seen.shows(f"{shown}end")
    await seen.end()


async def test_marking_filtering_grouping_and_sorting_by_keys(bench: Bench) -> None:
    nodes = [good(name, node=entry(name, groups=("edge" if name < "c" else "cloud",))) for name in "abcd"]
    seen = await on_fleet(bench, *nodes)
    await seen.press(" ", "1 marked")
    assert page(seen).chosen() == ["a"]
    await seen.press("*", "4 marked")
    await seen.press("*", "by name")
    await wait_for(lambda: not page(seen).look.marked)
    await seen.press("/", "leaves out")
    await seen.press("group:edge", "/group:edge")
    await seen.press("\r", "group:edge")
    await wait_for(lambda: seen.app.focused is page(seen).query_one("#nodes", Grid))
    await seen.press("*", "2 marked")
    assert page(seen).chosen() == ["a", "b"]
    await seen.press("\x1b", "by name")
    await wait_for(lambda: page(seen).look.text == "")
    await seen.press("\x1b", "by name")
    await wait_for(lambda: not page(seen).look.marked)
    await seen.press("b", "2 of 2 up")
    grid = page(seen).query_one("#nodes", Grid)
    grid.move_to(0)
    await seen.press(" ", "2 marked")
    assert page(seen).chosen() == ["c", "d"]
    await seen.press("s", "by health")
    await seen.end()


AGO = 1830.0
"""Seconds: an age in whole minutes that no second of a test changes."""


def long_ago(name: str) -> NodeStatus:
    return good(name, metrics=numbers(AGO), facts=facts(AGO), link=link(answered=time.monotonic() - AGO))


async def test_one_key_for_a_thousand_machines_lays_out_a_screenful(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed machine repaints one line; a step of the cursor repaints two; the rest is not even laid out."""
    many = [long_ago(f"node{index:04}") for index in range(1000)]
    seen = await on_fleet(bench, *many)
    await seen.shows("node0000")
    shown = page(seen)
    shown.unsubscribe()  # nothing but this test changes the page now
    painted: list[str] = []
    laid_out: list[str] = []
    whole, line = LineView.repaint, Grid._line

    def repaint(self: LineView, row: int) -> None:
        painted.append(f"{self.id} {row}")
        whole(self, row)

    def lay_out(self: Grid, *args: Any) -> Any:
        laid_out.append(args[0].key)
        return line(self, *args)

    shown.show_rows()
    monkeypatch.setattr(LineView, "repaint", repaint)
    monkeypatch.setattr(Grid, "_line", lay_out)
    shown.show_rows()
    assert painted == []
    many[3] = msgspec.structs.replace(many[3], metrics=numbers(AGO, cpu=77.0))
    bench.appliance.state.put(Section.fleet, fleet(*many))
    shown.show_rows()
    assert painted == ["nodes 5"]
    many[500] = msgspec.structs.replace(many[500], metrics=numbers(AGO, cpu=77.0))
    bench.appliance.state.put(Section.fleet, fleet(*many))
    painted.clear()
    shown.show_rows()
    assert painted == []
    laid_out.clear()
    grid = shown.query_one("#nodes", Grid)
    grid.move_to(1)
    assert [each for each in painted if each.startswith("nodes")] == ["nodes 2", "nodes 3"]
    assert len(laid_out) <= grid.inner_height
    await seen.press("G", "node0999")
    await seen.end()


async def test_a_look_at_one_machine_keeps_how_the_table_was_looked_at(bench: Bench) -> None:
    seen = await on_fleet(bench, good("a"), good("b"), good("c"))
    await seen.press("s", "by health")
    await seen.press(" ", "1 marked")
    await seen.press("\r", "Overview")
    await seen.press("\x1b", "by health")
    await wait_for(lambda: page(seen).look.marked == frozenset({"a"}) and page(seen).under == "b")
    await seen.press("\r", "Overview")
    seen.session.feed(b"\x1b[20~")  # F9
    await seen.shows("by name")
    await seen.end()


async def test_a_machine_is_added_changed_set_aside_and_removed_by_keys(bench: Bench) -> None:
    """The real inventory; nothing answers at that port."""
    seen = bench.open(PLAIN)
    await seen.press("gf", "by name")
    await seen.press("a", "Add a machine")
    await fill(seen, node="box", host="127.0.0.1", user="ada", port="1", role="tests", groups="lab, edge")
    await seen.shows("box is added")
    told = await only(bench)
    assert (told["node"], told["port"], told["groups"]) == ("box", 1, ("lab", "edge"))
    bench.appliance.state.put(Section.fleet, fleet(machine("box", Reach.never, node=bench.appliance.domains.shell.node("box"))))  # type: ignore[union-attr]
    await seen.shows("▶  box")
    await seen.press("c", "Change box")
    await fill(seen, host="127.0.0.1", user="ada", port="1", role="", groups="lab")
    await seen.shows("box is changed")
    told = await only(bench)
    assert (told["role"], told["groups"]) == ("", ("lab",))
    await seen.press("m", "Nothing contacts box")
    await seen.press("y", "set aside, nothing contacts it")
    told = await only(bench)
    assert told["enabled"] is False
    await seen.press("d", "Forget the machine box")
    await seen.press("y", "box is removed")
    assert await bench.invoke("fleet.nodes") == []
    await seen.end()


async def only(bench: Bench) -> dict[str, Any]:
    """The one machine of the inventory."""
    (found,) = cast("list[dict[str, Any]]", await bench.invoke("fleet.nodes"))
    return found


async def fill(seen: Seen, **values: str) -> None:
    """All fields of the form of a machine, the given ones with a text."""
    fields = [
        name
        for name in ("node", "host", "user", "port", "role", "groups")
        if name == "host" or name != "node" or "node" in values
    ]
    for name in (*fields, "services", "vpn_address", "jump", "key_file", "tags", "sudo", "mac"):
        await wait_for(lambda name=name: getattr(seen.app.focused, "id", "") == f"field-{name}", 20)  # type: ignore[misc]
        field: Any = seen.app.focused
        if name in values and field.value != values[name]:
            field.value = values[name]
        seen.session.feed(b"\r")


async def test_a_viewer_is_not_offered_what_a_viewer_may_not(bench: Bench) -> None:
    seen = bench.open(PLAIN, role=Role.viewer)
    await seen.press("gf", "by name")
    await seen.shows("Filter")
    assert "Add" not in seen.display.splitlines()[-1]
    await seen.press("a", "needs the role admin")
    await seen.end()


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_the_table_keeps_to_the_consoles_glyphs(bench: Bench, size: tuple[int, int]) -> None:
    nodes = [good("a"), machine("b", Reach.changed, Health.unhealthy), good("c", link=link(Reach.stale), metrics=numbers(40.0))]
    seen = await on_fleet(bench, *nodes, size=size)
    await seen.shows("KEY CHANGED")
    head = next(line for line in seen.display.splitlines() if "cpu%" in line)
    assert "…" not in head
    assert unsafe(seen.display.replace("\n", "")) == set()
    await seen.end()


async def test_nothing_of_the_pages_stays(bench: Bench) -> None:
    """Table, machine, operations and back: no page that was left, no App and no watch is kept."""
    gc.collect()
    watches = len(bench.appliance.state._watches)
    seen = await on_fleet(bench, good("a"))
    await seen.shows("▶  a")
    left: list[weakref.ref[Any]] = [weakref.ref(page(seen))]
    await seen.press("\r", "Overview")
    await wait_for(lambda: not isinstance(seen.app.page, Fleet))
    left.append(weakref.ref(seen.app.page))
    await seen.press("\x1b", "by name")
    await seen.press("o", "Machines")
    left.append(weakref.ref(seen.app.page))
    await seen.press("\x1b", "by name")
    await wait_for(lambda: gc.collect() >= 0 and not any(ref() is not None for ref in left))
    left.append(weakref.ref(seen.app))
    await seen.end()
    await wait_for(lambda: len(bench.appliance.state._watches) == watches)
    await wait_for(lambda: gc.collect() >= 0 and not any(ref() is not None for ref in left))
