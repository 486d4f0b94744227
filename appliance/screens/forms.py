"""Forms: values typed into fields, which stay there until they were taken."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from appliance.core.printable import printable
from appliance.errors import ApplianceError
from appliance.screens.dialogs import Dialog
from appliance.screens.values import wrap
from appliance.screens.widgets.lines import Line, LineView

WIDEST = 76
"""Cells of the box."""
BESIDE = 4
"""Of them beside the text."""
KEYS: Line = ((" Enter ", "tab-on"), (" next field, last one: done   ", "text"), (" Esc ", "tab-on"), (" cancel", "text"))
BUSY: Line = ((" working …", "muted"),)

Submit = Callable[[dict[str, Any]], Awaitable[Any]]


class FieldError(ApplianceError):
    """What stands in one field cannot be taken.

    Args:
        field: Its name.
        message: Why.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Done:
    """A form was taken; what came of it."""

    result: Any


class Fields(Dialog):
    """Asks for values by a JSON Schema object; dismissed with `Done`. A password is asked for twice.

    Args:
        title: Of the box.
        schema: The parameters' schema.
        intro: Lines above the fields.
        submit: Is given the values once they can be read; while it refuses them, the form stays and says why. Without it,
            the values themselves are the result.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]
    AUTO_FOCUS = "Input"

    def __init__(self, title: str, schema: dict[str, Any], intro: Sequence[str] = (), submit: Submit | None = None) -> None:
        super().__init__()
        self._title = title
        properties = {name: plain(kind) for name, kind in schema.get("properties", {}).items()}
        self._properties: dict[str, dict[str, Any]] = with_repeats(properties)
        self._required = set(schema.get("required", []))
        self._intro = tuple(intro)
        self._submit = submit
        self._busy = False

    @property
    def _room(self) -> int:
        return max(10, min(WIDEST, self.app.size.width) - BESIDE)

    def compose(self) -> ComposeResult:
        """A label, an input and a place for what is wrong with it each."""
        with Vertical(id="box") as box:
            box.border_title = Text(printable(self._title))
            yield self._lines("text", [((line, "muted"),) for line in self._intro])
            for name, kind in self._properties.items():
                yield self._lines(None, [((name.replace("_", " "), "title"), (f"  {hint(kind)}", "muted"))])
                secret = kind.get("format") == "password"
                value = "" if secret else shown(kind.get("default", ""))
                yield Input(value, password=secret, id=f"field-{name}", select_on_focus=False)
                yield self._lines(f"fault-{name}", [()])
            yield self._lines("error", [])
            yield self._lines("keys", [KEYS])

    def _lines(self, name: str | None, lines: Sequence[Line]) -> LineView:
        view = LineView(id=name, classes="label")
        self._set(view, lines)
        return view

    def _set(self, view: LineView, lines: Sequence[Line]) -> None:
        parts = [part for line in lines for part in wrap(line, self._room)]
        view.set_lines(parts)
        view.styles.height = len(parts)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """To the next field; after the last one, done."""
        inputs = list(self.query(Input))
        index = inputs.index(event.input)
        if index + 1 < len(inputs):
            self.set_focus(inputs[index + 1])
        elif not self._busy:
            self._busy = True
            self.run_worker(self._take(), name="form", exit_on_error=False)

    async def _take(self) -> None:
        self._show("", [])
        try:
            values = self._values()
            self._set(self.query_one("#keys", LineView), [BUSY if self._submit else KEYS])
            result = values if self._submit is None else await self._submit(values)
        except FieldError as error:
            self._show(error.field, [((error.message, "bad"),)])
        except ApplianceError as error:
            self._show(field_of(error.message, self._properties), [((str(error), "bad"),)])
        else:
            self.dismiss(Done(result))
        finally:
            self._busy = False

    def _show(self, field: str, lines: Sequence[Line]) -> None:
        """Say what is wrong beside the field that it is about, or above the keys, and nothing elsewhere."""
        if not self.is_attached:
            return
        for name in self._properties:
            self._set(self.query_one(f"#fault-{name}", LineView), lines if name == field else [()])
        self._set(self.query_one("#error", LineView), [] if field else lines)
        self._set(self.query_one("#keys", LineView), [KEYS])
        if field:
            self.set_focus(self.query_one(f"#field-{field}", Input))

    def _values(self) -> dict[str, Any]:
        """What was typed. Raises FieldError."""
        read = {name: self._value(name, kind) for name, kind in self._properties.items()}
        for name, kind in self._properties.items():
            if (first := kind.get("repeats")) and (read[name] or "") != (read[first] or ""):
                raise FieldError(name, f"this is not the same {first.replace('_', ' ')}")
        return {name: value for name, value in read.items() if value is not None and "repeats" not in self._properties[name]}

    def _value(self, name: str, kind: Mapping[str, Any]) -> Any:
        text = self.query_one(f"#field-{name}", Input).value
        if not text and name not in self._required:
            return None
        if not text:
            raise FieldError(name, f"{name.replace('_', ' ')} must be given")
        return parse(name, kind, text)


def with_repeats(properties: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fields, each password followed by one for the same again: nobody sees what they type there."""
    found: dict[str, dict[str, Any]] = {}
    for name, kind in properties.items():
        found[name] = kind
        if kind.get("format") == "password":
            again = {"type": "string", "format": "password", "description": f"the same {name} again", "repeats": name}
            found["again" if name == "password" else f"{name}_again"] = again
    return found


def field_of(message: str, properties: Mapping[str, Any]) -> str:
    """The field that an error is about; empty where that cannot be told."""
    for pattern in (r"(?:^|[:;] ){}: ", r"\b{}\b"):
        for name in properties:
            words = "|".join({re.escape(name), re.escape(name.replace("_", " "))})
            if re.search(pattern.replace("{}", f"(?:{words})"), message, re.IGNORECASE):
                return name
    return ""


def plain(kind: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without its "or null"."""
    merged = dict(kind)
    for choice in kind.get("anyOf", []):
        if choice.get("type") != "null":
            merged |= choice
    return merged


def hint(kind: Mapping[str, Any]) -> str:
    """What may be typed."""
    if "enum" in kind:
        return " | ".join(str(value) for value in kind["enum"])
    return str(kind.get("description", ""))


def shown(value: Any) -> str:
    """A known value as typed text."""
    if value in (None, []):
        return ""
    return printable(", ".join(str(item) for item in value) if isinstance(value, list) else str(value))


TRUE, FALSE = frozenset({"yes", "true", "1", "on", "y"}), frozenset({"no", "false", "0", "off", "n"})


def parse(name: str, kind: Mapping[str, Any], text: str) -> Any:
    """Typed text as the value that the schema asks for. Raises FieldError."""
    if "enum" in kind and text not in kind["enum"]:
        raise FieldError(name, f"one of {hint(kind)}")
    if kind.get("type") == "array":
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind.get("type") == "boolean":
        if text.lower() not in TRUE | FALSE:
            raise FieldError(name, f"yes or no, not {text!r}")
        return text.lower() in TRUE
    try:
        value = int(text) if kind.get("type") == "integer" else float(text) if kind.get("type") == "number" else text
    except ValueError:
        raise FieldError(name, f"a number is needed, not {text!r}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(name, f"a number is needed, not {text!r}")
    return value
