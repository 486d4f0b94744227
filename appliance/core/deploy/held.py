"""A replica as the keeper holds it while the appliance runs: what is kept of it, how it is, and who looks after it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from appliance.core.deploy.haproxy import SPARE, WATCHED, ServerLine
from appliance.core.deploy.model import Fitness, Replica, ReplicaState
from appliance.core.deploy.policy import Sight
from appliance.core.deploy.pulse import Pulse


@dataclass
class Held:
    """One replica.

    Attributes:
        replica: As it is on disk.
        pulse: What its checks said.
        checked: Wall clock of the last check.
        check_ms: What it took.
        silent_since: Monotonic instant from which its node has not answered.
        failed_since: Monotonic instant from which it has not worked.
        again: Monotonic instant before which what failed is not tried again.
        tries: Of what is under way, that failed.
        confirmed: Monotonic instant at which its node last said that it runs.
        asking: Its checks fail, and its node is being asked: until it has answered nobody blames the replica.
        ending: It was told to stop, which may not be on disk yet.
        act: Starts or stops it.
        watch: Looks at it.
    """

    replica: Replica
    pulse: Pulse = field(default_factory=Pulse)
    checked: float | None = None
    check_ms: float | None = None
    silent_since: float | None = None
    failed_since: float | None = None
    again: float = 0.0
    tries: int = 0
    confirmed: float = float("-inf")
    asking: bool = False
    ending: bool = False
    act: asyncio.Task[None] | None = None
    watch: asyncio.Task[None] | None = None

    @property
    def acting(self) -> bool:
        """Whether a command for it is under way."""
        return self.act is not None and not self.act.done()

    @property
    def server(self) -> str:
        """Its name in the balancer: never used twice, so that counts of one do not become another's."""
        return f"r{self.replica.revision}.{self.replica.node}.{self.replica.port}.{self.replica.replica_id[-6:]}"

    @property
    def serves(self) -> bool:
        """It may have requests; one that ran before the appliance was started is believed in until a check says otherwise."""
        good = self.pulse.fitness is Fitness.healthy or (self.pulse.fitness is Fitness.unknown and not self.pulse.bad)
        return self.replica.state is ReplicaState.running and good

    def sight(self, now: float) -> Sight:
        """For the policy.

        Args:
            now: Monotonic.
        """
        state, pulse = self.replica.state, self.pulse
        if self.asking and pulse.fitness is Fitness.unhealthy:
            pulse = msgspec.structs.replace(pulse, fitness=Fitness.unknown)
        bad_since = self.failed_since if state is ReplicaState.failed else pulse.since
        bad = state is ReplicaState.failed or pulse.fitness is Fitness.unhealthy
        return Sight(
            self.replica.replica_id, self.replica.revision, self.replica.node, state, pulse.fitness, self.replica.port,
            healthy_s=now - pulse.since if pulse.fitness is Fitness.healthy else 0.0,
            bad_s=max(0.0, now - bad_since) if bad and bad_since is not None else 0.0,
            silent_s=now - self.silent_since if self.silent_since is not None else 0.0,
            reason=self.replica.reason if state in {ReplicaState.failed, ReplicaState.lost} else pulse.reason,
        )  # fmt: skip

    def stop_looking(self) -> None:
        """Nobody looks at it any more."""
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None


def taken_up(replica: Replica, now: float) -> Held:
    """A replica that was on disk, at a monotonic instant."""
    silent, failed = replica.state is ReplicaState.lost, replica.state is ReplicaState.failed
    return Held(replica, silent_since=now if silent else None, failed_since=now if failed else None)


def portions(helds: Iterable[Held], shares: Mapping[int, float], revisions: Collection[int]) -> dict[int, float]:
    """Revision → percent of the traffic that each of its replicas is given.

    Args:
        helds: All replicas of the service.
        shares: Revision → percent; empty: every replica of `revisions` has the same.
        revisions: Those that are wanted now; what is left of others (on a node that is back) has nothing, unless nobody else
            serves.
    """
    serving = [held.replica.revision for held in helds if held.serves]
    mine = sum(each in revisions for each in serving)
    given = {each: 100.0 / mine if each in revisions else 0.0 for each in serving} if mine else {}
    if shares:
        given = {each: shares.get(each, 0.0) / serving.count(each) for each in serving}
    return given if any(given.values()) else dict.fromkeys(serving, 100.0 / max(1, len(serving)))


def lines(
    helds: list[Held], shares: Mapping[int, float], revisions: Collection[int], watched: int = 0, spare: int = 0
) -> tuple[ServerLine, ...]:
    """Servers of a front: who serves has a share, who stops drains, nobody else is there.

    Args:
        helds: As in `portions`.
        shares: As there.
        revisions: As there.
        watched: Revision that is left by its requests as soon as it cannot be connected to; 0 for none.
        spare: Revision that they go to where nobody else can be connected to; 0 for none.
    """
    given = portions(helds, shares, revisions)
    found = []
    for held in helds:
        if held.serves:
            replica, share = held.replica, given[held.replica.revision]
            name = held.server + (WATCHED if replica.revision == watched else "")
            found.append(ServerLine(name, replica.address, replica.port, share))
            if replica.revision == spare and not share:
                found.append(ServerLine(held.server + SPARE, replica.address, replica.port, 0.0))
        elif held.replica.state is ReplicaState.stopping:
            name = held.server + (WATCHED if held.replica.revision == watched else "")
            found.append(ServerLine(name, held.replica.address, held.replica.port, 0.0, draining=True))
    return tuple(found)
