"""An answer on its way to whoever asked: its pieces, and in the end what is known of it as a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from appliance.core.llm.carry import Begun, Carrier
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import HOUSE, Answer, Attempt, Choice, Decision, Piece, Usage
from appliance.core.llm.policy import cost
from appliance.core.ports import Clock

Ended = Callable[[str, Answer], None]
"""Told of ("answered", "failed" or "given up", what there is of the answer)."""


class Stream(Protocol):
    """An answer that has begun. Whoever has it must exhaust or close it."""

    choice: Choice
    decision: Decision
    cached: bool
    answer: Answer | None
    """None until it has ended well."""

    def pieces(self) -> AsyncGenerator[Piece]:
        """All pieces, once. Raises LlmError where it breaks off."""

    def batches(self) -> AsyncGenerator[list[Piece]]:
        """The same, those together that came together: for whoever sends them on."""

    async def aclose(self) -> None:
        """End it, here and at the endpoint."""


async def whole(stream: Stream) -> Answer:
    """Wait for all of it. Raises LlmError."""
    async with aclosing(stream.batches()) as batches:
        async for _ in batches:
            pass
    if stream.answer is None:
        raise LlmError(Fault.cut, "The answer was given up.")
    return stream.answer


async def singly(batches: AsyncGenerator[list[Piece]]) -> AsyncGenerator[Piece]:
    """One piece after the other."""
    async with aclosing(batches):
        async for batch in batches:
            for piece in batch:
                yield piece


class Replay:
    """A kept answer (implements Stream)."""

    cached = True

    def __init__(self, answer: Answer, choice: Choice, decision: Decision) -> None:
        self.answer: Answer | None = answer
        self.choice, self.decision = choice, decision
        self._kept = answer

    def pieces(self) -> AsyncGenerator[Piece]:
        """See Stream."""
        return singly(self.batches())

    async def batches(self) -> AsyncGenerator[list[Piece]]:
        """See Stream."""
        kept = self._kept
        yield [Piece(kept.text, kept.thinking, kept.tool_calls, kept.embeddings, kept.finish, kept.usage)]

    async def aclose(self) -> None:
        """See Stream."""


class Live:
    """The answer of an endpoint (implements Stream).

    Args:
        begun: It.
        decision: Why this one was asked.
        tries: Those before it.
        carrier: Writes its end down.
        clock: For times.
        began: Monotonic time when the request came.
        most: Bytes of the answer.
        ended: Told of its end, once.
    """

    cached = False

    def __init__(
        self, begun: Begun, decision: Decision, tries: tuple[Attempt, ...], carrier: Carrier, clock: Clock, began: float,
        most: int, ended: Ended,
    ) -> None:  # fmt: skip
        self.choice, self.decision = begun.choice, decision
        self.answer: Answer | None = None
        self._begun, self._tries, self._carrier, self._clock = begun, tries, carrier, clock
        self._began, self._most, self._ended = began, most, ended
        self._first_ms = 1000 * (clock.monotonic() - began)
        self._first_at = clock.monotonic()
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._rest = Piece()
        self._calls: list[Piece] = []
        self._size = 0
        self._over = False

    def pieces(self) -> AsyncGenerator[Piece]:
        """See Stream."""
        return singly(self.batches())

    async def batches(self) -> AsyncGenerator[list[Piece]]:
        """See Stream."""
        outcome = "given up"
        try:
            batch: list[Piece] | None = self._begun.first
            while batch is not None:
                self._keep(batch)
                if batch[-1].finish:  # before the caller has it: nobody may look for more after the last one
                    outcome = "answered"
                    await self._end(outcome)
                    yield batch
                    return
                yield batch
                batch = await anext(self._begun.pieces, None)
            raise LlmError(Fault.cut, f"{self.choice.endpoint} ended its answer before the end.")
        except LlmError as error:
            outcome = "failed"
            self._begun.gauge.failed(error, self.choice.model)
            raise
        finally:
            await self._end(outcome)

    async def aclose(self) -> None:
        """See Stream."""
        await self._end("given up")

    def _keep(self, batch: list[Piece]) -> None:
        for piece in batch:
            self._text.append(piece.text)
            if piece.thinking:
                self._thinking.append(piece.thinking)
            if piece.tool_calls or piece.embeddings:
                self._calls.append(piece)
            if piece.finish:
                self._rest = piece
            self._size += len(piece.text) + len(piece.thinking) + 8 * sum(len(each) for each in piece.embeddings)
        if self._size > self._most:
            told = f"The answer has more than {self._most} bytes."
            raise LlmError(Fault.too_large, told, "bound it by num_predict (max_tokens), or raise llm.answer_mib.")

    async def _end(self, outcome: str) -> None:
        if self._over:
            return
        self._over = True
        made = self._made()
        if outcome == "answered":
            self._begun.gauge.answered(made.usage, self._clock.monotonic() - self._first_at)
            self.answer = made
        self._carrier.settle(self._begun, outcome, made.usage, made.cost)
        self._ended(outcome, made)
        await self._begun.stack.aclose()

    def _made(self) -> Answer:
        begun, usage = self._begun, self._rest.usage or Usage()
        return Answer(
            text="".join(self._text), model=self.choice.model, endpoint=self.choice.endpoint, place=self.choice.place,
            why=reason(self.choice, self.decision, self._tries), thinking="".join(self._thinking),
            tool_calls=tuple(call for piece in self._calls for call in piece.tool_calls),
            embeddings=tuple(each for piece in self._calls for each in piece.embeddings), finish=self._rest.finish,
            usage=usage, cost=cost(begun.gauge.view(), usage.tokens_in, usage.tokens_out),
            first_token_ms=round(self._first_ms, 1), latency_ms=round(1000 * (self._clock.monotonic() - self._began), 1),
            left_house_bytes=0 if self.choice.place in HOUSE else begun.bytes, attempts=self._tries,
        )  # fmt: skip


def reason(choice: Choice, decision: Decision, tries: tuple[Attempt, ...]) -> str:
    """Why the answer comes from there, on one line."""
    before = "".join(f"; {each.endpoint} failed: {each.why}" for each in tries)
    return f"{choice.why} ({decision.because}){before}"
