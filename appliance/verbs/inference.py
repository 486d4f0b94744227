"""What inference says of itself as text: devices, queue, latency, cache, fallbacks (the twin of the page Inference)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from appliance.core.model import InferenceResult
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.verbs import render

Block = Table | Text
DEVICE = ("device", "health", "use", "°C", "W", "done", "failed", "stalls", "resets", "ms", "holds")
FALLBACK = ("time", "model", "from", "to", "times", "reason")
RESULT = ("time", "source", "model", "on", "model ms", "in all ms", "found")
BAR = 40
"""Characters of the longest bar."""


def glance(value: Mapping[str, Any], _: int) -> list[Block]:
    """What serves, how fast, on which devices, and what is wrong with them."""
    engine = value["engine"]
    blocks: list[Block] = [Text(printable(_head(value))), render.table([_device(each) for each in engine["devices"]], DEVICE)]
    ill = [each for each in engine["devices"] if each["health"] != "healthy"]
    return [
        *blocks, *(Text(printable(f"{each['name']}: {each['reason'].rstrip('.')}. {_next(each)}".strip())) for each in ill)
    ]  # fmt: skip


def _stats(value: Mapping[str, Any], width: int) -> list[Block]:
    engine, cache = value["engine"], value["cache"]
    blocks = glance(value, width)
    waiting = ", ".join(f"{name} {count}" for name, count in engine["waiting"].items()) or "nothing"
    blocks.append(Text(
        f"waiting: {waiting}; running {engine['running']}; dropped {engine['dropped']}, too late {engine['expired']}, "
        f"cancelled {engine['cancelled']}, fallbacks {engine['fallbacks']}\n"
        f"cache: {cache['hits']} hits, {cache['misses']} misses, {cache['entries']} of {cache['entry_limit']} entries, "
        f"{f.size(cache['bytes'])} of {f.size(cache['byte_limit'])}, {cache['evicted']} evicted\n"
        f"models: {f.size(value['models_bytes'])} of {f.size(value['models_limit'])} added"
    ))  # fmt: skip
    if any(count for _, count in value["histogram"]):
        blocks.append(Text("\n".join(_bars(value["histogram"]))))
    if engine["last_fallbacks"]:
        blocks.append(render.table([_fallback(each) for each in engine["last_fallbacks"]], FALLBACK))
    return blocks


def _head(value: Mapping[str, Any]) -> str:
    done = ", ".join(f"{name} {count}" for name, count in value["done_by"].items()) or "none yet"
    rate = "–" if value["per_second"] is None else f"{value['per_second']:.1f}/s"
    return (
        f"{value['model'] or 'no model'} on {value['backend'] or '–'}: "
        f"{value['total']} results ({done}, cached {value['cached']}), "
        f"{value['errors']} failures, {value['refused']} refused; {rate}, "
        f"p50 {f.milliseconds(value['p50_ms'])}, p95 {f.milliseconds(value['p95_ms'])}"
    )


def _next(device: Mapping[str, Any]) -> str:
    return f"Next: {device['next_step']}" if device["next_step"] else ""


def _device(device: Mapping[str, Any]) -> dict[str, Any]:
    reading = device["reading"] or {}
    said = reading.get("utilisation")  # its own word goes before what was measured of it
    used = device["busy"] if said is None else said
    return {
        **device, "device": device["name"], "use": "–" if used is None else f"{used:.0%}", "°C": reading.get("temperature_c"),
        "W": reading.get("power_w"), "ms": device["latency_ms"], "holds": ", ".join(device["loaded"]),
    }  # fmt: skip


def _fallback(fallback: Mapping[str, Any]) -> dict[str, Any]:
    return {**fallback, "from": fallback["wanted"], "to": fallback["used"], "times": fallback["count"]}


def _bars(histogram: list[tuple[float | None, int]]) -> list[str]:
    """A bar for each span of time in which results came, the longest BAR characters long."""
    most = max(count for _, count in histogram)
    lines, below = [], 0.0
    for limit, count in histogram:
        label = f"over {f.milliseconds(below)}" if limit is None else f"to {f.milliseconds(limit)}"
        if count:
            lines.append(f"{label:>12}  {'#' * max(1, round(BAR * count / most))} {count}")
        below = limit or below
    return lines


def _results(results: list[dict[str, Any]], _: int) -> list[Block]:
    """What was found, by every task, in the words of the page."""
    from appliance.screens.inference_found import found  # late: with it comes Textual

    rows = []
    for result in msgspec.convert(results, list[InferenceResult]):
        kept = "cache" if result.cached else result.backend
        model = None if result.cached else f.ms(result.inference_time_ms)
        rows.append({
            "time": result.time, "source": result.source, "model": f"{result.model}@{result.model_version}", "on": kept,
            "model ms": model, "in all ms": f.ms(result.total_time_ms), "found": found(result),
        })  # fmt: skip
    return [render.table(rows, RESULT)]


FORMS: Mapping[str, render.Form] = MappingProxyType({"inference.stats": _stats, "inference.results": _results})
