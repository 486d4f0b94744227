"""What the keys of the Analytics page do."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from appliance.errors import InvalidArgumentsError
from appliance.screens import analytics_view as view
from appliance.screens.analytics_ask import AGGREGATIONS, BUCKETS, LONGEST, RANGES, SHORTEST, seconds_of
from appliance.screens.dialogs import Choice
from appliance.screens.flows import Flows
from appliance.screens.picking import Pick

if TYPE_CHECKING:
    from appliance.screens.analytics import Analytics

FORMS = ("csv", "png")


class Acts:
    """Dialogs and invocations of one Analytics page.

    Args:
        page: It.
    """

    def __init__(self, page: Analytics) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's keys."""
        flows = {
            "metric": self._metric, "time": self._time, "devices": self._devices, "aggregation": self._aggregation,
            "bucket": self._bucket, "export": self._export, "findings": self._findings,
        }  # fmt: skip
        work: Coroutine[Any, Any, None] = flows[what]()
        self._flows.start(work, what)

    async def _pick(self, title: str, names: list[tuple[str, str]], picked: tuple[str, ...], *, many: bool = False) -> Any:
        return await self._page.app.push_screen_wait(Pick(title, names, picked, many=many))

    async def _metric(self) -> None:
        names = [(name, "") for name in await self._page.console.invoke("analytics.metrics")]
        if picked := await self._pick("Metric", names, (self._page.ask.metric,)):
            self._page.devices = None
            self._page.set_ask(replace(self._page.ask, metric=picked[0], devices=()))

    async def _devices(self) -> None:
        ask = self._page.ask
        found = await self._page.console.invoke("analytics.devices", {"metric": ask.metric} if ask.metric else {})
        picked = await self._pick("Devices; none marked: all", [(name, "") for name in found], ask.devices, many=True)
        if picked is not None:
            self._page.set_ask(replace(ask, devices=picked, compare=len(picked) > 1 or (ask.compare and len(picked) != 1)))

    async def _aggregation(self) -> None:
        names = [(name, "") for name, _, _ in AGGREGATIONS]
        if picked := await self._pick("What becomes of a bucket's values", names, (self._page.ask.aggregation,)):
            self._page.set_ask(replace(self._page.ask, aggregation=picked[0]))

    async def _bucket(self) -> None:
        names = [("auto", "what fits the screen"), *((name, "") for name, _ in BUCKETS)]
        if picked := await self._pick("Bucket", names, (self._page.ask.bucket or "auto",)):
            self._page.set_ask(replace(self._page.ask, bucket="" if picked[0] == "auto" else picked[0]))

    async def _time(self) -> None:
        choices = [(key, f"last {words}") for key, words, _ in RANGES]
        text = "Which time? Zoom with + and -, move with < and >."
        key = await self._page.app.push_screen_wait(Choice("Time", text, [*choices, ("c", "another one: length and end")]))
        if key == "c":
            await self._other_time()
        elif key is not None:
            length = next(seconds for own, _, seconds in RANGES if own == key)
            self._page.cursor = None
            self._page.set_ask(replace(self._page.ask, length=length, until=None, bucket=""))

    async def _other_time(self) -> None:
        fields = {
            "length": {"type": "string", "description": "such as 45m, 36h, 14d, 8w", "default": "1h"},
            "end": {"type": "string", "description": "now, or local time as 2026-01-31 14:00", "default": "now"},
        }

        async def submit(values: dict[str, Any]) -> tuple[float, float | None]:
            return length_of(values["length"]), end_of(values["end"])

        schema = {"properties": fields, "required": list(fields)}
        done = await self._flows.form("Time", schema, submit=submit)
        if done is not None:
            length, until = done.result
            self._page.cursor = None
            self._page.set_ask(replace(self._page.ask, length=length, until=until, bucket=""))

    async def _findings(self) -> None:
        await self._flows.read("What is wrong with the data", view.finding_lines(self._page.findings))

    async def _export(self) -> None:
        ask = self._page.ask
        args = ask.arguments(time.time(), self._page.columns)
        fields = {
            "form": {"enum": list(FORMS), "default": FORMS[0]},
            "name": {
                "type": "string",
                "description": "of the file; its ending is added",
                "default": view.file_name(ask, "").rstrip("."),
            },
        }
        intro = ["The file is written on the appliance, beside its other data; one that is there stays.", ""]
        done = await self._flows.fill_in("analytics.save", "Export", fields, intro, **args)
        if done is not None:
            self._flows.say(f"{done[1]['rows']} rows are in {done[1]['path']}", "ok")


def length_of(text: str) -> float:
    """A length that was typed. Raises InvalidArgumentsError."""
    found = seconds_of(text)
    if found is None or not SHORTEST <= found <= LONGEST:
        raise InvalidArgumentsError(f"length: {text!r} is none.", "write 45m, 36h, 14d or 8w; from 10s to 10 years.")
    return found


def end_of(text: str) -> float | None:
    """An end that was typed; None for now. Raises InvalidArgumentsError."""
    if text.strip().lower() == "now":
        return None
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentsError(f"end: {text!r} is no time.", "write now, or 2026-01-31 14:00.") from error
    return None if moment >= time.time() else moment
