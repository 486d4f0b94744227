"""The Host panel uses the room it has."""

from __future__ import annotations

import time

import msgspec
import pytest

from appliance.core.model import HostSample
from appliance.screens.glyphs import FULL
from appliance.screens.host import core_lines, host_lines
from appliance.screens.widgets.lines import Line, width_of
from tests.screens.conftest import Bench


def text(lines: list[Line]) -> list[str]:
    return ["".join(piece for piece, _ in line) for line in lines]


SAMPLE = HostSample(
    time=0.0, hostname="h", cpu_usage=12.0, cpu_per_core=(), memory_usage=5.0, memory_total=1, memory_used=1, swap_usage=None,
    disk_usage=17.0, disk_total=1, disk_free=1, temperature_c=None, throttled=None, load_1m=0.1, load_5m=0.1, load_15m=0.1,
    uptime_s=60.0, network=(), process_cpu=None, process_rss=1,
)  # fmt: skip


@pytest.mark.parametrize("cores", [1, 2, 4, 5, 64])
@pytest.mark.parametrize(("width", "height"), [(37, 7), (37, 8), (78, 18), (60, 30), (20, 40), (0, 0)])
def test_no_line_is_wider_and_nothing_is_hidden(cores: int, width: int, height: int) -> None:
    """With any number of cores: what does not fit a small panel is what came last before, and nothing is drawn twice."""
    now = time.time()
    sample = msgspec.structs.replace(SAMPLE, cpu_per_core=tuple(float(core) for core in range(cores)))
    trends = {"net_rx_rate": ((now - 5, 3e6),), "net_tx_rate": ((now - 5, 10.0),)}
    lines = host_lines(sample, trends, width, height, FULL)
    shown = text(lines)
    tall = any(line.startswith(" core 0") for line in shown)
    assert tall == (height >= 8 + (-(-cores // 2) if width >= 60 else cores) + 4)
    assert tall != any("each core" in line for line in shown)
    assert not tall or len(lines) <= height
    if tall and width >= 60:
        assert max(width_of(line) for line in lines[8:]) <= width
        assert any("top 4.8 MiB/s" in line for line in shown)


def test_a_core_has_the_colour_of_its_load() -> None:
    roles = {role for line in core_lines((10.0, 85.0, 99.0), 40, FULL) for _, role in line}
    assert {"ok", "warn", "bad"} <= roles


def test_how_long_the_host_is_up_stands_with_the_host_and_is_not_rounded_up() -> None:
    """3 h 32 min are not 4 h, and they are not the appliance's own."""
    lines = text(host_lines(msgspec.structs.replace(SAMPLE, uptime_s=3 * 3600 + 32 * 60 + 59.0), {}, 38, 7, FULL))
    (line,) = [line for line in lines if "up 3 h 32 min" in line]
    assert line.startswith(" load ")
    hot = msgspec.structs.replace(SAMPLE, throttled=("under-voltage",))
    assert any("under-voltage  up 1 min" in line for line in text(host_lines(hot, {}, 60, 7, FULL)))


async def test_a_wide_terminal_shows_cores_and_network(bench: Bench) -> None:
    """160 x 48 has a meter a core and the network over time; 80 x 24 stays as it was."""
    seen = bench.open(size=(160, 48))
    await seen.shows("core 0")
    await seen.shows("net out")
    assert "each core" not in seen.display
    await seen.end()
    seen = bench.open(size=(80, 24))
    await seen.shows("of a core")
    assert "core 0" not in seen.display
    await seen.end()
