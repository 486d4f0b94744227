"""Who is asked, and in which order: pure functions of what is known. They send nothing and read no clock."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from appliance.core.llm.model import (
    HOUSE,
    Choice,
    Decision,
    Kind,
    ModelInfo,
    Operation,
    Passed,
    Place,
    Privacy,
    Request,
    Strategy,
    Wishes,
    hands_on,
)

ASSUMED_FIRST_MS = 1000.0
"""Of an endpoint that nobody measured yet."""
ASSUMED_TOKENS_PER_S = 10.0
ASSUMED_OUT = 256
"""Tokens of an answer whose length is not bounded."""
LONGEST_OUT = 10_000_000
"""Tokens; no answer is longer, whatever was asked for."""
LEAST_BYTES_A_TOKEN = 6
"""A text of English or code has fewer bytes a token: what does not fit by this measure does not fit at all."""
USUAL_BYTES_A_TOKEN = 4
PER = 1_000_000
"""Tokens that a price is for."""
PLACES = (Place.edge, Place.agent, Place.cloud)
RANKS: Mapping[Strategy, tuple[Place, ...]] = {
    Strategy.edge_first: PLACES,
    Strategy.edge_only: PLACES,
    Strategy.cloud_first: (Place.cloud, Place.edge, Place.agent),
}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as the policy sees it; times in ms, None where nobody knows."""

    name: str
    place: Place
    kind: Kind = Kind.ollama
    models: tuple[ModelInfo, ...] | None = None
    well: bool = True
    """The newest probe or request did well, and it does not rest."""
    trouble: str = ""
    """Why it is not well."""
    switch: str = ""
    in_flight: int = 0
    limit: int = 1
    queue: int = 0
    queue_limit: int = 0
    first_token_ms: float | None = None
    tokens_per_s: float | None = None
    error_rate: float | None = None
    price_in: float | None = None
    price_out: float | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request matters for its way."""

    model: str
    operation: Operation = Operation.chat
    wishes: Wishes = Wishes()
    bytes_in: int = 0
    """Of text."""
    tokens_out: int | None = None
    tools: bool = False
    vision: bool = False
    raw: bool = False
    """It needs what only Ollama's own API has: raw, suffix, template, context."""

    @classmethod
    def of(cls, request: Request, default_model: str) -> Ask:
        """Of a whole request."""
        texts = [request.prompt, request.system, request.suffix, *request.inputs]
        texts += [message.content for message in request.messages]
        images = bool(request.images) or any(message.images for message in request.messages)
        return cls(
            model=request.model or default_model, operation=request.operation, wishes=request.wishes,
            bytes_in=sum(len(text.encode(errors="replace")) for text in texts),
            tokens_out=length_asked(request),
            tools=bool(request.tools), vision=images,
            raw=request.raw or bool(request.suffix or request.template or request.context),
        )  # fmt: skip


