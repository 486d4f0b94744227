"""Spans: what was done, within what, and how long it took. Whoever works says so here, and knows no tracing library.

The present span is a context variable: it follows awaits, tasks and asyncio.to_thread by itself. Where nothing is traced
there is none, and a span costs one look at that variable.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol

Value = str | int | float | bool
Facts = Mapping[str, Value]
"""Attributes. Never a secret, a prompt, an answer, or a value of a statement."""
LITERALS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"(?=\s*[,)=]|$)|\b\d+(?:\.\d+)?\b")
LONGEST = 500
"""Characters of a statement."""


class Span(Protocol):
    """One piece of work."""

    sampled: bool
    """Whether it is recorded; its parent was asked once, for the whole trace."""
    trace_id: str
    """32 hexadecimal digits."""
    ends: float
    """Monotonic instant from which on nothing is a part of its trace any more: work that it started may go on for days."""

    @property
    def traceparent(self) -> str:
        """For others that go on with this trace (W3C Trace Context)."""

    def set(self, facts: Facts) -> None:
        """Say more of it."""

    def fail(self, why: str) -> None:
        """It went wrong; `why` is the kind of error, never its text."""

    def child(self, name: str, kind: str, facts: Facts, began: float | None = None) -> Span:
        """A part of it; `began` as wall clock where it began earlier than now."""

    def end(self) -> None:
        """It is over."""


class NoSpan:
    """Where nothing is traced (implements Span)."""

    sampled = False
    trace_id = traceparent = ""
    ends = 0.0

    def set(self, facts: Facts) -> None:
        """See Span."""

    def fail(self, why: str) -> None:
        """See Span."""

    def child(self, name: str, kind: str, facts: Facts, began: float | None = None) -> Span:
        """See Span."""
        return self

    def end(self) -> None:
        """See Span."""


NO_SPAN = NoSpan()
CURRENT: ContextVar[Span | None] = ContextVar("prime_spark_span", default=None)
"""The present span; None where nothing is traced."""


class Untraced:
    """A block that no span is made for."""

    def __enter__(self) -> Span:
        return NO_SPAN

    def __exit__(self, *_: object) -> None:
        """Nothing is to be ended."""


UNTRACED = Untraced()


class Traced:
    """A block with a span of its own.

    Args:
        span: Ends with the block.
    """

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Span:
        self._token = CURRENT.set(self._span)
        return self._span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)
        if kind is not None:
            self._span.fail(kind.__name__)
        self._span.end()


NOTHING: Facts = {}
Begin = Callable[[str, str, Facts, str], Span]
"""(name, kind, attributes, traceparent of whoever asked or "") → the first span of this process."""


def current() -> Span | None:
    """The present span; None where nothing is traced, or its trace is over."""
    present = CURRENT.get()
    return None if present is None or time.monotonic() > present.ends else present


def child(name: str, facts: Facts = NOTHING, kind: str = "internal") -> Traced | Untraced:
    """A block that is a part of the present span, where there is one.

    Args:
        name: Of few different ones: what varies goes into the attributes.
        facts: Attributes.
        kind: internal, server, client, producer or consumer.
    """
    present = current()
    return UNTRACED if present is None or not present.sampled else Traced(present.child(name, kind, facts))


def told(name: str, began: float, facts: Facts, failed: str = "", kind: str = "client") -> str:
    """A part of the present span that is over; returns the trace's id, or "" where nothing is traced.

    Args:
        name: Of it.
        began: Wall clock.
        facts: Attributes.
        failed: The kind of error, where it went wrong.
        kind: As in `child`.
    """
    present = current()
    if present is None or not present.sampled:
        return ""
    made = present.child(name, kind, facts, began)
    if failed:
        made.fail(failed)
    made.end()
    return present.trace_id


def detach() -> None:
    """What this task does from now on is no part of what began it."""
    CURRENT.set(None)


def traceparent() -> str:
    """Of the present span, for others that go on with it; "" where nothing is traced."""
    present = current()
    return present.traceparent if present is not None else ""


def trace_id() -> str:
    """Of the present trace, where it is recorded; else ""."""
    present = current()
    return present.trace_id if present is not None and present.sampled else ""


class Spans:
    """Where traces begin. Off until `switch`."""

    def __init__(self) -> None:
        self._begin: Begin | None = None

    @property
    def on(self) -> bool:
        """Whether anything is traced."""
        return self._begin is not None

    def switch(self, begin: Begin | None) -> None:
        """Trace from now on; None: no more."""
        self._begin = begin

    def span(self, name: str, facts: Facts = NOTHING, kind: str = "internal", parent: str = "") -> Traced | Untraced:
        """A block that is a part of the present span, or where there is none, the first of a trace.

        Args:
            name: See `child`.
            facts: Attributes.
            kind: See `child`.
            parent: traceparent of whoever asked for it; one that is malformed counts for nothing.
        """
        if self._begin is None:
            return UNTRACED
        if current() is not None:
            return child(name, facts, kind)
        return Traced(self._begin(name, kind, facts, parent))


def statement(sql: str) -> dict[str, Any]:
    """A statement as attributes, with every value in it blotted out."""
    text = " ".join(LITERALS.sub("?", sql[: 4 * LONGEST]).split())[:LONGEST]
    return {"db.query.text": text, "db.operation.name": text.partition(" ")[0].upper()[:32]}
