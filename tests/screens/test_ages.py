"""Every panel says how old its values are, and an age is never made up."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from appliance.core.state import Section
from appliance.errors import ApplianceError
from appliance.screens.audit import Audit
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for

AGE = re.compile(r"\d+ (s|min)")


def note(seen: Seen, title: str) -> str:
    """What stands at the right of a panel's upper border."""
    found = re.search(rf"┌─ {title}[^┐]*┐", seen.display)
    return found[0] if found else ""


async def test_the_audit_ages_while_it_cannot_be_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that fail leave the age growing and say why; a read that succeeds sets it back."""
    seen = bench.open(size=(100, 30))
    await seen.press("7", "setup.complete")
    page = seen.app.page
    assert isinstance(page, Audit)
    invoke, tried = seen.app.spark.invoke, []

    async def refuse(name: str, args: dict[str, Any] | None = None, **named: Any) -> Any:
        tried.append(name)
        raise ApplianceError("the database is away.", "wait")

    monkeypatch.setattr(seen.app.spark, "invoke", refuse)
    page.stamp.at = time.monotonic() - 600
    await wait_for(lambda: tried, 15)
    await seen.shows("10 min, not read: the database is away.")
    monkeypatch.setattr(seen.app.spark, "invoke", invoke)
    await wait_for(lambda: re.search(r" \d s ─┐", note(seen, "Audit")), 15)
    await seen.end()


@pytest.mark.parametrize(("key", "titles"), [("1", ("Host", "CPU %", "Services")), ("3", ("Results",)), ("8", ("Settings",))])
async def test_panels_carry_an_age(bench: Bench, key: str, titles: tuple[str, ...]) -> None:
    seen = bench.open(size=(100, 30))
    await seen.press(key, titles[0])
    for title in titles:
        await wait_for(lambda title=title: AGE.search(note(seen, title)) or "never" in note(seen, title), 10)  # type: ignore[misc]
    await seen.end()


async def test_a_past_that_was_read_has_the_age_of_that_read(bench: Bench) -> None:
    """One hour back: never read at first, then the read's age, not the live readings'."""
    seen = bench.open(size=(100, 30))
    await seen.press("1", "CPU %, 10 min")
    await seen.press("t", "CPU %, 1 h")
    state = bench.appliance.state
    await wait_for(lambda: (state.get(Section.trends).value or {}).get("cpu_usage"), 20)  # a second reading: it is a rate
    await bench.appliance.domains.analytics.flush()
    seen.app.page.refresh_history()  # type: ignore[union-attr]
    await wait_for(lambda: AGE.search(note(seen, "CPU %, 1 h").replace("1 h", "")), 40)
    seen.app.page.stamp.at = time.monotonic() - 600  # type: ignore[union-attr]
    await wait_for(lambda: "10 min" in note(seen, "CPU %, 1 h"), 10)
    await seen.end()
