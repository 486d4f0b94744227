"""What operators do with deployments: plan, apply, give up, go back, scale, pause, remove."""

from __future__ import annotations

import asyncio
import difflib
import math

import msgspec

from appliance.core.deploy import policy
from appliance.core.deploy.hiding import hidden, turned
from appliance.core.deploy.keeper import Keeper
from appliance.core.deploy.model import ENDED, DeployEvent, Kind, Rollout, Stage, Strategy, Version
from appliance.core.deploy.placing import place
from appliance.core.deploy.service import DeployService
from appliance.core.deploy.spec import ServiceSpec, parse, slots_needed
from appliance.core.events import new_id
from appliance.core.figures import counted
from appliance.errors import ConflictError, InvalidArgumentsError, NotFoundError

FAR = 2000
"""Lines of a difference that are shown."""


class Planned(msgspec.Struct, frozen=True):
    """What applying a specification would do. Nothing was done."""

    service: str
    version: str
    strategy: Strategy
    from_version: str
    """Empty where nothing runs."""
    replicas: int
    unchanged: bool
    """It is deployed so already."""
    steps: tuple[str, ...]
    """In words."""
    places: tuple[str, ...]
    """NODE:PORT where the new replicas would go as things are."""
    diff: str
    warnings: tuple[str, ...] = ()


class History(msgspec.Struct, frozen=True):
    """What was done with a service."""

    versions: tuple[Version, ...]
    rollouts: tuple[Rollout, ...]
    events: tuple[DeployEvent, ...]


