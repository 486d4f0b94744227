"""Questions on the command line of a real appliance: text, JSON, files, errors, counters."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import msgspec
from PIL import Image

from appliance.core import metrics
from appliance.core.model import Role
from tests.integration.test_front import line
from tests.screens.conftest import Bench, bench  # noqa: F401
from tests.support import wait_for

ASKED = ("analytics", "query", "load_m", "--bucket", "1m", "--range", "1h")


async def with_readings(bench: Bench) -> float:  # noqa: F811
    """Two devices with one reading a minute; returns the first minute."""
    from datetime import UTC, datetime

    from appliance.core.events import new_id

    domains = bench.appliance.domains
    assert domains is not None
    begin = time.time() // 60 * 60 - 1800
    rows = [
        (datetime.fromtimestamp(begin + 60 * index, UTC), device, "load_m", float(index + shift), '{"room":"a"}', new_id())
        for index in range(20)
        for device, shift in (("=cmd", 0), ("pi", 100))
    ]
    await wait_for(lambda: domains.analytics.status)
    domains.duck.add_readings(rows)
    return begin


async def test_text_json_csv_and_picture_say_the_same(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    begin = await with_readings(bench)
    code, text = await line(bench, *ASKED, "--by", "device_id", "--json")
    assert code == 0, text
    answer = msgspec.json.decode(text)
    assert [each["labels"] for each in answer["series"]] == [{"device_id": "=cmd"}, {"device_id": "pi"}]
    assert answer["series"][1]["points"] == [[begin + 60 * index, 100.0 + index] for index in range(20)]
    assert (answer["store"], answer["source"]) == ("duckdb", "device_metrics_minute")
    code, text = await line(bench, *ASKED)
    assert code == 0
    assert "69" in text.splitlines()[0]  # the mean of 19 and 119 at the top of the plot
    code, text = await line(
        bench, *ASKED, "--by", "device_id", "--csv", str(tmp_path / "a.csv"), "--png", str(tmp_path / "a.png")
    )
    assert code == 0, text
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [float(row["value"]) for row in rows] == [*map(float, range(20)), *(100.0 + index for index in range(20))]
    assert {row["device_id"] for row in rows} == {"'=cmd", "pi"}  # no formula for a spreadsheet
    picture = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()))
    assert picture.size == (1200, 600)
    assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 4
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


async def test_the_second_answer_is_a_kept_one_and_counted(bench: Bench) -> None:  # noqa: F811
    begin = await with_readings(bench)
    asked = (
        "analytics",
        "query",
        "load_m",
        "--bucket",
        "1m",
        "--since",
        str(int(begin)),
        "--until",
        str(int(begin) + 600),
        "--json",
    )
    first, second = [msgspec.json.decode((await line(bench, *asked))[1]) for _ in range(2)]
    assert (first["cached"], second["cached"]) == (False, True)
    assert (first["as_of"], first["series"]) == (second["as_of"], second["series"])
    assert msgspec.json.decode((await line(bench, *asked, "--fresh", "true"))[1])["cached"] is False
    told = metrics.text(bench.appliance.state)
    assert "cloud_analytics_queries_total 3.0" in told
    assert 'cloud_analytics_query_latency_ms{quantile="0.95"}' in told


async def test_lists(bench: Bench) -> None:  # noqa: F811
    await with_readings(bench)
    names = msgspec.json.decode((await line(bench, "analytics", "metrics", "--json"))[1])
    assert "load_m" in names
    assert msgspec.json.decode((await line(bench, "analytics", "devices", "--metric", "load_m", "--json"))[1]) == ["=cmd", "pi"]
    assert msgspec.json.decode((await line(bench, "analytics", "tags", "load_m", "--json"))[1]) == {"room": ["a"]}
    assert msgspec.json.decode((await line(bench, "analytics", "span", "load_m", "--json"))[1])["readings"] == 40
    code, text = await line(bench, "analytics", "export", "load_m", "--bucket", "1h", "--agg", "count")
    assert code == 0
    assert text.startswith("time,value")
    assert (await line(bench, "metric", "history", "load_m", "--json"))[0] in (0, 1)  # of this device alone


FAULTS = [
    (("query", "laod_m"), "did you mean load_m?"),
    (("query", "load_m", "--bucket", "1q"), "is no width"),
    (("query", "load_m", "--bucket", "2mo"), "the widest is 1mo"),
    (("query", "load_m", "--bucket", "1s", "--range", "30d"), "buckets of 30s or more"),
    (("query", "load_m", "--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01"), "before until"),
    (("query", "load_m", "--agg", "percentile", "--percentile", "101"), "from 0 to 100"),
    (("query", "load_m", "--agg", "percentile", "--percentile", "nan"), "finite"),
    (("query", "load_m", "--device", "pii"), "did you mean pi?"),
    (("query", "load_m", "--by", "tag:rom"), "did you mean room?"),
    (("query", "load_m", "--tag", "rom=a"), "did you mean room?"),
    (("query", "load_m", "--tag", "room"), "NAME=VALUE"),
    (("query", "load_m", "--by", "metric"), "group by device_id or tag:NAME"),
    (("query", "load_m", "--since", "yesterday"), "RFC 3339"),
    (("query", "load_m", "--range", "1h", "--since", "0"), "or since and until"),
]


async def test_faults_name_the_next_step(bench: Bench) -> None:  # noqa: F811
    await with_readings(bench)
    for words, told in FAULTS:
        code, text = await line(bench, "analytics", *words)
        assert code != 0
        assert told in text, (words, text)


async def test_far_away_no_file_is_written(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    await with_readings(bench)
    code, _ = await line(bench, *ASKED, "--csv", str(tmp_path / "a.csv"), inside=Role.viewer)
    assert code == 2
    assert list(tmp_path.glob("*.csv")) == []
    assert (await line(bench, *ASKED, inside=Role.viewer))[0] == 0
    code, text = await line(bench, *ASKED, "--csv", "/proc/nowhere/a.csv")
    assert (code, "give another file" in text) == (2, True), text
