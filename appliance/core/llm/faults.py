"""What can go wrong with an answer, and which of it is worth another try elsewhere."""

from __future__ import annotations

from enum import StrEnum

from appliance.errors import ApplianceError


class Fault(StrEnum):
    """Kinds of failures."""

    dead = "dead"
    """No connection, or it broke before an answer began."""
    slow = "slow"
    """No first token in time."""
    busy = "busy"
    """429, or 503 with a time to come back."""
    broken = "broken"
    """5xx."""
    garbled = "garbled"
    """What came is not what the protocol has."""
    cut = "cut"
    """The answer broke off, or stood still, after it had begun."""
    refused = "refused"
    """401 or 403: our key is wrong; 402: nobody paid; or it is not where it should be."""
    no_model = "no_model"
    too_long = "too_long"
    """The prompt does not fit into the model's context."""
    bad = "bad"
    """The request itself is wrong: it would be refused everywhere."""
    unable = "unable"
    """The model cannot do what was asked: tools, pictures."""
    too_large = "too_large"
    """The request or the answer has more bytes than the settings allow."""
    nobody = "nobody"
    """No endpoint may or can answer."""
    full = "full"
    """Too many wait."""
    capped = "capped"
    """Nothing more may leave the house today."""
    absent = "absent"
    """What it needs is not installed on this machine."""
    off = "off"
    """Meanwhile an operator switched it off, or the power does."""


AGAIN = frozenset({Fault.dead, Fault.slow, Fault.busy, Fault.broken, Fault.garbled})
"""The same endpoint may do better the next time."""
ELSEWHERE = AGAIN | {
    Fault.refused,
    Fault.no_model,
    Fault.too_long,
    Fault.unable,
    Fault.full,
    Fault.capped,
    Fault.off,
    Fault.absent,
}
"""Another endpoint may do it."""
BLAMED = AGAIN | {Fault.cut, Fault.refused}
"""Says something about the endpoint, not about the request."""
STATUS = {
    Fault.dead: 502, Fault.slow: 504, Fault.busy: 429, Fault.broken: 502, Fault.garbled: 502, Fault.cut: 502,
    Fault.refused: 502, Fault.no_model: 404, Fault.too_long: 400, Fault.bad: 400, Fault.too_large: 413, Fault.nobody: 503,
    Fault.full: 429, Fault.capped: 429, Fault.unable: 400, Fault.off: 503, Fault.absent: 503,
}  # fmt: skip
"""HTTP status for the caller."""


class LanguageModelError(ApplianceError):
    """No answer of a language model, or not the whole of one."""

    code = "llm"


class LlmError(LanguageModelError):
    """The same, as the gateway knows it.

    Args:
        fault: Which kind.
        retry_after: Seconds after which another try is of use; None where nobody told.
        sent: Something of the request may have reached the endpoint.
        status: HTTP status by which the endpoint refused; None where it did not.
    """

    def __init__(
        self, fault: Fault, message: str, next_step: str = "", retry_after: float | None = None, *, sent: bool = True,
        status: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, next_step)
        self.fault = fault
        self.retry_after = retry_after
        self.sent = sent
        self.answered = status

    @property
    def status(self) -> int:
        """HTTP status for the caller."""
        return STATUS[self.fault]
