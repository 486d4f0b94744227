"""What the gateway needs of an endpoint, whatever it speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Protocol

from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import ModelInfo, Piece, Request

PROBE = 5.0
"""Seconds that a probe may take."""


class Upstream(Protocol):
    """One endpoint."""

    async def probe(self) -> tuple[str, tuple[ModelInfo, ...] | None]:
        """(version, its models; None where it does not tell). Raises LlmError."""

    def encode(self, wanted: Request, model: str) -> bytes:
        """The request as it is sent. Raises LlmError where it cannot be said in this protocol."""

    def send(self, wanted: Request, body: bytes, stall: float) -> AsyncGenerator[list[Piece]]:
        """Send what `encode` made; the pieces of the answer as they come together, none of them empty, the last with `finish`.

        Raises LlmError; closing it ends it.
        """

    async def close(self) -> None:
        """Let go of it."""


def pieces_of(lines: Iterable[bytes], read: Callable[[bytes], Piece | None]) -> tuple[list[Piece], LlmError | None]:
    """What some lines say, up to the last piece of an answer or to the first line that is wrong; and what is wrong."""
    found: list[Piece] = []
    for line in lines:
        try:
            piece = read(line)
        except LlmError as error:
            return found, error
        if piece is not None and not piece.empty:
            found.append(piece)
            if piece.finish:
                break
    return found, None


def lacks_route(error: LlmError) -> bool:
    """The server answers, and has no such address."""
    return error.answered in {400, 404, 405, 501}


def some(value: Any, kind: type | tuple[type, ...]) -> Any:
    """The value where it has that type, else None: an endpoint's fields are not to be believed."""
    return value if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool) else None


def table(value: Any, url: str) -> dict[str, Any]:
    """A JSON object. Raises LlmError."""
    if not isinstance(value, dict):
        raise LlmError(Fault.garbled, f"{url} sent {type(value).__name__} where an object belongs.")
    return value