class Desk:
    """Implements the actions.

    Args:
        service: Runs deployments.
    """

    def __init__(self, service: DeployService) -> None:
        self.service = service
        self._book = service.ground.book
        self._ordering = asyncio.Lock()
        """Held from the look at the other services until an order is known to all."""

    def keeper(self, name: str) -> Keeper:
        """Of a service. Raises NotFoundError."""
        self.service.discovery.front(name)
        return self.service.keepers[name]

    # -- plan and apply

    async def plan(self, document: str) -> Planned:
        """What applying would do.

        Raises:
            InvalidArgumentsError: The specification is wrong.
            NotFoundError: A node or a secret is not there.
            AbsentError: It needs a balancer, and HAProxy is not installed.
            ConflictError: There is not room for it, or another service has the ports.
            StoreError: The disk does not answer.
        """
        spec = parse(document)
        keeper = self.service.known(spec.name)
        now = keeper.specs.get(keeper.wanted.revision) if keeper is not None else None
        same = now == spec and keeper is not None and keeper.position is None and not keeper.wanted.removing
        self.service.ground.nodes(spec)  # every name in it has to be known
        sites = self.service.ground.sites(spec)
        await self._check_secrets(spec)
        if spec.front is not None:
            self.service.needs_balancer(f"{spec.name} wants its traffic directed ([front])")
        self._check_neighbours(spec, {site.node for site in sites})
        replicas = self._replicas(spec, keeper)
        before = keeper.wanted.replicas if keeper is not None and now is not None else 0
        places, need = len(sites) * spec.ports.count, slots_needed(spec, max(replicas, before))
        if need > places:
            step = "widen [ports] count, take more nodes, or choose recreate or rolling with surge = 0 and unavailable = 1."
            raise ConflictError(f"{spec.name} needs {need} places at its fullest, and its nodes and ports give {places}.", step)
        held = [] if keeper is None else [(held.replica.node, held.replica.port) for held in keeper.helds.values()]
        found = place(replicas, sites, spec.ports, set(held), ())
        label = keeper.label(keeper.wanted.revision) if keeper is not None and now is not None else ""
        old = keeper.versions[keeper.wanted.revision].document if keeper is not None and now is not None else ""
        warnings = [f"{site.node} does not answer or is set aside: nothing goes there" for site in sites if not site.usable]
        if now is not None and now.front != spec.front:
            warnings.append(
                "the balancer's port changes as soon as the rollout begins: nobody answers at the old one from then on"
            )
        if spec.health.kind == "none":
            warnings.append("without a health check only a replica that ends is noticed")
        if others := turned(now.environment if now is not None else {}, spec.environment):
            warnings.append(f"values of the environment change, and are not shown: {', '.join(others)}")
        return Planned(
            spec.name, spec.version, spec.rollout.strategy, label, replicas, unchanged=same and before == replicas,
            steps=tuple(in_words(spec, replicas, before)), places=tuple(f"{node}:{port}" for node, port in found),
            diff=await asyncio.to_thread(difference, old, document, label, spec.version), warnings=tuple(warnings),
        )  # fmt: skip

    @staticmethod
    def _replicas(spec: ServiceSpec, keeper: Keeper | None) -> int:
        """How many a new version gets: a service that scales itself keeps what it has, within its bounds."""
        if spec.scaling is None:
            return spec.replicas
        current = keeper.wanted.replicas if keeper is not None and keeper.wanted.revision else spec.replicas
        return max(spec.scaling.least, min(spec.scaling.most, current))

    async def _check_secrets(self, spec: ServiceSpec) -> None:
        for variable, name in spec.secrets.items():
            if not await asyncio.to_thread(self.service.ground.secrets.text, name):
                step = f"give it: prime-spark deploy secret {name}"
                raise NotFoundError(f"There is no secret {name}, which {spec.name} wants as {variable}.", step)

    def _check_neighbours(self, spec: ServiceSpec, nodes: set[str]) -> None:
        """Two services on one node must not want the same ports, nor two fronts. Raises ConflictError."""
        mine = range(spec.ports.first, spec.ports.first + spec.ports.count)
        for name, keeper in self.service.keepers.items():
            other = keeper.spec
            if name == spec.name or other is None or keeper.wanted.removing:
                continue
            if spec.front is not None and other.front is not None and spec.front.listen == other.front.listen:
                raise ConflictError(f"{name} listens on port {spec.front.listen} already.", "choose another [front] listen.")
            theirs = range(other.ports.first, other.ports.first + other.ports.count)
            shared = nodes & {node.name for node in self.service.ground.present(other)}
            if shared and mine.start < theirs.stop and theirs.start < mine.stop:
                told = f"{name} has ports {theirs.start} to {theirs.stop - 1} on {min(shared)}, which overlap with yours"
                raise ConflictError(f"{told}.", "choose another [ports] first.")

    async def apply(self, document: str, who: str) -> Rollout | None:
        """Deploy; returns the rollout that was begun, None where it is deployed so already. Raises as `plan`."""
        async with self._ordering:
            return await self._apply(document, who)

    async def _apply(self, document: str, who: str) -> Rollout | None:
        planned = await self.plan(document)
        if planned.unchanged:
            return None
        spec = parse(document)
        keeper = self.service.known(spec.name)
        clock = self.service.ground.clock
        now = keeper.wanted.revision if keeper is not None else 0
        version = Version(spec.name, 0, spec.version, clock.wall(), who, document)
        rollout = Rollout(
            new_id(), spec.name, now, 0, spec.rollout.strategy, who, clock.wall(),
            from_replicas=keeper.wanted.replicas if keeper is not None and now else 0, to_replicas=planned.replicas,
        )  # fmt: skip
        made, kept = await self._book.order(version, planned.replicas, rollout)
        keeper = self.service.take(await self._book.service(spec.name))
        async with keeper.lock:
            keeper.learn(made)
            await self._begin(keeper, kept)
        return kept

    async def _begin(self, keeper: Keeper, rollout: Rollout) -> None:
        position = policy.begin(rollout)
        self.service.ground.traffic.begin(keeper.name)
        keeper.position, keeper.last = position, position.rollout
        label, number = keeper.label(rollout.to_revision), rollout.to_revision
        await keeper.note(
            "operator", f"{rollout.owner} deploys version {label} (revision {number}), {rollout.strategy}", "info"
        )
        keeper.poke()

    # -- during a rollout

    def _live(self, name: str) -> tuple[Keeper, Rollout]:
        keeper = self.keeper(name)
        if keeper.position is None:
            raise ConflictError(f"{name} is not being rolled out.", "there is nothing to pause or resume.")
        return keeper, keeper.position.rollout

    async def pause(self, name: str, who: str) -> Rollout:
        """Hold a rollout where it is; a version that fails is taken back all the same. Raises ConflictError."""
        return await self._hold(name, who, f"{who} paused it")

    async def resume(self, name: str, who: str) -> Rollout:
        """Let it go on. Raises ConflictError."""
        return await self._hold(name, "", f"{who} lets it go on")

    async def _hold(self, name: str, paused_by: str, told: str) -> Rollout:
        async with self.keeper(name).lock:
            return await self._hold_locked(name, paused_by, told)

    async def _hold_locked(self, name: str, paused_by: str, told: str) -> Rollout:
        keeper, rollout = self._live(name)
        if rollout.stage is Stage.rolling_back:
            raise ConflictError(f"{name} is being rolled back.", "wait for its end.")
        if bool(rollout.paused_by) == bool(paused_by):
            raise ConflictError(f"{name} is {'paused already' if paused_by else 'not paused'}.", "there is nothing to do.")
        held = msgspec.structs.replace(rollout, paused_by=paused_by)
        await self._book.keep_rollout(held)
        if keeper.position is not None:
            keeper.position, keeper.last = msgspec.structs.replace(keeper.position, rollout=held, held=None), held
        await keeper.note("operator", told, "info")
        keeper.poke()
        return held

    async def rollback(self, name: str, who: str, revision: int | None = None) -> Rollout:
        """Give the rollout that is under way up; else go back to an earlier version.

        Args:
            name: Of the service.
            who: Asks for it.
            revision: Which one; the newest one before that was completed where it is not given.

        Raises:
            NotFoundError: There is no such service, or no such version.
            ConflictError: It is being rolled back already, another version was asked for in the middle, or another service
                has that version's ports by now.
        """
        keeper = self.keeper(name)
        async with self._ordering, keeper.lock:
            if keeper.position is not None:
                return await self._give_up(keeper, who, revision)
            return await self._go_back(keeper, who, revision)

    async def _go_back(self, keeper: Keeper, who: str, revision: int | None) -> Rollout:
        name, target = keeper.name, await self._target(keeper, revision)
        now, clock, spec = keeper.wanted, self.service.ground.clock, keeper.specs[target.revision]
        self._check_neighbours(spec, {node.name for node in self.service.ground.nodes(spec)})
        rollout = Rollout(
            new_id(), name, now.revision, target.revision, spec.rollout.strategy, who, clock.wall(),
            from_replicas=now.replicas if now.revision else 0, to_replicas=max(1, now.replicas),
        )  # fmt: skip
        kept = await self._book.order_back(rollout)
        await self._begin(keeper, kept)
        return kept

    async def _give_up(self, keeper: Keeper, who: str, revision: int | None) -> Rollout:
        position = keeper.position
        if position is None or position.rollout.stage is Stage.rolling_back or position.rollout.stage in ENDED:
            raise ConflictError(f"{keeper.name} is being rolled back already.", "wait for its end.")
        if revision not in {None, position.rollout.from_revision}:
            raise ConflictError(f"{keeper.name} is being rolled out.", "roll that back first, without --revision.")
        turned = policy.turn(position, f"{who} gave it up", self.service.ground.clock.monotonic())
        await self._book.keep_rollout(turned.rollout)
        keeper.position, keeper.last = turned, turned.rollout
        await keeper.note("operator", f"{who} gave the rollout up", "warning")
        keeper.poke()
        return turned.rollout

    async def _target(self, keeper: Keeper, revision: int | None) -> Version:
        if revision is not None:
            if revision == keeper.wanted.revision:
                raise ConflictError(f"{keeper.name} is at revision {revision} already.", "there is nothing to do.")
            found = await self._book.version(keeper.name, revision)
        else:
            good = [each for each in await self._book.versions(keeper.name) if each.outcome == Stage.completed.value]
            before = [each for each in good if each.revision < keeper.wanted.revision]
            if not before:
                raise NotFoundError(f"{keeper.name} has no earlier version that was completed.", "give --revision N.")
            found = before[0]
        if found.revision not in keeper.specs:
            raise ConflictError(f"Revision {found.revision} cannot be read by this version.", "apply its file again.")
        return found

    # -- otherwise

    async def scale(self, name: str, replicas: int, who: str) -> int:
        """Want another number of replicas; returns the number of before. Raises ConflictError, InvalidArgumentsError."""
        keeper = self.keeper(name)
        spec = keeper.specs.get(keeper.wanted.revision)
        if keeper.position is not None:
            raise ConflictError(f"{name} is being rolled out.", "wait for its end, then scale.")
        if spec is None or keeper.wanted.removing:
            raise ConflictError(f"{name} does not run.", "deploy it first.")
        if spec.scaling is not None and not spec.scaling.least <= replicas <= spec.scaling.most:
            bounds = f"{spec.scaling.least} to {spec.scaling.most}"
            raise InvalidArgumentsError(f"{name} scales itself within {bounds}.", "choose within, or change [scaling].")
        places = len(self.service.ground.present(spec)) * spec.ports.count
        if replicas > places:
            raise ConflictError(f"{name} has {places} places.", "widen [ports] count, or take more nodes.")
        async with keeper.lock:
            before = keeper.wanted.replicas
            await self._book.want(name, replicas=replicas)
            keeper.wanted = msgspec.structs.replace(keeper.wanted, replicas=replicas)
        await keeper.note("scale", f"{before} to {replicas} replicas: {who} wanted it", "info")
        keeper.poke()
        return before

    async def remove(self, name: str, who: str) -> int:
        """Stop a service and forget it; returns how many replicas are stopped. Raises ConflictError."""
        keeper = self.keeper(name)
        if keeper.position is not None:
            raise ConflictError(f"{name} is being rolled out.", f"give that up first: prime-spark deploy rollback {name}.")
        async with keeper.lock:
            await self._book.want(name, removing=1)
            keeper.wanted = msgspec.structs.replace(keeper.wanted, removing=True)
        await keeper.note("operator", f"{who} removes it", "warning")
        keeper.poke()
        return len(keeper.helds)

    async def history(self, name: str, limit: int) -> History:
        """Versions, rollouts, events, newest first; of a removed service its events. Raises NotFoundError, StoreError."""
        events = await self._book.events(name, limit)
        if not events:
            self.keeper(name)
        versions = (await self._book.versions(name))[:limit]
        return History(tuple(versions), tuple(await self._book.rollouts(name, limit)), tuple(events))


