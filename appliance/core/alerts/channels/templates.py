"""The channel http: a request by templates, in a sandbox, each value escaped for where it stands."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import StrictUndefined, Template, TemplateError, Undefined, meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from appliance.core.alerts.channels import rendering
from appliance.core.alerts.channels.model import DeliveryError, Notice
from appliance.core.alerts.channels.posting import Poster
from appliance.core.alerts.channels.rendering import one_line
from appliance.errors import ConfigError
from appliance.settingalerts import AlertChannel

LARGEST = 262_144
"""Characters that a template may make."""
FILTERS = frozenset({
    "count", "d", "default", "first", "join", "last", "length", "lower", "replace", "title", "tojson", "trim", "truncate",
    "upper", "urlencode",
})  # fmt: skip
KINDS = {"json": "application/json", "form": "application/x-www-form-urlencoded", "text": "text/plain; charset=utf-8"}
NAMES = frozenset({
    "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels", "commonAnnotations",
    "externalURL", "alerts", "title", "text", "severity", "delivery_id", "external_url", "secret",
})  # fmt: skip
"""What templates see."""
OPEN = frozenset({"get", "items", "keys", "values"})
"""What may be called, of tables alone."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Templates that see values and can do nothing: no methods but those of reading a table, no arithmetic that grows."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, escape: Callable[[str], str]) -> None:
        def finalize(value: Any) -> Any:
            if isinstance(value, Markup | Undefined):
                return value
            return Markup(escape(value if isinstance(value, str) else json.dumps(value, default=str)))  # noqa: S704 escaped

        super().__init__(undefined=StrictUndefined, finalize=finalize)
        self.globals.clear()
        self.filters = {name: found for name, found in self.filters.items() if name in FILTERS}
        self.filters["tojson"] = _to_json

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Nothing of Python's own but reading tables, and where a loop is."""
        return (isinstance(obj, dict) and attr in OPEN) or (isinstance(obj, LoopContext) and not attr.startswith("_"))

    def wrap_str_format(self, value: Any) -> None:
        """Texts have no methods, that of formatting neither."""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Texts are not multiplied."""
        raise SecurityError(f"the operator {operator} is not for templates")


def _to_json(value: Any) -> Markup:
    return Markup(json.dumps(value, ensure_ascii=False, default=str))  # noqa: S704 JSON inside JSON


def in_json(text: str) -> str:
    """Text as it stands between the quotes of a JSON string."""
    return json.dumps(text)[1:-1]


def in_address(text: str) -> str:
    """Text as it stands in a part of an address."""
    return quote(text, safe=":")


def in_header(text: str) -> str:
    """Text as it stands in a header: one line of ASCII."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def in_form(text: str) -> str:
    """Text as it stands in a field of a form."""
    return quote(text, safe="")


ESCAPES: Mapping[str, Callable[[str], str]] = {"json": in_json, "form": in_form, "text": str}


class Templated:
    """Sends a request as the operator wrote it (implements posting.Adapter).

    Args:
        wanted: The channel's settings.
        secret: What templates call `secret`.
        external_url: What they call `external_url`.

    Raises:
        ConfigError: A template cannot be read.
    """

    def __init__(self, wanted: AlertChannel, secret: str, external_url: str) -> None:
        self._wanted, self._secret, self._external_url = wanted, secret, external_url
        self._url = compiled("url", wanted.url, in_address)
        self._headers = {name: compiled(f"headers.{name}", text, in_header) for name, text in wanted.headers.items()}
        self._body = compiled("body", wanted.body, ESCAPES[wanted.body_kind])
        self._poster = Poster(wanted.timeout_seconds, wanted.ca_file)
        self.hidden: tuple[str, ...] = (secret, in_address(secret), in_json(secret))

    async def send(self, notice: Notice, delivery_id: str, wall: float) -> str:
        """Deliver a message; returns what the server answered. Raises DeliveryError."""
        seen = {
            **rendering.payload(notice, self._external_url),
            "title": rendering.title(notice), "text": rendering.text(notice), "severity": notice.severity.value,
            "delivery_id": delivery_id, "external_url": self._external_url, "secret": self._secret,
        }  # fmt: skip
        url = filled("url", self._url, seen)
        headers = {"content-type": KINDS[self._wanted.body_kind], "x-delivery-id": delivery_id}
        headers.update({name.lower(): filled(f"headers.{name}", each, seen) for name, each in self._headers.items()})
        body = filled("body", self._body, seen)
        if self._wanted.body_kind == "json":
            _is_json(body)
        return await self._poster.send(self._wanted.method, url, headers, body.encode())

    async def close(self) -> None:
        """Let go of the client."""
        await self._poster.close()


def compiled(where: str, text: str, escape: Callable[[str], str]) -> Template:
    """A template. Raises ConfigError where it cannot be read."""
    try:
        return Sandbox(escape).from_string(text)
    except TemplateError as error:
        raise ConfigError(f"the template {where} cannot be read: {one_line(str(error), 200)}", "mend it.") from None


def check(where: str, text: str) -> None:
    """Read a template as it will be read, and look whether it names what there is. Raises ConfigError."""
    compiled(where, text, str)
    if unknown := sorted(meta.find_undeclared_variables(Sandbox(str).parse(text)) - NAMES):
        near = difflib.get_close_matches(unknown[0], NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(NAMES))}."
        raise ConfigError(f"the template {where} names {unknown[0]!r}, which is not there", hint)


def filled(where: str, template: Template, seen: Mapping[str, Any]) -> str:
    """What a template makes. Raises DeliveryError."""
    made, size = [], 0
    try:
        for part in template.generate(**seen):
            made.append(part)
            size += len(part)
            if size > LARGEST:
                raise DeliveryError(f"the template {where} makes more than {LARGEST} characters", "shorten it.")
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        told = f"the template {where} fails: {type(error).__name__}: {one_line(str(error), 200)}"
        raise DeliveryError(told, "mend it; docs/alerts.md says what templates see.") from None
    return "".join(made)


def _is_json(body: str) -> None:
    try:
        msgspec.json.decode(body.encode())
    except msgspec.DecodeError as error:
        told = f"the template body makes no JSON: {error}"
        how = 'mend it: texts stand between quotes ("{{ title }}"), tables as {{ alerts | tojson }}.'
        raise DeliveryError(told, how) from None