def length_asked(request: Request) -> int | None:
    """The longest answer that a request asks for, tokens; None where it does not say."""
    told = request.options.get("num_predict")
    if isinstance(told, bool) or not isinstance(told, int | float) or not told >= 1:
        return None
    return int(min(told, LONGEST_OUT))


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all requests now."""

    strategy: Strategy
    cloud_fallback: bool = True
    power: str | None = None
    """"edge-first" or "edge-only", where the power asks for it."""
    aliases: Mapping[str, Mapping[Place, str]] = {}
    capped: str = ""
    """Why nothing more may leave the house today; empty where it may."""


def strategy_of(wanted: Strategy | None, ground: Ground) -> tuple[Strategy, str]:
    """The strategy that holds, and because of what: power before wishes before settings."""
    if ground.power == Strategy.edge_only:
        return Strategy.edge_only, "the battery is low"
    if ground.power == Strategy.edge_first and (wanted or ground.strategy) is not Strategy.edge_only:
        return Strategy.edge_first, "the power is from the battery"
    if wanted is not None:
        return wanted, "the request asks for it"
    return ground.strategy, "the settings say so"


def forbids(ground: Ground) -> tuple[str, ...]:
    """What no request may do now, in words."""
    strategy, because = strategy_of(None, ground)
    lasting = ground.power == Strategy.edge_only
    rows = (
        (lasting, f"nothing goes to the cloud: {because}"),
        (strategy is Strategy.edge_only and not lasting, "nothing goes to the cloud unless the request asks for a strategy"),
        (ground.power == Strategy.edge_first, "cloud-first and balanced count for no request: the power is from the battery"),
        (strategy is Strategy.edge_first and not ground.cloud_fallback,
         "the cloud is asked only where a request names it: llm.cloud_fallback is off"),
        (bool(ground.capped), f"nothing more goes to the cloud: {ground.capped}"),
    )  # fmt: skip
    return tuple(told for holds, told in rows if holds)


def decide(ask: Ask, views: Sequence[View], ground: Ground) -> Decision:
    """Who may answer, the best first; those that are not well at the end, but never left out for that."""
    strategy, because = strategy_of(ask.wishes.strategy, ground)
    choices: list[tuple[tuple[float, ...], Choice]] = []
    passed: list[Passed] = []
    for view in views:
        found = _model(ask, view, ground.aliases)
        place = place_of(view.place, view.kind, found)
        if reason := barred(ask.wishes, view, place, strategy, ground) or _unfit(ask, view, found):
            passed.append(Passed(view.name, reason))
            continue
        choice = _choice(ask, view, found, place, strategy)
        choices.append((_order(choice, view, strategy, ask), choice))
    choices.sort(key=lambda each: each[0])
    return Decision(strategy, because, tuple(choice for _, choice in choices), tuple(passed))


def model_missing(ask: Ask, views: Sequence[View], ground: Ground) -> tuple[str, ...] | None:
    """The nearest names where no endpoint has the model, though each tells what it has; None where that is not the fault."""
    if not views or any(view.models is None or has(view, _name(ask, view, ground.aliases)) for view in views):
        return None
    known = sorted({model.name for view in views for model in view.models or ()} | set(ground.aliases))
    return tuple(difflib.get_close_matches(ask.model, known, n=3, cutoff=0.3))


def has(view: View, name: str) -> bool:
    """The endpoint is known to have a model of that name."""
    return bool(name) and _find(view, name) is not None


def same(one: str, other: str) -> bool:
    """Ollama's rule: without a tag, "latest" is meant."""
    return one in {other, f"{other}:latest"} or other == f"{one}:latest"


def cost(view: View, tokens_in: int | None, tokens_out: int | None) -> float | None:
    """What so many tokens cost; None where a price or a number is not known."""
    parts = [(view.price_in, tokens_in), (view.price_out, tokens_out)]
    known = [price * count / PER for price, count in parts if price is not None and count is not None]
    missing = any(price and count is None for price, count in parts)
    return sum(known) if known and not missing else None


def expected_ms(view: View, tokens_out: int) -> float:
    """Time to the whole answer, with the load and the failures that are to be expected."""
    first = ASSUMED_FIRST_MS if view.first_token_ms is None else view.first_token_ms
    rate = view.tokens_per_s or ASSUMED_TOKENS_PER_S
    alone = first + 1000.0 * tokens_out / rate
    waiting = (view.in_flight + view.queue) / max(1, view.limit)
    return alone * (1.0 + waiting) / max(0.05, 1.0 - (view.error_rate or 0.0))


def _name(ask: Ask, view: View, aliases: Mapping[str, Mapping[Place, str]]) -> str:
    return aliases[ask.model].get(view.place, "") if ask.model in aliases else ask.model


def _find(view: View, name: str) -> ModelInfo | None:
    return next((model for model in view.models or () if same(model.name, name)), None)


def _model(ask: Ask, view: View, aliases: Mapping[str, Mapping[Place, str]]) -> ModelInfo | str:
    """The model as the endpoint has it; its name where the endpoint never told; a reason in "!…" where it has none."""
    name = _name(ask, view, aliases)
    if not name:
        return f"!no model is set for {ask.model} in the {view.place.value}"
    found = _find(view, name)
    if found is None and view.models is not None:
        return f"!it has no model {name}"
    return name if found is None else found


def place_of(place: Place, kind: Kind, model: ModelInfo | str) -> Place:
    """Where a request really goes: an Ollama of the house hands some models' requests on to the cloud."""
    handed_on = bool(model.remote) if isinstance(model, ModelInfo) else kind is Kind.ollama and hands_on(model)
    return Place.cloud if handed_on else place


