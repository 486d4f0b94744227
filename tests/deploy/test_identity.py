"""Who answers at a replica's port: the replica itself, something foreign, or what an earlier version left behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.core.deploy.held import Held, lines, portions
from appliance.core.deploy.model import Fitness, Replica, ReplicaState
from appliance.core.deploy.pulse import Pulse
from tests.deploy.rig import Load, Rig
from tests.support import wait_for

FOREIGN = """
import socket, sys, time
body = b'{"status": "up", "version": "foreign"}'
head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n" % len(body)
here = socket.socket()
here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        here.bind(("127.0.0.1", int(sys.argv[1])))
        break
    except OSError:
        time.sleep(0.01)
here.listen(64)
while True:
    peer, _ = here.accept()
    peer.recv(4096)
    peer.sendall(head + body)
    peer.close()
"""


@contextmanager
def foreign(port: int) -> Iterator[None]:
    """A program that takes a port as soon as it is free, and answers as if it were well."""
    child = subprocess.Popen([sys.executable, "-S", "-c", FOREIGN, str(port)])
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def test_a_foreign_program_that_answers_well_is_not_taken_for_the_replica(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=1, restart=600).replace("\ninterval = 0.3", "\ninterval = 4"))
    replica = rig.web().replicas[0].replica
    with foreign(replica.port):
        rig.nodes[replica.node].end_services()
        await wait_for(lambda: rig.web().replicas[0].replica.state is ReplicaState.failed, 30)
        assert rig.web().health == "unhealthy"
        assert rig.service.discovery.endpoints("web") == ()


async def test_what_comes_back_with_its_node_gets_nothing_before_it_was_looked_at(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=3, replace=600, restart=600))
    held = next(iter(rig.keeper.helds.values()))
    node = rig.nodes[held.replica.node]
    node.die()
    await wait_for(lambda: held.replica.state is ReplicaState.lost, 30)
    rig.mood("1", "hangs")
    unit = f"ps-web-r1@{held.replica.port}.service"
    node.start()
    seen = []
    async with Load(rig.listen, rate=20):
        await asyncio.to_thread(
            subprocess.run, ["nsenter", "-t", str(node.child.pid), "-m", "systemctl", "start", unit], check=True
        )
        await wait_for(lambda: seen.append((held.replica.state, held.serves)) or held.replica.state is ReplicaState.running, 30)
    assert not any(serves for _, serves in seen)
    assert held.pulse.fitness is Fitness.starting
    rig.mood("1", "good")
    await wait_for(lambda: held.serves, 20)


def one(revision: int, port: int, state: ReplicaState = ReplicaState.running) -> Held:
    return Held(Replica(f"id-{port}", "web", revision, str(revision), "n", port, state), Pulse(Fitness.healthy))


def test_what_is_left_of_another_version_gets_no_traffic() -> None:
    helds = [one(1, 1), one(2, 2), one(2, 3), one(2, 4, ReplicaState.stopping)]
    given = {line.port: (line.share, line.draining) for line in lines(helds, {}, (2,))}
    assert given == {1: (0.0, False), 2: (50.0, False), 3: (50.0, False), 4: (0.0, True)}
    assert portions(helds, {1: 10.0, 2: 90.0}, (1, 2)) == {1: 10.0, 2: 45.0}
    assert portions(helds[:1], {2: 100.0}, (2,)) == {1: 100.0}  # nobody else is there to answer


async def test_what_is_told_to_stop_is_told_once_however_slow_the_disk_is(rig: Rig) -> None:
    await rig.deployed(rig.spec("1", replicas=1, front=False))
    held, keep = next(iter(rig.keeper.helds.values())), rig.ground.book.keep_replica
    kept: list[ReplicaState] = []
    allowed = asyncio.Event()

    async def slow(replica: Replica) -> None:
        kept.append(replica.state)
        await allowed.wait()
        await keep(replica)

    rig.ground.book.keep_replica = slow  # type: ignore[method-assign]
    await rig.desk.remove("web", "alice")
    await wait_for(lambda: kept, 20)
    for _ in range(3):  # turns while the stop is not on disk yet
        async with rig.keeper.lock:
            await rig.keeper.turn()
    assert kept == [ReplicaState.stopping]
    allowed.set()
    await wait_for(lambda: rig.keeper.done, 30)
    assert held.replica.state is ReplicaState.stopping
