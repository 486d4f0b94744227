"""The language models' gateway as rows and lines: endpoints, decisions, what left the house, what holds now."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core.llm.model import EndpointStatus, LedgerEntry, LlmStatus, ModelInfo, Routed, SentTo, Spent
from appliance.core.model import Health, ServiceStatus
from appliance.core.power.model import PowerStatus
from appliance.screens import format as f
from appliance.screens.glyphs import Glyphs
from appliance.screens.themes import Role
from appliance.screens.values import moment
from appliance.screens.widgets.charts import meter
from appliance.screens.widgets.grid import Cell, Column, Row
from appliance.screens.widgets.lines import Line, Piece

ENDPOINTS = (
    Column("endpoint", 11), Column("state", 10), Column("rest", 5, "right"), Column("place", 5), Column("busy", 5, "right"),
    Column("wait", 4, "right"), Column("first", 6, "right"), Column("tok/s", 5, "right"), Column("err", 5, "right"),
    Column("speaks", 6, least=120), Column("for", 6, "right", 110), Column("seen", 6, "right", 100), Column("models"),
    Column("reason", least=120),
)  # fmt: skip
DECISIONS = (
    Column("time", 11, least=120), Column("ago", 6, "right"), Column("asked", 14), Column("went to", 12),
    Column("place", 5, least=100), Column("outcome", 13), Column("took", 7, "right"), Column("tok", 5, "right"),
    Column("cost", 8, "right", 130), Column("who", 9, least=110), Column("why"),
)  # fmt: skip
LEAD, METER = 9, 16
"""Cells of a name, and of a bar."""
STATES: dict[str, Role] = {
    "up": "ok", "down": "bad", "unwell": "warn", "cooldown": "warn", "draining": "warn", "halted": "muted", "unasked": "muted",
}  # fmt: skip


def rest(each: EndpointStatus, put_s: float | None) -> float | None:
    """Seconds until it is asked again, now; None where it does not rest.

    Args:
        each: As it was put.
        put_s: Seconds since then.
    """
    left = None if each.cooldown_s is None else each.cooldown_s - (put_s or 0.0)
    return left if left is not None and left > 0 else None


def state_of(each: EndpointStatus, put_s: float | None) -> str:
    """How an endpoint is, in a word."""
    if each.switch:
        return each.switch
    if rest(each, put_s) is not None:
        return "cooldown"
    if each.health is Health.healthy:
        return "up"
    if each.health is Health.unhealthy:
        return "down"
    return "unwell" if each.probed or each.requests else "unasked"


def badge(state: str, glyphs: Glyphs) -> Piece:
    """A state as sign and word."""
    role = STATES[state]
    sign = {"ok": glyphs.ok, "bad": glyphs.bad, "warn": glyphs.warn}.get(role, glyphs.none)
    return f"{sign} {state}", role


def endpoint_rows(status: LlmStatus | None, put_s: float | None, glyphs: Glyphs) -> list[Row]:
    """A row an endpoint, in the order of the settings."""
    return [Row(each.name, _endpoint(each, put_s, glyphs)) for each in (status.endpoints if status is not None else ())]


def _endpoint(each: EndpointStatus, put_s: float | None, glyphs: Glyphs) -> tuple[Cell, ...]:
    left = rest(each, put_s)
    full = each.in_flight >= each.limit
    return (
        each.name, badge(state_of(each, put_s), glyphs), (f.duration(left), "warn" if left else "muted"), each.place.value,
        (f"{each.in_flight}/{each.limit}", "warn" if full else "text"),
        (str(each.queue), "warn" if each.queue else "muted"), f.took(each.first_token_ms),
        pace(each.tokens_per_s), errors(each), (each.kind.value, "muted"),
        (f.since(each.since), "muted"), (f.since(each.probed), "muted"), (models(each.models), "muted"), each.reason,
    )  # fmt: skip


def pace(value: float | None) -> str:
    """Tokens a second."""
    return f.NONE if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def errors(each: EndpointStatus) -> Cell:
    """Its share of failures."""
    share = None if each.error_rate is None else 100 * each.error_rate
    return (f.percent(share), "warn" if share and share >= 1 else "muted")


def models(known: Sequence[ModelInfo] | None) -> str:
    """How many, and the first ones with size and context."""
    if known is None:
        return f.NONE
    return f"{len(known)}: {', '.join(_model(each) for each in known[:4])}" if known else "none"


def _model(each: ModelInfo) -> str:
    facts = [f.size(each.size) if each.size else "", context(each.context) if each.context else ""]
    return " ".join([each.name.removesuffix(":latest"), *(fact for fact in facts if fact)])


def context(tokens: int | None) -> str:
    """Tokens of context in few characters: "128k"."""
    if tokens is None:
        return f.NONE
    return f"{tokens / 1024:.0f}k" if tokens >= 10_000 else str(tokens)


def trouble(each: EndpointStatus) -> list[Piece]:
    """Why an endpoint is not up, and what to do; nothing where all is well."""
    if each.health is Health.healthy and not each.switch:
        return []
    step: list[Piece] = [(f" Next: {each.next_step}", "accent")] if each.next_step else []
    return [(f" {each.name}: {each.reason.rstrip('.')}.", "warn"), *step]


def endpoint_lines(each: EndpointStatus, put_s: float | None, glyphs: Glyphs) -> list[Line]:
    """All that is known of an endpoint, to be read."""
    price = [f.NONE if value is None else f"{value:g}" for value in (each.price_in, each.price_out)]
    facts = {
        "why": each.reason, "next": each.next_step or f.NONE, "since": moment(each.since),
        "switched by": each.switched_by or f.NONE,
        "rests for": f.span(rest(each, put_s)), "address": each.url, "speaks": f"{each.kind.value} {each.version}".rstrip(),
        "place": each.place.value, "under way": f"{each.in_flight} of {each.limit}",
        "waiting": f"{each.queue} of {each.queue_limit}", "first token": f.took(each.first_token_ms),
        "pace": f"{pace(each.tokens_per_s)} tokens/s",
        "probe": f"{f.took(each.probe_ms)}, {f.since(each.probed)} ago" if each.probed else f.NONE,
        "failed": f"{each.failures} of {each.requests}, lately {errors(each)[0]}",
        "price": f"{price[0]} for a million tokens read, {price[1]} written",
    }  # fmt: skip
    sign, role = badge(state_of(each, put_s), glyphs)
    lines: list[Line] = [((f"{'state':<13}", "muted"), (sign, role))]
    lines += [((f"{name:<13}", "muted"), (told, "text")) for name, told in facts.items()]
    return [*lines, (), *model_lines(each.models)]


def model_lines(known: Sequence[ModelInfo] | None) -> list[Line]:
    """Every model with what its endpoint tells of it."""
    if not known:
        return [(("it has no model" if known is not None else "it never told which models it has", "muted"),)]
    head: Line = ((f"{'model':<28} {'size':>9} {'context':>8}  loaded  can do", "title"),)
    return [head, *(_model_line(each) for each in known)]


def _model_line(each: ModelInfo) -> Line:
    loaded = {None: f.NONE, True: "yes", False: "no"}[each.loaded]
    able = f.NONE if each.capabilities is None else ", ".join(each.capabilities) or "nothing"
    facts = f"{f.size(each.size):>9} {context(each.context):>8}  {loaded:<6}  "
    more = " ".join(filter(None, (each.parameters, each.quantization)))
    return ((f"{each.name:<28} ", "accent"), (facts, "text"), (f"{able}{f' ({more})' if more else ''}", "muted"))


def decision_rows(status: LlmStatus | None, glyphs: Glyphs) -> list[Row]:
    """A row a decision, the newest first."""
    return [Row(key_of(each), _decision(each, glyphs)) for each in (status.decisions if status is not None else ())]


def key_of(each: Routed) -> str:
    """What tells a decision from all others."""
    return f"{each.time!r} {each.who} {each.endpoint} {each.latency_ms}"


def _decision(each: Routed, glyphs: Glyphs) -> tuple[Cell, ...]:
    return (
        (f.clock(each.time), "muted"), (f.since(each.time), "muted"), (each.asked or f.NONE).removesuffix(":latest"),
        each.endpoint or f.NONE, each.place.value if each.place is not None else f.NONE, outcome(each, glyphs),
        f.took(each.latency_ms), f.NONE if each.tokens_out is None else str(each.tokens_out), money(each.cost),
        (each.who, "muted"), (each.why, "muted"),
    )  # fmt: skip


def outcome(each: Routed, glyphs: Glyphs) -> Piece:
    """What came of a request; whether another endpoint was asked before."""
    if each.outcome == "answered" and failed_over(each):
        return f"{glyphs.warn} failed over", "warn"
    signs: dict[str, tuple[str, Role]] = {
        "answered": (glyphs.ok, "ok"), "cached": (glyphs.ok, "accent"), "failed": (glyphs.bad, "bad"),
    }  # fmt: skip
    sign, role = signs.get(each.outcome, (glyphs.none, "muted"))
    return f"{sign} {each.outcome}", role


def failed_over(each: Routed) -> bool:
    """Another endpoint gave no first token before."""
    return any(tried.endpoint != each.endpoint for tried in each.attempts)


def decision_lines(each: Routed, glyphs: Glyphs) -> list[Line]:
    """All of a decision, to be read."""
    sign, role = outcome(each, glyphs)
    facts = {
        "when": moment(each.time), "who": each.who, "what": each.operation.value, "asked for": each.asked,
        "went to": f"{each.endpoint or f.NONE}, {each.place.value if each.place is not None else f.NONE}",
        "model": each.model or f.NONE, "why": each.why, "privacy": each.privacy.value,
        "first token": f.took(each.first_token_ms), "took": f.took(each.latency_ms),
        "tokens": f.NONE if each.tokens_out is None else f"{each.tokens_out} written", "cost": money(each.cost),
        "cached": "yes" if each.outcome == "cached" else "no", "tries": str(each.tries),
    }  # fmt: skip
    tried: list[Line] = [((f"{'before it':<13}", "muted"), (f"{one.endpoint}: {one.why}", "warn")) for one in each.attempts]
    told: list[Line] = [((f"{name:<13}", "muted"), (text, "text")) for name, text in facts.items()]
    return [((f"{'outcome':<13}", "muted"), (sign, role)), *told, *tried]


def money(value: float | None) -> str:
    """In the currency of the prices; a dash where no price is known."""
    return f.NONE if value is None else f"{value:.4f}" if value < 100 else f"{value:.2f}"


def ledger_lines(spent: Spent | None, glyphs: Glyphs) -> list[Line]:
    """What left the house in 24 hours against its caps, and to whom."""
    if spent is None:
        return []
    byte_cap = None if spent.bytes_cap is None else float(spent.bytes_cap)
    token_cap = None if spent.tokens_cap is None else float(spent.tokens_cap)
    lines = [
        _against("bytes", f.size(spent.bytes), spent.bytes, byte_cap, f.size(byte_cap), glyphs),
        _against("tokens", f"{spent.tokens:,}", spent.tokens, token_cap, f"{spent.tokens_cap or 0:,}", glyphs),
        _against("cost", money(spent.cost), spent.cost, spent.cost_cap, money(spent.cost_cap), glyphs),
    ]
    asked: Line = ((f" {'requests':<{LEAD}}", "muted"), (f"{spent.requests:,} in the last 24 h", "text"))
    to: list[Line] = [
        ((f" {'to' if at == 0 else '':<{LEAD}}", "muted"), (f"{each.endpoint} ", "accent"), (_share(each), "text"))
        for at, each in enumerate(spent.to)
    ]
    return [*lines, asked, *(to or [((f" {'to':<{LEAD}}", "muted"), ("nobody: nothing left the house", "muted"))])]


def _share(each: SentTo) -> str:
    parts = (
        f.counted(each.requests, "request"),
        f.size(each.bytes),
        f.counted(each.tokens, "token"),
        f"cost {money(each.cost)}",
    )
    return ", ".join(parts)


def entry_lines(entries: Sequence[LedgerEntry]) -> list[Line]:
    """Entries of the ledger, to be read."""
    if not entries:
        return [(("nothing has left the house", "muted"),)]
    head: Line = ((f"{'time':<11} {'to':<12} {'bytes':>9} {'read':>6} {'written':>7} {'cost':>8}  by whom, and why", "title"),)
    return [head, *(_entry(each) for each in entries)]


def _entry(each: LedgerEntry) -> Line:
    read, written = (f.NONE if value is None else str(value) for value in (each.tokens_in, each.tokens_out))
    facts = f"{each.endpoint[:12]:<12} {f.size(each.bytes):>9} {read:>6} {written:>7} {money(each.cost):>8}  "
    told = f"{each.who}: {each.why}; {each.model}, {each.outcome}"
    return ((f"{f.clock(each.time):<11} ", "muted"), (facts, "text"), (told, "muted"))


def _against(name: str, told: str, value: float, cap: float | None, most: str, glyphs: Glyphs) -> Line:
    """One sum and its cap."""
    head: Piece = (f" {name:<{LEAD}}", "muted")
    if cap is None:
        return (head, (told, "text"), ("   no cap is set", "muted"))
    share = value / cap if cap else 1.0
    bar = meter(min(1.0, share), METER, glyphs)
    return (head, (f"{told} of {most}  ", "text"), *bar, (f" {100 * share:.0f} %", "bad" if share >= 1 else "muted"))


def head_pieces(status: LlmStatus | None, power: PowerStatus | None) -> list[Piece]:
    """The strategy and the power that hold now, and what came of all requests."""
    if status is None:
        return []
    wanted = "" if status.holds is status.strategy else f" instead of {status.strategy.value}"
    narrowed = status.holds is not status.strategy
    return [
        (f" {status.holds.value}", "warn" if narrowed else "title"), (f"{wanted}: {status.because}", "text"),
        (f"   power {_power(power)}", "muted"), (f"   {f.counted(status.requests, 'request')}", "text"),
        (f"   {status.failed} failed", "bad" if status.failed else "muted"), (f"   {status.failovers} failed over", "muted"),
        (f"   {status.cache_hits} from the cache", "muted"), (f"   {status.given_up} given up", "muted"),
    ]  # fmt: skip


def _power(power: PowerStatus | None) -> str:
    if power is None:
        return f.NONE
    charge = "" if power.percent is None else f" {power.percent:.0f} %"
    return f"{power.setting.value}, {power.phase.value}{charge}"


def forbids_pieces(status: LlmStatus | None, glyphs: Glyphs) -> list[Piece]:
    """What holds for every request; nothing where every way is open."""
    return [(f" {glyphs.warn} {each}", "warn") for each in status.forbids] if status is not None else []


def absence(services: Sequence[ServiceStatus]) -> str:
    """Why there is no gateway, and the next step."""
    found = next((each for each in services if each.name == "llm"), None)
    if found is None:
        return "the gateway to the language models has not started yet"
    step = f" Next: {found.next_step}" if found.next_step else ""
    return f"{found.health.value}: {found.reason.rstrip('.')}.{step}"