def barred(wishes: Wishes, view: View, place: Place, strategy: Strategy, ground: Ground) -> str:
    """Why the endpoint must not be asked, however well it is; `place` is where its model runs."""
    cloud = place not in HOUSE
    reasons = (
        (cloud and wishes.privacy is Privacy.edge_only, "the request must not leave the house"),
        (cloud and strategy is Strategy.edge_only, f"nothing goes to the cloud: {strategy_of(wishes.strategy, ground)[1]}"),
        (cloud and _no_fallback(wishes, strategy, ground), "llm.cloud_fallback is off"),
        (cloud and bool(ground.capped), ground.capped),
        (view.switch == "halted", "an operator halted it"),
        (view.switch == "draining", "an operator drains it"),
        (wishes.endpoint not in {"", view.name}, f"the request asks for {wishes.endpoint}"),
        (wishes.place not in {None, place}, f"the request asks for the {wishes.place}"),
    )
    return next((why for applies, why in reasons if applies), "")


def _no_fallback(wishes: Wishes, strategy: Strategy, ground: Ground) -> bool:
    asked = wishes.place is Place.cloud or bool(wishes.endpoint)
    return strategy is Strategy.edge_first and not ground.cloud_fallback and not asked


def _unfit(ask: Ask, view: View, model: ModelInfo | str) -> str:
    """Why the endpoint cannot do it."""
    if isinstance(model, str) and model.startswith("!"):
        return model[1:]
    if ask.raw and view.kind is not Kind.ollama:
        return "it does not take raw prompts, suffixes, templates or contexts"
    if view.queue >= view.queue_limit and view.in_flight >= view.limit:
        return f"it is full: {view.in_flight} under way, {view.queue} waiting"
    tokens_in, tokens_out = ask.bytes_in // USUAL_BYTES_A_TOKEN, ask.tokens_out or ASSUMED_OUT
    price = cost(view, tokens_in, tokens_out)
    if ask.wishes.max_cost is not None and price is not None and price > ask.wishes.max_cost:
        return f"it would cost {price:.6g}, and the request allows {ask.wishes.max_cost:.6g}"
    return _lacks(ask, model) if isinstance(model, ModelInfo) else ""


def _lacks(ask: Ask, model: ModelInfo) -> str:
    least = ask.bytes_in // LEAST_BYTES_A_TOKEN
    if model.context and ask.operation is not Operation.embed and least > model.context:
        return f"the prompt has {least} tokens at least, and {model.name} takes {model.context}"
    if model.capabilities is None:
        return ""
    wanted = {"tools": ask.tools, "vision": ask.vision, "embedding": ask.operation is Operation.embed}
    lacking = [name for name, needed in wanted.items() if needed and name not in model.capabilities]
    return f"{model.name} cannot do {', '.join(lacking)}" if lacking else ""


def _choice(ask: Ask, view: View, model: ModelInfo | str, place: Place, strategy: Strategy) -> Choice:
    tokens_out = _tokens_out(ask)
    measured = view.first_token_ms is not None and (not tokens_out or view.tokens_per_s)  # else it would be a guess
    unsure = isinstance(model, str)
    last = not view.well or unsure
    trouble = view.trouble or ("it has not told its models yet" if unsure else "")
    words = [
        "the request asks for it" if ask.wishes.endpoint or ask.wishes.place else strategy.value,
        f"in the {place.value}" if strategy is not Strategy.balanced else "the least expected time",
        *([f"last resort: {trouble}"] if last else []),
    ]
    return Choice(
        view.name, place, model if isinstance(model, str) else model.name, ", ".join(words), last,
        round(expected_ms(view, tokens_out), 1) if measured else None,
        cost(view, ask.bytes_in // USUAL_BYTES_A_TOKEN, tokens_out),
    )  # fmt: skip


def _tokens_out(ask: Ask) -> int:
    return 0 if ask.operation is Operation.embed else ask.tokens_out or ASSUMED_OUT


def _order(choice: Choice, view: View, strategy: Strategy, ask: Ask) -> tuple[float, ...]:
    rank = 0 if strategy is Strategy.balanced else RANKS[strategy].index(choice.place)
    spent = choice.cost if choice.cost is not None else 0.0
    return (float(choice.last_resort), float(rank), round(expected_ms(view, _tokens_out(ask)), 1), spent)


def house_only(choices: Iterable[Choice]) -> bool:
    """None of them leaves the house."""
    return all(choice.place in HOUSE for choice in choices)
