"""The language models' answers as text, and `llm chat` and `llm generate`, which write while the model does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import click
import msgspec
from rich.text import Text

from appliance.core.llm.faults import LanguageModelError
from appliance.core.printable import printable
from appliance.errors import ApplianceError, InvalidArgumentsError, NotRunningError
from appliance.paths import socket_address
from appliance.screens import format as f
from appliance.verbs import render
from appliance.verbs.client import error_of
from appliance.verbs.context import Context

ENDPOINT = ("name", "state", "kind", "place", "models", "first", "pace", "load", "errors", "note")
MODEL = ("name", "endpoint", "place", "size", "context", "parameters", "loaded", "stands_for")
ENTRY = ("id", "time", "who", "endpoint", "model", "bytes", "tokens_in", "tokens_out", "cost", "outcome", "why")
CHOICE = ("endpoint", "place", "model", "expected_ms", "cost", "why")
HEADERS = {"place": "place", "endpoint": "endpoint", "strategy": "strategy", "max_cost": "max-cost"}
"""Options → headers by which the doors take them."""
QUICK = 10.0
"""Seconds for reaching the appliance; an answer may take as long as it takes."""


def nest(group: click.Group) -> None:
    """Let the verbs that ask write while the answer comes."""
    for name in ("chat", "generate"):
        found = group.commands.get(name)
        if found is not None and not found.hidden:
            _streaming(found, name)


def _streaming(found: click.Command, name: str) -> None:
    plain = found.callback

    @click.pass_obj
    def run(context: Context, /, **given: Any) -> None:
        if (given["as_json"] or context.client.local) and plain is not None:
            plain(**given)
            return
        if not (given.get("prompt") or given.get("text") or "").strip() and not given.get("messages"):
            raise InvalidArgumentsError("The text is empty.", f'write what the model is to answer: llm {name} "Why?".')
        _follow(context, name, given)

    found.callback = run


def _follow(context: Context, name: str, given: Mapping[str, Any]) -> None:
    body, last = body_of(name, given), b""
    for line in _lines(context, f"/api/{name}", body, headers_of(given)):
        row = msgspec.json.decode(line)
        if "error" in row:
            context.say("")
            raise LanguageModelError(str(row["error"]))
        text = row.get("response", "") if name == "generate" else row.get("message", {}).get("content", "")
        click.echo(printable(text, keep="\n\t"), file=context.out, nl=False)
        last = line
    context.say("")
    way = msgspec.json.decode(last).get("prime_spark") if last else None
    if way is None:
        raise LanguageModelError("The answer broke off.", "ask again; see `prime-spark llm endpoints`.")
    click.echo(printable(way_of(way)), file=sys.stderr)


def way_of(way: Mapping[str, Any]) -> str:
    """Where an answer came from, why, and what it cost, on one line."""
    left = f", {f.size(way['left_house_bytes'])} left the house" if way["left_house_bytes"] else ""
    price = "" if way["cost"] is None else f", cost {way['cost']:.6g}"
    return f"[{way['endpoint']}, {way['place']}: {way['why']}; {f.milliseconds(way['latency_ms'])}{price}{left}]"


def body_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The request as the door takes it."""
    chosen = {"temperature": given.get("temperature"), "num_predict": given.get("max_tokens")}
    options = {key: value for key, value in chosen.items() if value is not None}
    body: dict[str, Any] = {"model": given.get("model") or "", "options": options, "stream": True}
    if name == "generate":
        return {**body, "prompt": given["prompt"], "system": given.get("system") or ""}
    turns = [{"role": "system", "content": given["system"]}] if given.get("system") else []
    turns += [turn(each) for each in given.get("messages") or ()]
    turns += [{"role": "user", "content": given["text"]}] if given.get("text") else []
    return {**body, "messages": turns}


