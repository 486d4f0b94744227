"""Answers as CSV, as pictures and by their labels, at the edges."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from PIL import Image

from appliance.core.analytics import shape
from appliance.core.analytics.asking import LATEST, check
from appliance.core.analytics.model import Aggregation, Answer, Query, Series
from appliance.core.analytics.picture import png_of
from appliance.core.analytics.shape import Row
from appliance.core.catalog.analytics import csv_text
from appliance.errors import QueryError

QUERY = Query(metric="m", since=0.0, until=60.0, bucket="10s", aggregation=Aggregation.sum)


def answer(*series: Series, query: Query = QUERY) -> Answer:
    return Answer(query=query, series=series, store="duckdb", source="device_metrics", cached=False, elapsed_ms=1.0, as_of=60.0)


def line(*values: float, **labels: str) -> Series:
    return Series(labels=labels, points=tuple((10.0 * index, value) for index, value in enumerate(values)))


@pytest.mark.parametrize(
    "values", [(2e16,) * 3, (-2e16,) * 3, (1e300,) * 3, (1.7e308, -1.7e308), (1e16, 1e16 + 2), (0.0,) * 3, (5e-324, 0.0)]
)
def test_any_line_is_drawn(values: tuple[float, ...]) -> None:
    picture = Image.open(io.BytesIO(png_of(answer(line(*values)))))
    assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 4


def test_no_range_ends_where_no_time_is() -> None:
    with pytest.raises(QueryError, match="9999"):
        check(msgspec.structs.replace(QUERY, since=LATEST - 60.0, until=LATEST))
    last = check(msgspec.structs.replace(QUERY, since=LATEST - 60.0, until=LATEST - 1.0))
    assert png_of(answer(query=last.query))


def test_a_tag_called_as_the_device_keeps_its_own_label() -> None:
    asked = check(msgspec.structs.replace(QUERY, group_by=("device_id", "tag:device_id", "tag:room")))
    (found,), _ = shape.shape(asked, [Row(("pi", "x", "a"), [0], ([1.0],))])
    assert found.labels == {"device_id": "pi", "tag:device_id": "x", "room": "a"}


def test_no_head_of_a_table_is_a_formula() -> None:
    text = csv_text(answer(line(1.0, **{"=cmd": "+1", "room": "a"})))
    assert list(csv.reader(io.StringIO(text))) == [
        ["time", "'=cmd", "room", "value"],
        ["1970-01-01T00:00:00.000000Z", "'+1", "a", "1.0"],
    ]
