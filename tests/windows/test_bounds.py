"""What is decided without Kafka: which state is over, and which lines are told."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("quixstreams")

from appliance.agent.windows_log import EVERY, Once
from appliance.agent.windows_sweep import is_over

FORM, OTHER = "0123456789", "abcdef0123"
FORMS = {"load": FORM, "gone": None, "load-2": OTHER}


@pytest.mark.parametrize(
    ("store", "over"),
    [
        (f"load-{FORM}_tumbling_window_10000", False),
        (f"load-{OTHER}_tumbling_window_10000", True),
        (f"gone-{FORM}_session_window_3000", True),
        (f"load-2-{OTHER}_hopping_window_10000_4000", False),
        (f"load-2-{FORM}_sliding_window_6000", True),
        (f"unknown-{FORM}_tumbling_window_10000", False),
        ("load", False),
        ("default", False),
    ],
)
def test_only_state_that_is_known_to_be_over_goes(store: str, over: bool) -> None:
    assert is_over(store, FORMS) is over


def test_a_line_is_told_once_in_a_while_with_the_number_of_those_held_back() -> None:
    now = [0.0]
    once = Once(lambda: now[0])

    def told(text: str) -> str | None:
        record = logging.LogRecord("x", logging.ERROR, "x", 1, text, None, None)
        return record.getMessage() if once.filter(record) else None

    assert told("port 4711 refused") == "port 4711 refused"
    assert told("port 4712 refused") is None
    assert told("something else") == "something else"
    now[0] += EVERY
    assert told("port 4713 refused") == "port 4713 refused (1 more like it)"
    assert told("port 4714 refused") is None
