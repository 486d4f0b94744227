"""The gateway while it runs: decides, asks, keeps answers, watches the endpoints. Loaded where an endpoint is configured."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from appliance.core.llm import policy
from appliance.core.llm.cache import AnswerCache, key_of
from appliance.core.llm.carry import Carrier
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.gauge import Gauge
from appliance.core.llm.ledger import Ledger
from appliance.core.llm.model import Answer, Choice, Decision, LlmStatus, ModelInfo, Place, Request, Routed, Strategy
from appliance.core.llm.stream import Live, Replay, Stream
from appliance.core.llm.switches import Switches
from appliance.core.ports import Clock
from appliance.errors import ConflictError, NotFoundError, StoreError
from appliance.settingllm import LlmSettings

log = logging.getLogger(__name__)

MIB = 2**20
DECISIONS = 200
"""The last ones that are shown."""
PUBLISH = 0.5
"""Least seconds between two looks of the screens."""


class Found(msgspec.Struct, frozen=True):
    """A model, and where it is."""

    model: ModelInfo
    endpoint: str
    place: Place


class Gateway:
    """One door to all endpoints.

    Args:
        gauges: The endpoints.
        settings: As the operator has them.
        ledger: What left the house.
        switches: What operators drain or have halted.
        cache: Of answers.
        power: What the power asks for now: "edge-first", "edge-only" or None.
        clock: For times.
    """

    def __init__(
        self, gauges: Mapping[str, Gauge], settings: LlmSettings, ledger: Ledger, switches: Switches, cache: AnswerCache,
        power: Callable[[], str | None], clock: Clock,
    ) -> None:  # fmt: skip
        self.gauges = gauges
        self.settings = settings
        self.ledger = ledger
        self.cache = cache
        self.changed = asyncio.Event()
        self.noted: Callable[[Routed, Answer | None], None] = lambda *_: None
        """Told of the end of every request, with what there is of an answer."""
        self._switches = switches
        self._power = power
        self._clock = clock
        self._carrier = Carrier(gauges, settings, ledger, clock, self._see_through, self._barred)
        self._decisions: deque[Routed] = deque(maxlen=DECISIONS)
        self._counts = dict.fromkeys(("answered", "failed", "given up"), 0)
        self._requests = 0
        self._writes: set[asyncio.Future[None]] = set()
        self._aliases = {
            name: {place: model for place in Place if (model := getattr(alias, place.value))}
            for name, alias in settings.aliases.items()
        }

    # -- requests ------------------------------------------------------------------------------------------------------

    def ground(self) -> policy.Ground:
        """What holds for all requests now."""
        return policy.Ground(
            strategy=Strategy(self.settings.strategy), cloud_fallback=self.settings.cloud_fallback, power=self._power(),
            aliases=self._aliases, capped=self.ledger.capped,
        )  # fmt: skip

    def decide(self, request: Request) -> Decision:
        """Who would be asked, in order; nothing is sent."""
        return policy.decide(self._ask(request), [gauge.view() for gauge in self.gauges.values()], self.ground())

    async def open(self, request: Request, who: str) -> Stream:
        """Have a request answered; returns with the first piece, or a kept answer.

        Raises:
            LlmError: Nobody answers; says why, endpoint by endpoint.
            StoreError: Only where nothing but the cloud is left, and the ledger cannot be written.
        """
        began = self._clock.monotonic()
        self._requests += 1
        self.changed.set()
        decision: Decision | None = None
        try:
            self._weigh(request)
            decision = self.decide(request)
            if not decision.choices:
                raise self._nobody(request, decision)
            key = self._key(request, decision.choices[0], who) if self.cache.wanted(request, decision.strategy) else ""
            if key and (kept := await self.cache.get(key)) is not None:
                return self._replay(kept, request, decision, who, began)
            begun, tries = await self._carrier.begin(request, decision.choices, who)
        except BaseException as error:
            gone = isinstance(error, asyncio.CancelledError)
            told = error.message if isinstance(error, LlmError) else "the caller went away" if gone else type(error).__name__
            self._note(request, who, None, told, "given up" if gone else "failed")
            raise

        def ended(outcome: str, answer: Answer) -> None:
            self._note(request, who, answer, answer.why, outcome, len(tries) + 1)
            if key and outcome == "answered":
                keep = key if begun.choice == decision.choices[0] else self._key(request, begun.choice, who)
                self._see_through(self.cache.set(keep, answer))

        most = int(self.settings.answer_mib * MIB)
        return Live(begun, decision, tries, self._carrier, self._clock, began, most, ended)

    def _replay(self, kept: Answer, request: Request, decision: Decision, who: str, began: float) -> Stream:
        took = round(1000 * (self._clock.monotonic() - began), 1)
        answer = msgspec.structs.replace(
            kept, cached=True, cost=0.0 if kept.cost is not None else None, latency_ms=took, first_token_ms=took,
            left_house_bytes=0, attempts=(), why=f"kept from an earlier answer of {kept.endpoint}",
        )  # fmt: skip
        self._note(request, who, answer, answer.why, "cached")
        return Replay(answer, decision.choices[0], decision)

    def _key(self, request: Request, choice: Choice, who: str) -> str:
        gauge = self.gauges[choice.endpoint]
        digest = next((model.digest for model in gauge.models or () if policy.same(model.name, choice.model)), "")
        return key_of(request, choice.model, digest or f"{gauge.name} {gauge.url}", who)

    def _barred(self, choice: Choice, request: Request) -> str:
        """Why an endpoint must not be asked any more that was chosen a while ago."""
        ground = self.ground()
        strategy = policy.strategy_of(request.wishes.strategy, ground)[0]
        uncapped = msgspec.structs.replace(ground, capped="")  # the ledger itself decides that
        return policy.barred(request.wishes, self.gauges[choice.endpoint].view(), choice.place, strategy, uncapped)

    def _ask(self, request: Request) -> policy.Ask:
        ask = policy.Ask.of(request, self.settings.default_model)
        plain = ask.model.removesuffix(":latest")
        return msgspec.structs.replace(ask, model=plain) if plain in self._aliases else ask

    def _weigh(self, request: Request) -> None:
        size = sum(len(text) for text in (request.prompt, request.system, request.suffix, *request.inputs, *request.images))
        size += sum(len(each.content) + sum(len(image) for image in each.images) for each in request.messages)
        most = self.settings.request_mib * MIB
        if size > most:
            told = f"The request has {size / MIB:.1f} MiB, and {self.settings.request_mib:g} MiB are taken."
            raise LlmError(Fault.too_large, told, "shorten it, or raise llm.request_mib.")

    def _nobody(self, request: Request, decision: Decision) -> LlmError:
        """Why no endpoint may be asked."""
        ask, views = self._ask(request), [gauge.view() for gauge in self.gauges.values()]
        near = policy.model_missing(ask, views, self.ground())
        if near is not None:
            hint = f"did you mean {' or '.join(near)}?" if near else "see `prime-spark llm models`."
            return LlmError(Fault.no_model, f"model {ask.model!r} not found on any endpoint.", hint)
        wanted = request.wishes.endpoint
        if wanted and wanted not in self.gauges:
            return LlmError(Fault.bad, f"There is no endpoint {wanted!r}.", f"there are: {', '.join(self.gauges)}.")
        told = "; ".join(f"{each.endpoint}: {each.why}" for each in decision.passed)
        capped = bool(self.ledger.capped) and any(each.why == self.ledger.capped for each in decision.passed)
        full = any(each.why.startswith("it is full") for each in decision.passed)
        fault = Fault.capped if capped else Fault.full if full else Fault.nobody
        return LlmError(fault, f"No endpoint may or can answer: {told}.", "see `prime-spark llm endpoints`.")

    def _note(self, request: Request, who: str, answer: Answer | None, why: str, outcome: str, tries: int = 1) -> None:
        self._counts[outcome if outcome in self._counts else "answered"] += 1
        routed = Routed(
            time=self._clock.wall(), who=who, operation=request.operation,
            asked=(request.model or self.settings.default_model)[:200], endpoint=answer.endpoint if answer else "",
            place=answer.place if answer else None, model=answer.model if answer else "", why=why[:500],
            privacy=request.wishes.privacy, outcome=outcome, first_token_ms=answer.first_token_ms if answer else None,
            latency_ms=answer.latency_ms if answer else None, tokens_out=answer.usage.tokens_out if answer else None,
            cost=answer.cost if answer else None, tries=tries, attempts=answer.attempts if answer else (),
        )  # fmt: skip
        self._decisions.appendleft(routed)
        self.noted(routed, answer)
        self.changed.set()

    def _see_through(self, work: Awaitable[None]) -> None:
        """Finish a write whatever becomes of the caller."""
        task = asyncio.ensure_future(work)
        self._writes.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Future[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the ledger keeps what was set aside for an answer: %s", error)

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def probe(self) -> None:
        """Look at every endpoint that is not halted, and at what counts against the caps."""
        await asyncio.gather(*(gauge.probe() for gauge in self.gauges.values() if gauge.switch != "halted"))
        try:
            await self.ledger.refresh()
        except StoreError as error:
            log.warning("the ledger cannot be read: %s", error.message)
        self.changed.set()

    async def look(self, name: str = "") -> list[Gauge]:
        """Probe one endpoint now, or all that are not halted; returns them. Raises NotFoundError, ConflictError."""
        if not name:
            await self.probe()
            return list(self.gauges.values())
        gauge = self.gauge(name)
        if gauge.switch == "halted":
            raise ConflictError(f"{name} is halted: it is left in peace.", f"`prime-spark llm resume {name}` first.")
        await gauge.probe()
        self.changed.set()
        return [gauge]

    async def recall(self) -> None:
        """Take over what operators drained or halted in an earlier life. Raises StoreError."""
        for name, (switch, who) in (await self._switches.all()).items():
            if name in self.gauges:
                self.gauges[name].switch, self.gauges[name].switched_by = switch, who
        await self.ledger.refresh()

    def gauge(self, name: str) -> Gauge:
        """One endpoint. Raises NotFoundError."""
        if name not in self.gauges:
            near = difflib.get_close_matches(name, self.gauges, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self.gauges)}."
            raise NotFoundError(f"There is no endpoint {name!r}.", hint)
        return self.gauges[name]

    async def switch(self, name: str, switch: str, who: str) -> None:
        """Drain or halt an endpoint, or let it serve again (""); durable. Raises NotFoundError, StoreError."""
        gauge = self.gauge(name)
        await self._switches.put(name, switch, who)
        gauge.switch, gauge.switched_by = switch, who if switch else ""
        self.changed.set()

    def models(self) -> list[Found]:
        """All models that are known, endpoint by endpoint."""
        return [
            Found(model, gauge.name, gauge.place) for gauge in self.gauges.values() for model in gauge.models or ()
        ]  # fmt: skip

    @property
    def aliases(self) -> Mapping[str, Mapping[Place, str]]:
        """Names that stand for a model in each place."""
        return self._aliases

    def status(self) -> LlmStatus:
        """For screens."""
        ground, counts = self.ground(), self._carrier.counts
        holds, because = policy.strategy_of(None, ground)
        return LlmStatus(
            strategy=ground.strategy, holds=holds, because=because, forbids=policy.forbids(ground),
            endpoints=tuple(gauge.status() for gauge in self.gauges.values()), decisions=tuple(self._decisions),
            spent=self.ledger.spent, requests=self._requests, answered=self._counts["answered"],
            failed=self._counts["failed"], given_up=self._counts["given up"], failovers=counts.failovers,
            hedges=counts.hedges, retries=counts.retries, cache_hits=self.cache.hits, cache_misses=self.cache.misses,
            cache_failures=self.cache.failures,
        )  # fmt: skip

    async def close(self) -> None:
        """Finish writes, let go of the endpoints."""
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=2.0)
        await asyncio.gather(*(gauge.upstream.close() for gauge in self.gauges.values()))
