"""The supervision of one service: its life as a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from appliance.core.backoff import backoff
from appliance.core.doctor.binding import refusal
from appliance.core.figures import counted
from appliance.core.model import Health, HealthReport, Phase, ServiceStatus
from appliance.core.observe.spans import detach
from appliance.core.ports import Clock, Service
from appliance.errors import AbsentError, ApplianceError

log = logging.getLogger(__name__)

TRACED = 50
"""Errors of one service whose traceback is known to be in the log."""
RELAPSES = 100
"""Most that are counted."""


@dataclass(frozen=True)
class Policy:
    """How services are kept alive; times in seconds."""

    start_deadline: float = 20.0
    first_times: float = 3.0
    """So many times longer may the first start of each take: then all load at once, from a slow card, or emulated."""
    stop_deadline: float = 5.0
    probe_interval: float = 5.0
    probe_deadline: float = 3.0
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    breaker_failures: int = 5
    """Failures in a row after which the breaker opens."""
    breaker_rest: float = 120.0
    stable_after: float = 30.0
    """Running this long forgets earlier failures."""
    absent_retry: float = 30.0
    relapse_window: float = 600.0
    """How long it is remembered that a service came up and failed again."""

    @property
    def end_deadline(self) -> float:
        """How long a life may take to end: its run, then its stop, and a moment."""
        return 2 * self.stop_deadline + 0.5

    def delay(self, failures: int) -> float:
        """Seconds to wait after the nth failure in a row."""
        return backoff(failures, self.backoff_base, self.backoff_cap)


Publish = Callable[[ServiceStatus, ServiceStatus], None]


class Supervised:
    """One service with its status."""

    def __init__(
        self, service: Service, policy: Policy, clock: Clock, publish: Publish, phase_of: Callable[[str], Phase]
    ) -> None:
        self.service = service
        self._policy = policy
        self._clock = clock
        self._publish = publish
        self._phase_of = phase_of
        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[None] | None = None
        self._halting = False
        self._first = True
        self._poked = asyncio.Event()
        self._failures = 0
        self._came_up = False
        self._relapses: deque[float] = deque(maxlen=RELAPSES)
        self._traced: deque[str] = deque(maxlen=TRACED)
        self._trouble: HealthReport | None = None
        """What was last wrong; None again after a good probe."""
        self.status = ServiceStatus(
            service.name, service.summary, Phase.waiting, Health.degraded, "not started yet",
            since=clock.wall(), depends=service.depends, simulated=bool(getattr(service, "simulated", False)),
        )  # fmt: skip

    def launch(self) -> None:
        """Begin to keep the service alive; only after its life before has ended."""
        self._halting = False
        self._between(Phase.waiting, "waiting to start")
        self._task = asyncio.create_task(self._live(), name=f"service {self.service.name}")

    def reset(self) -> None:
        """Forget failures."""
        self._failures = 0
        self._relapses.clear()

    def poke(self) -> None:
        """Some other service changed: look at the dependencies again."""
        self._poked.set()

    def _alive(self) -> set[asyncio.Task[None]]:
        """What of the service's life has not ended."""
        return {task for task in (self._task, self._run) if task is not None and not task.done()}

    async def halt(self, deadline: float, why: str = "") -> bool:
        """Stop the service and its supervision; returns whether both ended within `deadline` seconds. `why` is told."""
        if self._task is not None and not self._task.done():
            self._between(Phase.stopping, "stopping")
            if not self._halting:  # a second cancellation would cut its clean-up short
                self._halting = True
                self._task.cancel()
        if alive := self._alive():
            await asyncio.wait(alive, timeout=deadline)
        hint = f"prime-spark service restart {self.service.name}"
        if self._alive():
            log.error("service %s did not stop within %g s", self.service.name, deadline)
            self._set(Phase.stopping, HealthReport(Health.unhealthy, f"did not stop within {deadline:g} s", hint))
            return False
        self._set(Phase.stopped, HealthReport(Health.degraded if why else Health.unhealthy, f"stopped {why}".strip(), hint))
        return True

    async def _live(self) -> None:
        detach()  # whoever has a service start, its life is no part of their request
        while True:
            await self._dependencies()
            try:
                await self._one_life()
            except AbsentError as error:
                self._trouble = None
                self._set(Phase.running, HealthReport(Health.absent, error.message, error.next_step))
                await asyncio.sleep(self._policy.absent_retry)
            except asyncio.CancelledError:
                if self._asked_to_stop():
                    raise
                await self._rest(RuntimeError("its work was cancelled, and nobody asked it to stop"))
            except Exception as error:  # noqa: BLE001 whatever a service raises is told, and it is started again
                await self._rest(error)

    @staticmethod
    def _asked_to_stop() -> bool:
        """Whether this task itself was cancelled, not something that it awaited."""
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0

    async def _dependencies(self) -> None:
        while waiting := [name for name in self.service.depends if self._phase_of(name) is not Phase.running]:
            self._between(Phase.waiting, f"waits for {', '.join(waiting)}")
            self._poked.clear()
            await self._poked.wait()

    async def _one_life(self) -> None:
        """Start, run and probe until something fails; always stop."""
        self._came_up = False
        if self.status.health is not Health.absent:  # what is looked for again now and then stays absent meanwhile
            self._between(Phase.starting, "starting")
        seconds = self._policy.start_deadline * (self._policy.first_times if self._first else 1)
        self._first = False
        try:
            async with asyncio.timeout(seconds) as limit:
                await self.service.start()
        except TimeoutError as error:
            await self._clean_up()
            if limit.expired():
                raise TimeoutError(f"start took longer than {seconds:g} s") from error
            raise
        except BaseException:
            await self._clean_up()
            raise
        try:
            await self._run_and_probe()
        finally:
            await self._clean_up()

    async def _run_and_probe(self) -> None:
        began = self._clock.monotonic()
        await self._probe()
        run = self._run = asyncio.create_task(self.service.run(), name=f"run {self.service.name}")
        try:
            while not run.done():
                await asyncio.wait({run}, timeout=self._policy.probe_interval)
                if not run.done():
                    await self._probe()
                if self._clock.monotonic() - began >= self._policy.stable_after:
                    self._failures = 0
            run.result()
            raise RuntimeError("the service ended by itself")
        finally:
            run.cancel()
            await asyncio.wait({run}, timeout=self._policy.stop_deadline)

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(self._policy.probe_deadline):
                report = await self.service.health()
        except TimeoutError:
            report = HealthReport(
                Health.unhealthy, f"no answer to the health probe in {self._policy.probe_deadline:g} s", self._more
            )
        except ApplianceError as error:
            report = HealthReport(Health.unhealthy, error.message, error.next_step)
        except Exception as error:
            log.error("health probe of %s failed: %s", self.service.name, error, exc_info=self._fresh(error))
            report = HealthReport(Health.unhealthy, f"{type(error).__name__}: {error}", self._more)
        self._came_up = self._came_up or report.health is not Health.unhealthy
        self._trouble = report if report.health is Health.unhealthy else None
        self._set(Phase.running, report, probed=True)

    async def _rest(self, error: Exception) -> None:
        """After a failure: say so, and wait for the next try."""
        self._failures += 1
        if self._came_up:
            self._relapses.append(self._clock.monotonic())
        broken = self._failures >= self._policy.breaker_failures
        rest = self._policy.breaker_rest if broken else self._policy.delay(self._failures)
        told = await self._explained(error)
        reason, times = told.message.rstrip("."), counted(self._failures, "failure") + " in a row" * (self._failures > 1)
        log.warning("service %s failed: %s (%s); next try in %.1f s", self.service.name, reason, times, rest,
                    exc_info=self._fresh(error) if told.__cause__ else None)  # fmt: skip
        self._trouble = HealthReport(Health.unhealthy, f"{reason} ({times})", told.next_step)
        again = self._clock.wall() + rest
        when = datetime.fromtimestamp(again).astimezone().strftime("%H:%M:%S")
        report = HealthReport(Health.unhealthy, f"{reason} ({times}, next try at {when})", told.next_step)
        self._set(Phase.resting if broken else Phase.retrying, report, failed=True, next_try=again)
        await asyncio.sleep(rest)

    async def _explained(self, error: Exception) -> ApplianceError:
        """The error in the operator's words; where there are none, one whose cause it is."""
        address: tuple[str, int] | None = getattr(self.service, "address", None)
        if isinstance(error, ApplianceError):
            return error
        if address is not None:
            try:
                if (known := await asyncio.to_thread(refusal, error, address[0], address[1], self.service.name)) is not None:
                    return known
            except Exception:
                log.exception("who holds the address of %s cannot be found", self.service.name)
        told = ApplianceError(f"{type(error).__name__}: {error}", self._more)
        told.__cause__ = error
        return told

    @property
    def _more(self) -> str:
        return f"the log has more: prime-spark log list --contains {self.service.name}"

    def _fresh(self, error: Exception) -> Exception | None:
        """The error where its traceback is not in the log yet: each stands there once, however often it comes again."""
        text = f"{type(error).__name__}: {error}"
        if text in self._traced:
            return None
        self._traced.append(text)
        return error

    def _relapsed(self) -> int:
        since = self._clock.monotonic() - self._policy.relapse_window
        return sum(moment >= since for moment in self._relapses)

    async def _clean_up(self) -> None:
        """Stop the service; a cancellation that comes meanwhile waits for it."""
        stop = asyncio.create_task(self._stop(), name=f"stop {self.service.name}")
        try:
            await asyncio.shield(stop)
        except asyncio.CancelledError:
            await stop
            raise

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(self._policy.stop_deadline):
                await self.service.stop()
        except TimeoutError:
            log.error("service %s did not stop within %g s", self.service.name, self._policy.stop_deadline)
        except Exception:
            log.exception("service %s failed while stopping", self.service.name)

    def _between(self, phase: Phase, reason: str) -> None:
        """Show a phase without a probe: what was wrong before stays wrong until a probe says otherwise."""
        bad = self._trouble
        if bad is None:
            self._set(phase, HealthReport(Health.degraded, reason))
        else:
            self._set(phase, HealthReport(Health.unhealthy, f"{reason}; before: {bad.reason}", bad.next_step))

    def _set(
        self, phase: Phase, report: HealthReport, *, probed: bool = False, failed: bool = False, next_try: float = 0.0
    ) -> None:
        before, now = self.status, self._clock.wall()
        same = before.phase is phase and before.health is report.health
        self.status = msgspec.structs.replace(
            before,
            phase=phase,
            health=report.health,
            reason=report.reason,
            next_step=report.next_step,
            details=report.details,
            since=before.since if same else now,
            checked=now if probed else before.checked,
            restarts=before.restarts + 1 if failed else before.restarts,
            next_try=next_try,
            relapses=self._relapsed(),
        )
        if self.status != before:
            self._publish(before, self.status)
