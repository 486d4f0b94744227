"""OpenTelemetry's SDK behind our spans; loaded only where a collector is configured. The home of that library."""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from appliance.core.observe.spans import Facts, Span

KINDS = {kind.name.lower(): kind for kind in SpanKind}
LONGEST_TRACE = 900.0
"""Seconds after its beginning from which on nothing is a part of a trace any more."""
LIMITS = SpanLimits(max_attributes=32, max_events=16, max_links=4, max_attribute_length=500)
"""Of one span."""
NS = 1_000_000_000


class OtelSpan:
    """One span of the SDK (implements spans.Span).

    Args:
        tracer: Makes its parts.
        span: It.
        ends: See spans.Span.
    """

    __slots__ = ("_span", "_tracer", "ends", "sampled", "trace_id")

    def __init__(self, tracer: Tracer, span: SdkSpan, ends: float) -> None:
        self._tracer, self._span, self.ends = tracer, span, ends
        context = span.get_span_context()
        self.sampled = context.trace_flags.sampled
        self.trace_id = format(context.trace_id, "032x")

    @property
    def traceparent(self) -> str:
        """See spans.Span."""
        context = self._span.get_span_context()
        return f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, facts: Facts) -> None:
        """See spans.Span."""
        self._span.set_attributes(dict(facts))

    def fail(self, why: str) -> None:
        """See spans.Span."""
        self._span.set_attribute("error.type", why)
        self._span.set_status(Status(StatusCode.ERROR))

    def child(self, name: str, kind: str, facts: Facts, began: float | None = None) -> Span:
        """See spans.Span."""
        begin = None if began is None else int(began * NS)
        within = set_span_in_context(self._span, Context())
        made = self._tracer.start_span(name, within, KINDS[kind], dict(facts), start_time=begin)
        return OtelSpan(self._tracer, made, self.ends)

    def end(self) -> None:
        """See spans.Span."""
        self._span.end()


class _Ended(SpanProcessor):
    """Hands over what was recorded."""

    def __init__(self, take: Callable[[ReadableSpan], None]) -> None:
        self._take = take

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._take(span)


class Maker:
    """Begins traces.

    Args:
        resource: What this process is.
        ratio: Share of the traces that is recorded, 0…1; of those that others began, their word counts.
        take: Gets every span that ended; from any thread.
    """

    def __init__(self, resource: dict[str, str], ratio: float, take: Callable[[ReadableSpan], None]) -> None:
        sampler = ParentBased(TraceIdRatioBased(ratio))
        self._provider = TracerProvider(sampler, Resource(resource), shutdown_on_exit=False, span_limits=LIMITS)
        self._provider.add_span_processor(_Ended(take))
        self._tracer = self._provider.get_tracer("prime_spark")
        self._others = TraceContextTextMapPropagator()

    def begin(self, name: str, kind: str, facts: Facts, parent: str) -> Span:
        """See spans.Begin."""
        within = self._others.extract({"traceparent": parent}, Context()) if parent else Context()
        span = self._tracer.start_span(name, within, KINDS[kind], dict(facts))
        return OtelSpan(self._tracer, span, time.monotonic() + LONGEST_TRACE)


def encoded(spans: list[ReadableSpan]) -> bytes:
    """Spans as the body of an OTLP request (protobuf)."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return bytes(encode_spans(spans).SerializeToString())
