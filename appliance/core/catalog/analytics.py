"""Actions on the past: questions about metrics, and what is wrong with the data."""

from __future__ import annotations

import asyncio
import csv
import functools
import io
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.analytics import buckets
from appliance.core.analytics.asking import pairs, range_of
from appliance.core.analytics.model import Aggregation, Answer, Fill, Query
from appliance.core.analytics.querying import Analytics
from appliance.core.events import rfc3339
from appliance.core.model import Role
from appliance.core.ports import Clock
from appliance.core.state import LiveState, Section
from appliance.errors import QueryError

AUTO_POINTS = 120
"""Points that a query without a bucket is given at most."""
NameText = Annotated[str, Field(max_length=256)]


class Question(Params):
    """One question about a metric."""

    metric: NameText = Field(description="Name of the metric, such as cpu_usage")
    agg: Literal["sum", "avg", "min", "max", "count", "percentile", "stddev", "variance"] = Field(
        "avg", description="What becomes of the values in a bucket"
    )
    bucket: str | None = Field(None, max_length=12, description="Width of a bucket, 1s to 1mo; what fits the range without it")
    range: str | None = Field(
        None, max_length=12, description="Length up to now (or up to until), such as 1h; 1h without since"
    )
    since: str | None = Field(None, max_length=40, description="First moment (RFC 3339, or seconds since the epoch)")
    until: str | None = Field(None, max_length=40, description="First moment that is not asked for any more; now without it")
    by: list[NameText] = Field([], max_length=4, description="One series for each: device_id or tag:NAME")
    device: list[NameText] = Field([], max_length=1000, description="Only this device; more than one may be given")
    tag: list[Annotated[str, Field(max_length=520)]] = Field([], max_length=16, description="Only readings with NAME=VALUE")
    fill: Literal["none", "null", "previous", "linear"] = Field("none", description="What stands in empty buckets")
    top: int = Field(0, ge=0, le=1000, description="Only so many series, those with the greatest mean; 0 for all")
    percentile: float = Field(95.0, description="0 to 100, with agg=percentile")
    local: bool = Field(False, description="Ask the embedded store, also where a database is configured")
    fresh: bool = Field(False, description="Do not take the answer from the cache")


class Export(Question):
    """A question, and the form of its answer."""

    form: Literal["csv", "rows"] = Field("csv", description="CSV as text, or rows")


class OfMetric(Params):
    """A metric."""

    metric: NameText = Field(description="Name of the metric")
    local: bool = Field(False, description="Ask the embedded store, also where a database is configured")


class Devices(Params):
    """Which devices."""

    metric: NameText | None = Field(None, description="Only devices that have this metric")
    local: bool = Field(False, description="Ask the embedded store, also where a database is configured")


class Where(Params):
    """Which store."""

    local: bool = Field(False, description="Ask the embedded store, also where a database is configured")


def query_of(params: Question, now: float) -> Query:
    """The question as a query. Raises QueryError."""
    width = params.bucket
    since, until = range_of(width or "1s", now, params.range, params.since, params.until)
    if width is None:
        width = buckets.wider(since, until, AUTO_POINTS)
        since, until = range_of(width, now, params.range, params.since, params.until)
    return Query(
        metric=params.metric,
        since=since,
        until=until,
        aggregation=Aggregation(params.agg),
        bucket=width,
        percentile=params.percentile,
        devices=tuple(params.device),
        tags=pairs(params.tag),
        group_by=tuple(params.by),
        fill=Fill(params.fill),
        top=params.top,
    )


def analytics_actions(analytics: Analytics, local: Analytics, clock: Clock, state: LiveState) -> list[Action]:
    """Questions.

    Args:
        analytics: To the configured store.
        local: To the embedded one.
        clock: Says what is now.
        state: Has the findings about the data.
    """

    def which(params: Any) -> Analytics:
        return local if params.local else analytics

    async def query(_: Invocation, params: Question) -> Answer:
        return await which(params).ask(query_of(params, clock.wall()), fresh=params.fresh)

    async def metrics(_: Invocation, params: Where) -> list[str]:
        return await which(params).metrics()

    async def devices(_: Invocation, params: Devices) -> list[str]:
        return await which(params).devices(params.metric)

    async def tags(_: Invocation, params: OfMetric) -> dict[str, list[str]]:
        return await which(params).tags(params.metric)

    async def span(_: Invocation, params: OfMetric) -> dict[str, Any]:
        found = await which(params).span(params.metric)
        return {"metric": params.metric, **(found._asdict() if found else {"since": None, "until": None, "readings": 0})}

    async def quality(_: Invocation, __: NoParams) -> Any:
        return state.get(Section.quality).value or ()

    async def export(_: Invocation, params: Export) -> Any:
        answer = await which(params).ask(query_of(params, clock.wall()), fresh=params.fresh)
        if answer.cut:
            raise QueryError(
                "There is more than one export may have.", "ask for a shorter range, wider buckets, or fewer devices."
            )
        return await asyncio.to_thread(csv_text if params.form == "csv" else rows_of, answer)

    asked = functools.partial(Action, query=True, role=Role.viewer)
    return [
        asked("analytics.query", "Ask about a metric over time", query, params=Question, positional=("metric",)),
        asked("analytics.export", "Ask about a metric, for a table", export, params=Export, positional=("metric",)),
        asked("analytics.metrics", "List the metrics that can be asked about", metrics, params=Where),
        asked("analytics.devices", "List the devices that have readings", devices, params=Devices),
        asked("analytics.tags", "List the tags of a metric's newest readings", tags, params=OfMetric, positional=("metric",)),
        asked("analytics.span", "Show since when a metric is kept", span, params=OfMetric, positional=("metric",)),
        asked("analytics.quality", "List what is wrong with the data", quality),
    ]


def rows_of(answer: Answer) -> list[dict[str, Any]]:
    """One record a point: time (RFC 3339), labels, value."""
    found = []
    for line in answer.series:
        labels = {f"label_{name}" if name in ("time", "value") else name: text for name, text in line.labels.items()}
        found += [{"time": rfc3339(at), **labels, "value": value} for at, value in line.points]
    return found


def csv_text(answer: Answer) -> str:
    """As RFC 4180 has it. A text that a spreadsheet would take for a formula is led by an apostrophe."""
    rows = rows_of(answer)
    out = io.StringIO()
    names = list(rows[0]) if rows else ["time", "value"]
    writer = csv.writer(out)
    writer.writerow([_safe(name) for name in names])
    writer.writerows([_safe(row[name]) for name in names] for row in rows)
    return out.getvalue()


def _safe(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{cell}"
    return cell if cell is None or isinstance(cell, str) else msgspec.json.encode(cell).decode()
