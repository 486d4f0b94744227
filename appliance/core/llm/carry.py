"""Brings a request to the first endpoint that answers: fails over, hedges and retries until there is a first token."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from appliance.core.backoff import backoff
from appliance.core.llm.faults import AGAIN, ELSEWHERE, Fault, LlmError
from appliance.core.llm.gauge import Gauge
from appliance.core.llm.ledger import Leaving, Ledger
from appliance.core.llm.model import HOUSE, Attempt, Choice, Operation, Piece, Request, Usage
from appliance.core.llm.policy import ASSUMED_OUT, USUAL_BYTES_A_TOKEN, length_asked
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
Barred = Callable[[Choice, Request], str]


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
        first: Its first pieces.
        pieces: The others, as they come together.
        stack: Closes the connection, gives the turn back.
        number: Of its entry in the ledger; None where nothing left the house.
        sent: Monotonic time.
    """

    gauge: Gauge
    choice: Choice
    first: list[Piece]
    pieces: AsyncGenerator[list[Piece]]
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
    late: list[Choice] = field(default_factory=list)
    """Endpoints that were left because they were slow, while another one could be asked."""
    patient: set[str] = field(default_factory=set)
    """Endpoints that are now given all the time there is."""
    sent: set[str] = field(default_factory=set)
    """Endpoints that had a turn for it."""
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
        barred: Why an endpoint must not be asked any more that was chosen a while ago; empty where it may.
    """

    def __init__(
        self, gauges: Mapping[str, Gauge], settings: LlmSettings, ledger: Ledger, clock: Clock, settle: Settle, barred: Barred
    ) -> None:
        self._gauges = gauges
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._settle = settle
        self._barred = barred
        self._cleaning: set[asyncio.Task[None]] = set()
        self._budget = Budget(settings.retry_percent)
        self.counts = Counts()

    async def begin(self, request: Request, choices: tuple[Choice, ...], who: str) -> tuple[Begun, tuple[Attempt, ...]]:
        """The first answer that begins, and the tries before it. Raises LlmError, StoreError."""
        self._budget.earn()
        trip = Journey(request, who, deque(choices))
        begun: Begun | None = None
        try:
            while begun is None:
                if not trip.running:
                    await self._next(trip)
                begun = await self._first(trip)
            if trip.running:
                await self._abandon(trip)
        except BaseException:
            if begun is not None:
                self._clean(self.drop(begun))
            await self._abandon(trip)
            raise
        return begun, tuple(trip.tries)

    async def _next(self, trip: Journey) -> None:
        """Ask the next endpoint; where none is left, those again that may do better now. Raises LlmError."""
        left = 1 + self._settings.max_retries - trip.asked
        if trip.choices and left > 0:
            self.counts.failovers += trip.asked > 0
            self._launch(trip)
            return
        error = trip.error or LlmError(Fault.nobody, "No endpoint is left.")
        after = error.retry_after or 0.0
        again = trip.again if after <= LONGEST_PAUSE else []
        chosen = [*again, *trip.late][-left:] if left > 0 else []
        failed = [each for each in chosen if each not in trip.late]
        if not chosen or (failed and not self._budget.spend()):
            raise _told(error, trip)
        trip.rounds += 1
        self.counts.retries += 1
        if failed:
            await asyncio.sleep(max(after, backoff(trip.rounds, FIRST_PAUSE, LONGEST_PAUSE)))
        trip.choices.extend(chosen)
        trip.patient.update(each.endpoint for each in trip.late)
        trip.again.clear()
        trip.late.clear()
        self._launch(trip)

    def _launch(self, trip: Journey) -> None:
        choice = trip.choices.popleft()
        trip.asked += 1
        trip.sent.discard(choice.endpoint)
        task = asyncio.create_task(self._open(choice, trip), name=f"llm {choice.endpoint}")
        trip.running[task] = choice

    async def _first(self, trip: Journey) -> Begun | None:
        """The answer that begins first; None where another endpoint is to be asked. Raises LlmError, StoreError."""
        more = bool(trip.choices) and trip.asked < 1 + self._settings.max_retries
        done, _ = await asyncio.wait(trip.running, timeout=self._patience(trip, more), return_when=asyncio.FIRST_COMPLETED)
        if not done:
            await self._slow(trip, more)
            return None
        begun = [task.result() for task in done if task.exception() is None]
        fatal: BaseException | None = None
        for task in done:
            choice, error = trip.running.pop(task), task.exception()
            if isinstance(error, LlmError):
                fatal = self._failed(trip, choice, error) or fatal
            elif error is not None:
                log.error("%s failed in an unexpected way", choice.endpoint, exc_info=error)
                fatal = error
        for each in begun[1:]:
            self._clean(self.drop(each))
        if fatal is not None and not begun:
            raise fatal
        return begun[0] if begun else None

    def _patience(self, trip: Journey, more: bool) -> float:
        newest = list(trip.running.values())[-1]
        if not more or len(trip.running) >= AT_ONCE or newest.endpoint in trip.patient:
            return self._settings.last_timeout_seconds
        house = newest.place in HOUSE
        return self._settings.edge_timeout_seconds if house else self._settings.cloud_timeout_seconds

    async def _slow(self, trip: Journey, more: bool) -> None:
        hedge = trip.request.wishes.hedge if trip.request.wishes.hedge is not None else self._settings.hedge
        alone = len(trip.running) < AT_ONCE
        if more and hedge and alone:
            self.counts.hedges += 1
            self._launch(trip)
            return
        for choice in list(trip.running.values()):
            gauge = self._gauges[choice.endpoint]
            error = _late(choice, gauge, waits=choice.endpoint not in trip.sent)
            gauge.failed(error, choice.model)
            trip.tries.append(Attempt(choice.endpoint, error.message))
            trip.error = error
            if more and alone and choice.endpoint not in trip.patient:
                trip.late.append(choice)
        await self._abandon(trip)

    def _failed(self, trip: Journey, choice: Choice, error: LlmError) -> LlmError | None:
        """Take a failure into account; returns it where no other endpoint would do better."""
        trip.tries.append(Attempt(choice.endpoint, error.message))
        trip.error = error
        if error.fault in AGAIN:
            trip.again.append(choice)
        return error if error.fault not in ELSEWHERE else None

    async def _abandon(self, trip: Journey) -> None:
        """End what is still under way; an answer that began meanwhile is let go of, whatever becomes of the caller."""
        tasks = list(trip.running)
        trip.running.clear()
        if tasks:
            await asyncio.shield(self._clean(self._end(tasks)))

    async def _end(self, tasks: Iterable[asyncio.Task[Begun]]) -> None:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Begun):
                await self.drop(result)

    def _clean(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="llm cleaning")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        return task

    async def drop(self, begun: Begun) -> None:
        """Let go of an answer that nobody wants any more."""
        self.settle(begun, "given up", Usage(), None)
        await begun.stack.aclose()

    def settle(self, begun: Begun, outcome: str, usage: Usage, cost: float | None) -> None:
        """Write down how it ended, where it left the house."""
        if begun.number is not None:
            self._settle(self._ledger.settle(begun.number, outcome, usage, cost))

    async def _open(self, choice: Choice, trip: Journey) -> Begun:
        gauge, request = self._gauges[choice.endpoint], trip.request
        number: int | None = None
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(gauge.slot())
                if reason := self._barred(choice, request):
                    raise LlmError(Fault.off, f"{choice.endpoint} was not asked: {reason}.", sent=False)
                trip.sent.add(choice.endpoint)
                body = gauge.upstream.encode(request, choice.model)
                if choice.place not in HOUSE:
                    number = await self._reserve(self._leaving(choice, request, trip.who, len(body)))
                sent = self._clock.monotonic()
                pieces = gauge.upstream.send(request, body, self._settings.stall_seconds)
                stack.push_async_callback(pieces.aclose)
                first = await _first_pieces(pieces, gauge.name)
            except LlmError as error:
                gauge.failed(error, choice.model)
                self._ended(number, "failed", error)
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

    def _ended(self, number: int | None, outcome: str, error: LlmError | None = None) -> None:
        if number is None:
            return
        if error is not None and not error.sent:
            self._settle(self._ledger.unsent(number))
        elif error is not None and error.answered is not None:  # refused: nobody read or wrote a token
            self._settle(self._ledger.settle(number, outcome, Usage(0, 0), 0.0))
        else:
            self._settle(self._ledger.settle(number, outcome, Usage(), None))

    def _leaving(self, choice: Choice, request: Request, who: str, size: int) -> Leaving:
        out = 0 if request.operation is Operation.embed else length_asked(request) or ASSUMED_OUT
        return Leaving(
            who=who, endpoint=choice.endpoint, place=choice.place, model=choice.model, operation=request.operation,
            why=choice.why, bytes=size, tokens=size // USUAL_BYTES_A_TOKEN + out, cost=choice.cost or 0.0,
        )  # fmt: skip


async def _first_pieces(pieces: AsyncGenerator[list[Piece]], name: str) -> list[Piece]:
    """Raises LlmError; what breaks off here has not begun, so that another endpoint may do it."""
    try:
        async for batch in pieces:
            return batch
    except LlmError as error:
        if error.fault is Fault.cut:
            raise LlmError(Fault.dead, error.message, "see its log.") from error
        raise
    raise LlmError(Fault.garbled, f"{name} ended its answer before it began.")


def _late(choice: Choice, gauge: Gauge, *, waits: bool) -> LlmError:
    """No first token in time; an endpoint that had no turn for it yet is not to blame."""
    if waits:
        told = f"{choice.endpoint} had no turn for it in time: {gauge.in_flight} under way, {gauge.queue} waiting."
        return LlmError(Fault.full, told, "try again in a moment, or add another endpoint.", sent=False)
    told = f"{choice.endpoint} gave no first token in time."
    return LlmError(Fault.slow, told, "see how busy it is; raise llm.edge_timeout_seconds or llm.last_timeout_seconds.")


def _told(error: LlmError, trip: Journey) -> LlmError:
    """The newest failure, and who failed before."""
    before = "; ".join(f"{each.endpoint}: {each.why}" for each in trip.tries[:-1])
    return LlmError(error.fault, f"{error.message} Before that: {before}" if before else error.message, error.next_step,
                    error.retry_after)  # fmt: skip