def turn(text: str) -> dict[str, Any]:
    """A turn of a talk, as the option has it. Raises InvalidArgumentsError."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        hint = 'write each such as --messages \'{"role": "user", "content": "Hello"}\'.'
        raise InvalidArgumentsError(f"A turn is no JSON object: {error}.", hint) from error


def headers_of(given: Mapping[str, Any]) -> dict[str, str]:
    """What the request asks of its way."""
    found = {f"x-prime-spark-{name}": str(given[option]) for option, name in HEADERS.items() if given.get(option)}
    if given.get("edge_only"):
        found["x-prime-spark-privacy"] = "edge-only"
    if given.get("cache") is not None:
        found["x-prime-spark-cache"] = "yes" if given["cache"] else "no"
    return found


def _lines(context: Context, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[bytes]:
    import httpx

    transport = httpx.HTTPTransport(uds=socket_address(context.paths.api_socket))
    limits = httpx.Timeout(None, connect=QUICK)
    content = msgspec.json.encode(body)
    try:
        with (
            httpx.Client(transport=transport, base_url="http://appliance", timeout=limits) as client,
            client.stream("POST", path, content=content, headers=dict(headers)) as answer,
        ):
            if answer.is_error:
                raise refusal(answer.read(), answer.status_code)
            for line in answer.iter_lines():
                yield line.encode()
    except httpx.HTTPError as error:
        raise NotRunningError(f"The appliance does not answer: {error}.", "see its log.") from error


def refusal(content: bytes, status: int) -> ApplianceError:
    """The error that a door tells of."""
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return ApplianceError(f"The appliance answered {status} without JSON.", "see its log.")
    if status == 404 and isinstance(found, dict) and not isinstance(found.get("error"), str):
        return ApplianceError("No language model is configured.", "set llm.edge_url (OLLAMA_EDGE_URL), and start again.")
    told = found.get("error") if isinstance(found, dict) else None
    return LanguageModelError(told) if isinstance(told, str) else error_of(found)


# -- forms -------------------------------------------------------------------------------------------------------------


def _endpoints(rows: list[Mapping[str, Any]], _: int) -> list[Any]:
    return [render.table([_endpoint(each) for each in rows], ENDPOINT)] if rows else []


def _endpoint(row: Mapping[str, Any]) -> dict[str, Any]:
    note = row["reason"] if row["health"] != "healthy" else ""
    rate = row["error_rate"]
    return {
        "name": row["name"], "state": row["switch"] or row["health"], "kind": row["kind"], "place": row["place"],
        "models": f.NONE if row["models"] is None else len(row["models"]), "first": f.milliseconds(row["first_token_ms"]),
        "pace": f.NONE if row["tokens_per_s"] is None else f"{row['tokens_per_s']:g}/s",
        "load": f"{row['in_flight']}/{row['limit']}" + (f" +{row['queue']}" if row["queue"] else ""),
        "errors": f.percent(None if rate is None else 100 * rate), "note": note,
    }  # fmt: skip


def _models(rows: list[Mapping[str, Any]], _: int) -> list[Any]:
    shown = [{**each, "size": None if each["size"] is None else f.size(each["size"])} for each in rows]
    return [render.table(shown, MODEL)] if rows else []


def _one(row: Mapping[str, Any], _: int) -> list[Any]:
    return [render.table([_endpoint(row)], ENDPOINT)]


def _answer(value: Mapping[str, Any], _: int) -> list[Any]:
    return [Text(printable(value["text"], keep="\n\t")), Text(printable(way_of(value)))]


def _route(value: Mapping[str, Any], _: int) -> list[Any]:
    blocks: list[Any] = [Text(printable(f"{value['strategy']}: {value['because']}"))]
    if value["choices"]:
        blocks.append(render.table(value["choices"], CHOICE))
    passed = [f"not {each['endpoint']}: {each['why']}" for each in value["passed"]]
    return [*blocks, *([Text(printable("\n".join(passed), keep="\n"))] if passed else [])]


def _ledger(value: Mapping[str, Any], _: int) -> list[Any]:
    spent = value["spent"]
    parts = [
        f"{spent['requests']} requests", f"{f.size(spent['bytes'])}{_cap(spent['bytes_cap'], f.size)}",
        f"{spent['tokens']} tokens{_cap(spent['tokens_cap'], str)}", f"cost {spent['cost']:.6g}{_cap(spent['cost_cap'], str)}",
    ]  # fmt: skip
    head = Text(f"left the house in 24 hours: {', '.join(parts)}")
    return [head, *([render.table(value["entries"], ENTRY)] if value["entries"] else [])]


def _cap(cap: Any, form: Callable[[Any], str]) -> str:
    return "" if cap is None else f" of {form(cap)}"


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "llm.endpoints": _endpoints, "llm.models": _models, "llm.route": _route, "llm.ledger": _ledger, "llm.chat": _answer,
    "llm.generate": _answer, "llm.drain": _one, "llm.halt": _one, "llm.resume": _one,
})  # fmt: skip
