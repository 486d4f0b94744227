"""One channel at work: what waits for it, its tries, and how it is. A slow or dead one holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from appliance.core.alerts.channels.book import Kept
from appliance.core.alerts.channels.model import RANK, ChannelStatus, Delivery, DeliveryError, DeliveryState, Notice
from appliance.core.alerts.channels.posting import Adapter
from appliance.core.alerts.channels.rendering import one_line
from appliance.core.backoff import backoff
from appliance.core.figures import counted
from appliance.core.model import Health
from appliance.core.ports import Clock
from appliance.errors import AbsentError, ApplianceError
from appliance.settingalerts import AlertChannel

log = logging.getLogger(__name__)

FIRST, LONGEST = 5.0, 600.0
"""Seconds until the second try, and most between two."""
TURNS = 3
"""Tries of a message after which others go before it."""
WAITING = 200
"""Most messages that wait for one channel; groups share one each."""
HOUR = 3600.0


class Waiting:
    """A message that waits.

    Args:
        kept: It, with its record.
        since: Monotonic clock when it was made.
    """

    def __init__(self, kept: Kept, since: float) -> None:
        self.kept = kept
        self.since = since

    @property
    def order(self) -> tuple[int, float]:
        """What is urgent goes first, then what is old."""
        return -RANK[self.kept.delivery.severity], self.since

    @property
    def turn(self) -> tuple[int, int, float]:
        """The same, but what failed again and again lets others pass: it may be its own fault."""
        return self.kept.delivery.attempts // TURNS, *self.order


class Channel:
    """A channel.

    Args:
        name: Of the settings.
        wanted: Its settings.
        make: Makes its adapter; raises ApplianceError where it cannot.
        clock: For times.
        give_up: Seconds after which a message is given up.
    """

    def __init__(
        self, name: str, wanted: AlertChannel, make: Callable[[], Adapter], clock: Clock, give_up: float = 86400.0
    ) -> None:
        self.name, self.wanted = name, wanted
        self.counts: Counter[str] = Counter()
        self.waiting: dict[str, Waiting] = {}
        """By group."""
        self.wake = asyncio.Event()
        self.busy = ""
        """The group whose message is under way."""
        self.last_delivered, self.last_answer = 0.0, ""
        self._clock, self._give_up = clock, give_up
        self._failures, self._fault = 0, ""
        self._step = ""
        self._not_before = 0.0
        self._sent: deque[float] = deque(maxlen=wanted.per_hour)
        self._adapter: Adapter | None = None
        self._lack: ApplianceError | None = None
        try:
            self._adapter = make()
        except ApplianceError as error:
            self._lack = error
            log.warning("the alert channel %s cannot deliver: %s", name, error)

    @property
    def enabled(self) -> bool:
        """Whether messages go out."""
        return self.wanted.enabled

    def add(self, kept: Kept, since: float) -> list[Kept]:
        """Let a message wait; returns those that it displaces, in their last states, itself among them where it is merged."""
        gone = []
        before = self.waiting.get(kept.notice.group_key)
        if before is not None and self.busy != kept.notice.group_key:
            gone.append(self._ended(before.kept, DeliveryState.merged))
            kept = Kept(kept.delivery, merged(before.kept.notice, kept.notice))
        elif before is not None:  # the one under way ends by itself
            kept = Kept(kept.delivery, kept.notice)
        self.waiting[kept.notice.group_key] = Waiting(kept, since)
        while len(self.waiting) > WAITING:
            worst = max((key for key in self.waiting if key != self.busy), key=lambda key: self.waiting[key].order)
            gone.append(self._ended(self.waiting.pop(worst).kept, DeliveryState.dropped))
        self.wake.set()
        return gone

    def _ended(self, kept: Kept, state: DeliveryState) -> Kept:
        self.counts[state.name] += 1
        return Kept(msgspec.structs.replace(kept.delivery, state=state, next_try=0.0), kept.notice)

    def expire(self) -> list[Kept]:
        """Give up what waits for too long while nothing can go out; returns it in its last state."""
        if self.enabled and self._lack is None:
            return []  # then each is tried before it is given up
        before = self._clock.monotonic() - self._give_up
        old = [key for key, one in self.waiting.items() if one.since < before]
        return [self._ended(self.waiting.pop(key).kept, DeliveryState.given_up) for key in old]

    def pause(self) -> float | None:
        """Seconds until the next try; None while nothing waits, or nothing may go out."""
        if not self.waiting or not self.enabled or self._lack is not None:
            return None
        now = self._clock.monotonic()
        until = self._not_before
        if len(self._sent) == self.wanted.per_hour:
            until = max(until, self._sent[0] + HOUR)
        return max(0.0, until - now)

    async def step(self) -> Kept | None:
        """Try the next message; returns its record as it is now, None where none waits."""
        if not self.waiting:
            return None
        group = min(self.waiting, key=lambda key: self.waiting[key].turn)
        one = self.waiting[group]
        self.busy = group
        try:
            delivery = await self._try(one)
        finally:
            self.busy = ""
        one.kept = Kept(delivery, one.kept.notice)
        if delivery.state is not DeliveryState.waiting and self.waiting.get(group) is one:
            del self.waiting[group]
        elif delivery.state is DeliveryState.waiting and self.waiting.get(group) is not one:  # a later one came meanwhile
            later = self.waiting[group]
            later.kept = Kept(later.kept.delivery, merged(one.kept.notice, later.kept.notice))
            return self._ended(one.kept, DeliveryState.merged)
        return one.kept

    async def _try(self, one: Waiting) -> Delivery:
        delivery = one.kept.delivery
        wall = self._clock.wall()
        delivery = msgspec.structs.replace(delivery, attempts=delivery.attempts + 1, tried_at=wall, next_try=0.0)
        self._sent.append(self._clock.monotonic())
        try:
            answer = await self.send(one.kept.notice, delivery.delivery_id)
        except DeliveryError as error:
            return self._failed(delivery, error, one.since)
        self.counts["delivered"] += 1
        return msgspec.structs.replace(delivery, state=DeliveryState.delivered, delivered_at=self._clock.wall(), answer=answer)

    async def send(self, notice: Notice, delivery_id: str) -> str:
        """Send a message now, whatever waits; returns the answer. Raises DeliveryError, AbsentError, ConfigError."""
        if self._lack is not None or self._adapter is None:
            raise self._lack or AbsentError(f"the channel {self.name} has no way out", "see its settings.")
        try:
            answer = self._clean(await self._adapter.send(notice, delivery_id, self._clock.wall()))
        except DeliveryError as error:
            self._fault, self._step = self._clean(error.message), self._clean(error.next_step)
            self.last_answer = self._fault
            raise DeliveryError(self._fault, self._step, retry=error.retry, after=error.after) from None
        except Exception as error:  # a fault of ours: the other channels go on, and this one tries again
            log.exception("the alert channel %s broke off", self.name)
            self._fault = self.last_answer = f"a fault of the program: {type(error).__name__}"
            self._step = "the log has where; it is tried again."
            raise DeliveryError(self._fault, self._step, retry=True) from None
        self._failures, self._fault, self._not_before = 0, "", 0.0
        self.last_delivered, self.last_answer = self._clock.wall(), answer
        return answer

    def _failed(self, delivery: Delivery, error: DeliveryError, since: float) -> Delivery:
        delivery = msgspec.structs.replace(delivery, answer=error.message)
        now, wall = self._clock.monotonic(), self._clock.wall()
        if not error.retry:
            self.counts["failed"] += 1
            log.error("the alert channel %s does not take %r: %s", self.name, delivery.title, error)
            return msgspec.structs.replace(delivery, state=DeliveryState.failed)
        self._failures += 1
        self.counts["retries"] += 1
        wait = backoff(self._failures, FIRST, LONGEST) if error.after is None else max(error.after, 0.5)
        self._not_before = now + wait
        log.warning("the alert channel %s failed (%d.), next try in %.0f s: %s", self.name, self._failures, wait, error)
        if now - since >= self._give_up:
            self.counts["given_up"] += 1
            return msgspec.structs.replace(delivery, state=DeliveryState.given_up)
        return msgspec.structs.replace(delivery, next_try=wall + wait)

    def _clean(self, text: str) -> str:
        for secret in self._adapter.hidden if self._adapter is not None else ():
            if secret:
                text = text.replace(secret, "•••")
        return one_line(text, 300)

    def status(self, *, quiet: bool) -> ChannelStatus:
        """How it is now."""
        health, reason, step = self._health()
        dropped = self.counts["dropped"] + self.counts["given_up"]
        return ChannelStatus(
            self.name, self.wanted.kind, target(self.wanted), health, reason, step, quiet, len(self.waiting),
            self.counts["delivered"], self.counts["failed"], self.counts["retries"], self.counts["merged"], dropped,
            self.last_delivered, self.last_answer,
        )  # fmt: skip

    def _health(self) -> tuple[Health, str, str]:
        if not self.enabled:
            return Health.absent, "disabled in the settings", f"set alerts.channels.{self.name}.enabled = true."
        if isinstance(self._lack, AbsentError):
            return Health.absent, self._lack.message, self._lack.next_step
        if self._lack is not None:
            return Health.unhealthy, self._lack.message, self._lack.next_step
        if self._fault:
            often = f"{counted(self._failures, 'time')} in a row: " if self._failures else ""
            return Health.unhealthy, f"{often}{self._fault}", self._step
        if len(self._sent) == self.wanted.per_hour and self.waiting:
            return Health.degraded, f"more than {self.wanted.per_hour} messages in an hour: others wait", "see per_hour."
        if not self.last_delivered:
            return Health.healthy, "nothing was to be delivered yet", f"try it: `prime-spark alert test {self.name}`."
        return Health.healthy, "it delivers", ""

    async def close(self) -> None:
        """Let go of its way out."""
        if self._adapter is not None:
            await self._adapter.close()


def merged(before: Notice, after: Notice) -> Notice:
    """A later message of a group, with what only the earlier one told: nothing of that was delivered."""
    told = {note.alert_id: note for note in (*before.notes, *after.notes)}
    why = after.why if before.why == after.why else "changed"
    return msgspec.structs.replace(after, notes=tuple(told.values()), why=why)


def target(wanted: AlertChannel) -> str:
    """Where a channel goes, without what may be secret."""
    if wanted.kind == "email":
        return ", ".join(wanted.to)
    if wanted.kind == "speech":
        return wanted.device or "default sound device"
    host = wanted.url.partition("://")[2].partition("/")[0].partition("?")[0]
    host = host if "{" not in host else "by template"
    return f"{host} {wanted.topic}".strip()
