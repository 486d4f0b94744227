"""The services of a machine as rows: the expected ones, all units, all containers."""

from __future__ import annotations

from appliance.core.fleet.model import Container, NodeStatus, Unit
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.widgets.grid import Column, Row

SERVICES = (
    Column("", 1), Column("service", 30), Column("state", 20), Column("starts", 9, least=100), Column("what it is"),
)  # fmt: skip
EXPECTED = "●"
"""Before a service that is expected."""
UNIT, CONTAINER, OTHER = "unit/", "container/", "expected/"
"""Begin the keys of rows."""


def service_rows(node: NodeStatus, text: str, glyphs: Glyphs) -> list[Row]:
    """Expected services first, then all units and containers; those that fit a filter.

    Args:
        node: As it is.
        text: What a row must contain, in lower case.
        glyphs: Of the session.
    """
    facts = node.facts
    units = {unit.name: unit for unit in (facts.units or ())} if facts is not None else {}
    boxes = facts.containers or () if facts is not None else ()
    expected = {each.name: each for each in node.expected}
    rows = [
        _expected(name, ok=each.ok, state=each.state, glyphs=glyphs) for name, each in expected.items() if name not in units
    ]
    first = sorted(units.values(), key=lambda unit: (unit.name not in expected, unit.active != "failed", unit.name))
    rows += [_unit(unit, glyphs, expected=unit.name in expected) for unit in first]
    rows += [_container(box, glyphs) for box in sorted(boxes, key=lambda box: (box.project, box.name))]
    return [row for row in rows if text in " ".join(c if isinstance(c, str) else c[0] for c in row.cells).lower()]


def _state(good: bool | None, word: str, glyphs: Glyphs, *, wanted: bool = True) -> tuple[str, Role]:
    if good is None:
        return f"{glyphs.none} {word}", "muted"
    if good:
        return f"{glyphs.ok} {word}", "ok"
    return (f"{glyphs.bad} {word}", "bad") if wanted else (f"{glyphs.none} {word}", "muted")


def _expected(name: str, *, ok: bool | None, state: str, glyphs: Glyphs) -> Row:
    return Row(f"{OTHER}{name}", ((EXPECTED, "accent"), name, _state(ok, state or f.NONE, glyphs), "", ("expected", "muted")))


def _unit(unit: Unit, glyphs: Glyphs, *, expected: bool) -> Row:
    word = unit.active if unit.sub == unit.active else f"{unit.active} {unit.sub}"
    good = {"active": True, "failed": False}.get(unit.active, False if expected else None)
    cells = (
        (EXPECTED if expected else "", "accent"), unit.name.removesuffix(".service"),
        _state(good, word, glyphs), (unit.enabled or f.NONE, "muted"), (unit.description, "muted"),
    )  # fmt: skip
    return Row(f"{UNIT}{unit.name}", cells)  # type: ignore[arg-type]


def _container(box: Container, glyphs: Glyphs) -> Row:
    good = {"running": True, "dead": False, "restarting": False}.get(box.state)
    what = f"{box.image}  {box.ports}".rstrip()
    project = f"{box.project} / " if box.project else ""
    return Row(
        f"{CONTAINER}{box.name}",
        (
            ("", "text"),
            box.name,
            _state(good, box.status or box.state, glyphs),
            ("container", "muted"),
            (project + what, "muted"),
        ),
    )


def no_services(node: NodeStatus, text: str) -> str:
    """Why there is no row."""
    if text:
        return f"nothing contains {text!r}: Esc clears the filter"
    if node.facts is None:
        return "not read yet: f reads it now" if node.node.enabled else "it is set aside: nothing contacts it"
    missing = [why for key, why in node.facts.missing.items() if key in {"units", "containers"}]
    return "; ".join(missing) or "it has no services that systemd or docker knows of"


def target(key: str) -> tuple[str, dict[str, str]] | None:
    """What a row stands for in operations: their noun and arguments; None where it is no such thing.

    Args:
        key: Of the row.
    """
    kind, name = key.partition("/")[::2]
    if kind == CONTAINER[:-1]:
        return "container", {"container": name}
    if kind == OTHER[:-1] and name.startswith("compose:"):
        return "compose", {"project": name.removeprefix("compose:")}
    return ("service", {"unit": name}) if kind in {UNIT[:-1], OTHER[:-1]} and ":" not in name else None
