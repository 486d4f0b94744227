"""Brings a request to the first endpoint that answers: fails over, hedges and retries until there is a first token."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from appliance.core.backoff import backoff
from appliance.core.llm.faults import AGAIN, ELSEWHERE, Fault, LlmError
from appliance.core.llm.gauge import Gauge
from appliance.core.llm.ledger import Leaving, Ledger
from appliance.core.llm.model import HOUSE, Attempt, Choice, Operation, Piece, Request, Usage
from appliance.core.llm.policy import ASSUMED_OUT, USUAL_BYTES_A_TOKEN
from appliance.core.ports import Clock
from appliance.errors import StoreError
from appliance.settingllm import LlmSettings

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds before the same endpoints are tried again; one that asks for a longer pause is not waited for."""
SPARE = 10.0
"""Second tries that are free, before they are a share of the requests."""
AT_ONCE = 2
"""Endpoints that work on one request, where one is slow."""
Settle = Callable[[Awaitable[None]], None]


class Budget:
    """Second tries as a share of the requests, so that a fault of all does not multiply the load."""

    def __init__(self, percent: float) -> None:
        self._share = percent / 100.0
        self._left = SPARE if percent else 0.0

    def earn(self) -> None:
        """A request came."""
        self._left = min(SPARE, self._left + self._share)

    def spend(self) -> bool:
        """Whether a second try is left."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


@dataclass
class Counts:
    """Since the start."""

    failovers: int = 0
    hedges: int = 0
    retries: int = 0


@dataclass
class Begun:
    """An answer that has begun.

    Attributes:
        first: Its first piece.
        pieces: The others.
        stack: Closes the connection, gives the turn back.
        number: Of its entry in the ledger; None where nothing left the house.
        sent: Monotonic time.
    """

    gauge: Gauge
    choice: Choice
    first: Piece
    pieces: AsyncGenerator[Piece]
    stack: AsyncExitStack
    number: int | None
    bytes: int
    sent: float
    first_token_s: float


@dataclass
class Journey:
    """One request on its way to a first token."""

    request: Request
    who: str
    choices: deque[Choice]
    tries: list[Attempt] = field(default_factory=list)
    again: list[Choice] = field(default_factory=list)
    """Endpoints that may do better the next time."""
    running: dict[asyncio.Task[Begun], Choice] = field(default_factory=dict)
    error: LlmError | None = None
    asked: int = 0
    rounds: int = 0


class Carrier:
    """Sends requests.

    Args:
        gauges: The endpoints by name.
        settings: As the operator has them.
        ledger: Written before anything leaves the house.
        clock: For times.
        settle: Sees a write through whose caller is gone.
    """

    def __init__(
        self, gauges: Mapping[str, Gauge], settings: LlmSettings, ledger: Ledger, clock: Clock, settle: Settle
    ) -> None:
        self._gauges = gauges
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._settle = settle
        self._budget = Budget(settings.retry_percent)
        self.counts = Counts()

    async def begin(self, request: Request, choices: tuple[Choice, ...], who: str) -> tuple[Begun, tuple[Attempt, ...]]:
        """The first answer that begins, and the tries before it. Raises LlmError, StoreError."""
        self._budget.earn()
        trip = Journey(request, who, deque(choices))
        try:
            while True:
                if not trip.running:
                    await self._next(trip)
                begun = await self._first(trip)
                if begun is not None:
                    return begun, tuple(trip.tries)
        finally:
            await self._abandon(trip)

    async def _next(self, trip: Journey) -> None:
        """Ask the next endpoint; where none is left, those again that may do better now. Raises LlmError."""
        most = 1 + self._settings.max_retries
        if trip.choices and trip.asked < most:
            self.counts.failovers += trip.asked > 0
            self._launch(trip)
            return
        error = trip.error or LlmError(Fault.nobody, "No endpoint is left.")
        after = error.retry_after or 0.0
        if not trip.again or trip.asked >= most or after > LONGEST_PAUSE or not self._budget.spend():
            raise _told(error, trip)
        trip.rounds += 1
        self.counts.retries += 1
        await asyncio.sleep(max(after, backoff(trip.rounds, FIRST_PAUSE, LONGEST_PAUSE)))
        trip.choices.extend(trip.again)
        trip.again.clear()
        self._launch(trip)

    def _launch(self, trip: Journey) -> None:
        choice = trip.choices.popleft()
        trip.asked += 1
        task = asyncio.create_task(self._open(choice, trip.request, trip.who), name=f"llm {choice.endpoint}")
        trip.running[task] = choice

    async def _first(self, trip: Journey) -> Begun | None:
        """The answer that begins first; None where another endpoint is to be asked. Raises LlmError, StoreError."""
        more = bool(trip.choices) and trip.asked < 1 + self._settings.max_retries
        done, _ = await asyncio.wait(trip.running, timeout=self._patience(trip, more), return_when=asyncio.FIRST_COMPLETED)
        if not done:
            await self._slow(trip, more)
            return None
        begun: Begun | None = None
        for task in done:
            choice = trip.running.pop(task)
            try:
                opened = task.result()
            except LlmError as error:
                self._failed(trip, choice, error)
            else:
                if begun is None:
                    begun = opened
                else:
                    await self.drop(opened)
        return begun

    def _patience(self, trip: Journey, more: bool) -> float:
        if not more or len(trip.running) >= AT_ONCE:
            return self._settings.last_timeout_seconds
        newest = list(trip.running.values())[-1]
        house = newest.place in HOUSE
        return self._settings.edge_timeout_seconds if house else self._settings.cloud_timeout_seconds

    async def _slow(self, trip: Journey, more: bool) -> None:
        hedge = trip.request.wishes.hedge if trip.request.wishes.hedge is not None else self._settings.hedge
        if more and hedge and len(trip.running) < AT_ONCE:
            self.counts.hedges += 1
            self._launch(trip)
            return
        for choice in list(trip.running.values()):
            told = f"{choice.endpoint} gave no first token in time."
            error = LlmError(
                Fault.slow, told, "see how busy it is; raise llm.edge_timeout_seconds or llm.last_timeout_seconds."
            )
            self._gauges[choice.endpoint].failed(error, choice.model)
            trip.tries.append(Attempt(choice.endpoint, error.message))
            trip.error = error
        await self._abandon(trip)

    def _failed(self, trip: Journey, choice: Choice, error: LlmError) -> None:
        trip.tries.append(Attempt(choice.endpoint, error.message))
        trip.error = error
        if error.fault not in ELSEWHERE:
            raise error
        if error.fault in AGAIN:
            trip.again.append(choice)

    async def _abandon(self, trip: Journey) -> None:
        """End what is still under way; an answer that began meanwhile is let go of."""
        tasks = list(trip.running)
        trip.running.clear()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Begun):
                await self.drop(result)

    async def drop(self, begun: Begun) -> None:
        """Let go of an answer that nobody wants any more."""
        self.settle(begun, "given up", Usage(), None)
        await begun.stack.aclose()

    def settle(self, begun: Begun, outcome: str, usage: Usage, cost: float | None) -> None:
        """Write down how it ended, where it left the house."""
        if begun.number is not None:
            self._settle(self._ledger.settle(begun.number, outcome, usage, cost))

    async def _open(self, choice: Choice, request: Request, who: str) -> Begun:
        gauge = self._gauges[choice.endpoint]
        number: int | None = None
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(gauge.slot())
                body = gauge.upstream.encode(request, choice.model)
                if choice.place not in HOUSE:
                    number = await self._reserve(self._leaving(choice, request, who, len(body)))
                sent = self._clock.monotonic()
                pieces = gauge.upstream.send(request, body, self._settings.stall_seconds)
                stack.push_async_callback(pieces.aclose)
                first = await _first_piece(pieces, gauge.name)
            except LlmError as error:
                gauge.failed(error, choice.model)
                self._ended(number, "failed")
                raise
            except BaseException:
                self._ended(number, "given up")
                raise
            waited = self._clock.monotonic() - sent
            gauge.first_token(waited)
            return Begun(gauge, choice, first, pieces, stack.pop_all(), number, len(body), sent, waited)

    async def _reserve(self, leaving: Leaving) -> int:
        try:
            return await self._ledger.reserve(leaving)
        except StoreError as error:
            told = f"The ledger cannot be written, so nothing leaves the house: {error.message}"
            raise LlmError(Fault.capped, told, error.next_step) from error

    def _ended(self, number: int | None, outcome: str) -> None:
        if number is not None:
            self._settle(self._ledger.settle(number, outcome, Usage(), None))

    def _leaving(self, choice: Choice, request: Request, who: str, size: int) -> Leaving:
        limit = request.options.get("num_predict")
        out = limit if isinstance(limit, int) and limit > 0 else ASSUMED_OUT
        return Leaving(
            who=who, endpoint=choice.endpoint, place=choice.place, model=choice.model, operation=request.operation,
            why=choice.why, bytes=size,
            tokens=size // USUAL_BYTES_A_TOKEN + (0 if request.operation is Operation.embed else out), cost=choice.cost or 0.0,
        )  # fmt: skip


async def _first_piece(pieces: AsyncGenerator[Piece], name: str) -> Piece:
    async for piece in pieces:
        if not piece.empty:
            return piece
    raise LlmError(Fault.garbled, f"{name} ended its answer before it began.")


def _told(error: LlmError, trip: Journey) -> LlmError:
    """The newest failure, and who failed before."""
    before = "; ".join(f"{each.endpoint}: {each.why}" for each in trip.tries[:-1])
    return LlmError(error.fault, f"{error.message} Before that: {before}" if before else error.message, error.next_step,
                    error.retry_after)  # fmt: skip
