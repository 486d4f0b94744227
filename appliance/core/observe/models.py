"""Requests to language models, counted and timed as they end. Neither prompts nor answers are looked at."""

from __future__ import annotations

import time

from appliance.core.llm.model import Answer, Routed
from appliance.core.observe.meter import LONG, Meter
from appliance.core.observe.spans import Value, told

NOBODY = "none"
"""The endpoint of a request that none answered."""


class LlmFigures:
    """Told of the end of every request.

    Args:
        meter: Takes the figures.
    """

    def __init__(self, meter: Meter) -> None:
        where = ("endpoint", "place")
        words = "Requests to language models by how they ended"
        self._requests = meter.counter("edge_llm_requests_total", words, *where, "operation", "outcome")
        self._tokens = meter.counter("edge_llm_tokens_total", "Tokens, as the endpoints count them", *where, "direction")
        words = "Time until an answer was complete"
        self._whole = meter.times("edge_llm_request_duration_seconds", words, *where, "operation", limits=LONG)
        self._first = meter.times("edge_llm_first_token_seconds", "Time until the first token", *where, limits=LONG)

    def __call__(self, routed: Routed, answer: Answer | None) -> None:
        """One ended."""
        endpoint, place = routed.endpoint or NOBODY, routed.place.value if routed.place else NOBODY
        self._requests.add(endpoint, place, routed.operation.value, routed.outcome)
        trace = self._told(routed, answer)
        if answer is None or answer.cached:
            return
        tokens = (("in", answer.usage.tokens_in), ("out", answer.usage.tokens_out))
        for direction, count in tokens:
            if count:
                self._tokens.add(endpoint, place, direction, number=count)
        if routed.outcome == "answered":
            self._whole.observe(answer.latency_ms / 1000, endpoint, place, routed.operation.value, trace_id=trace)
            if answer.first_token_ms is not None:
                self._first.observe(answer.first_token_ms / 1000, endpoint, place, trace_id=trace)

    def _told(self, routed: Routed, answer: Answer | None) -> str:
        """As a part of the present trace; returns its id."""
        took = answer.latency_ms / 1000 if answer is not None else 0.0
        facts: dict[str, Value] = {
            "gen_ai.operation.name": routed.operation.value, "gen_ai.request.model": routed.asked,
            "prime_spark.outcome": routed.outcome, "prime_spark.tries": routed.tries,
        }  # fmt: skip
        if answer is not None:
            facts |= {
                "gen_ai.response.model": answer.model, "prime_spark.endpoint": answer.endpoint,
                "prime_spark.place": answer.place.value, "prime_spark.cached": answer.cached,
            }  # fmt: skip
            counts = {"input": answer.usage.tokens_in, "output": answer.usage.tokens_out}
            facts |= {f"gen_ai.usage.{name}_tokens": count for name, count in counts.items() if count is not None}
        failed = routed.outcome if routed.outcome in {"failed", "given up"} else ""
        return told(f"llm {routed.operation.value}", time.time() - took, facts, failed)
