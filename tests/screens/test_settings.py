"""Long settings are shown whole, or say that they are cut."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.screens.settings import detail
from appliance.screens.widgets.lines import width_of
from tests.screens.conftest import Bench

LONG = "/mnt/" + "a-directory-with-a-long-name/" * 9 + "end"


def row(value: Any, meaning: str = "Where the NAS is mounted.") -> dict[str, Any]:
    return {
        "key": "nas.path",
        "value": value,
        "next_start": None,
        "default": "/mnt/nas",
        "origin": "config.toml",
        "env": "NAS_PATH",
        "meaning": meaning,
    }


@pytest.mark.parametrize("width", [10, 40, 78, 158])
@pytest.mark.parametrize("value", ["", None, "/mnt/nas", LONG, {"cpu": {"threshold": 90.0}}, "two\nlines"])
def test_a_value_is_whole_or_says_that_it_is_cut(width: int, value: Any) -> None:
    lines = detail(row(value), width, 5)
    text = "".join(piece for line in lines for piece, _ in line)
    assert max(width_of(line) for line in lines[:-1]) <= max(width, 44)
    if value == LONG and width > 40:
        shown = "".join(piece.strip() for line in lines for piece, role in line if role == "accent")
        assert shown == LONG or f"… {len(LONG)} characters" in text
        assert (shown == LONG) == (width == 158)
    if isinstance(value, dict):
        assert '"threshold": 90.0' in text or width < 40
    assert len(lines) <= 5 or width < 40


@pytest.fixture
def long_path(monkeypatch: pytest.MonkeyPatch) -> str:
    """A long setting, told before the appliance starts."""
    value = "/mnt/" + "x" * 50 + "/a-long-way-down/" + "y" * 20 + "/end-of-it"
    monkeypatch.setenv("NAS_SHARE_PATH", value)
    return value


@pytest.mark.parametrize(("size", "shown"), [((80, 24), "/mnt/" + "x" * 50), ((380, 48), "y" * 20 + "/end-of-it ")])
async def test_a_long_value_is_seen_to_its_end(long_path: str, bench: Bench, size: tuple[int, int], shown: str) -> None:
    """In the panel on a small terminal; in the table too on a wide one."""
    seen = bench.open(size=size)
    await seen.press("8", "no environment variable")
    keys = [row["key"] for row in bench.appliance.domains._settings_rows()]
    seen.session.feed(b"\x1b[B" * keys.index("nas.path"))
    await seen.shows("environment variable NAS_SHARE_PATH")
    panel = seen.display.partition("Meaning")[2]
    assert long_path in "".join(line.strip("│ ") for line in panel.splitlines())
    assert shown in seen.display
    assert (long_path in seen.display.partition("Meaning")[0]) == (size[0] > 80)
    await seen.end()


async def test_a_changed_setting_tells_what_holds_now_and_what_will(bench: Bench) -> None:
    """The running value does not stand beside the origin of one that does not hold yet."""
    await bench.invoke("config.set", key="telemetry.interval_seconds", value="7.5")
    rows = {row["key"]: row for row in bench.appliance.domains._settings_rows()}
    changed = rows.pop("telemetry.interval_seconds")
    assert (changed["value"], changed["next_start"]) == (0.5, 7.5)
    assert {row["next_start"] for row in rows.values()} == {None}
    seen = bench.open(size=(160, 48))
    await seen.press("8", "from the next start: 7.5 (")
    await seen.end()