def difference(old: str, new: str, old_label: str, new_label: str) -> str:
    """Two specifications, as lines with "-" and "+"; empty where they are equal, or where there was none.

    Values of the environment are in none of them.
    """
    if not old:
        return ""
    lines = difflib.unified_diff(
        hidden(old).splitlines(), hidden(new).splitlines(), f"version {old_label}", f"version {new_label}", lineterm=""
    )
    return "\n".join(list(lines)[:FAR])


def in_words(spec: ServiceSpec, replicas: int, before: int) -> list[str]:
    """What a rollout does, step by step."""
    plan = spec.rollout
    what = f"{replicas} {'units' if spec.kind is Kind.unit else 'compose projects'} of version {spec.version}"
    watch = f"watch it for {plan.soak:g} s under all traffic; roll back where one becomes unhealthy"
    if not before:
        return [f"start {what}", watch]
    if plan.strategy is Strategy.recreate:
        return [f"stop all {before} old ones: the service is down from here", f"start {what}", watch]
    if plan.strategy is Strategy.rolling:
        least, most = max(0, replicas - plan.unavailable), replicas + plan.surge
        return [f"start {what}, {plan.batch} at a time", f"stop old ones as new ones are healthy: {least} to {most} run", watch]
    if plan.strategy is Strategy.blue_green:
        return [
            f"start {what} beside the old ones, without traffic",
            "turn all traffic over at once",
            watch,
            "stop the old ones",
        ]
    counts = [(percent, max(1, math.ceil(replicas * percent / 100))) for percent in plan.steps]
    held = f"of the traffic for {plan.step_seconds:g} s on"
    steps = [f"hold {percent:g} % {held} {counted(count, 'new one')}" for percent, count in counts]
    return [*steps, f"turn all traffic over to {what}", watch, "stop the old ones"]
