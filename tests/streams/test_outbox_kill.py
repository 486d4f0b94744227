"""kill -9 while events come and go: what the journal acknowledged arrives, in order."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tests.streams.outbox_rig import Broker, Rig, number_of, running

ROUNDS = int(os.environ.get("PRIME_SPARK_EXAMPLES", "5"))


def killed(home: Path, first: int, seconds: float) -> str:
    """Run the child for some time and kill it; what it said."""
    command = [sys.executable, "-m", "tests.streams.outbox_killed", str(home), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        ends, said = time.monotonic() + seconds, b""
        while (left := ends - time.monotonic()) > 0:
            if select.select([child.stdout], [], [], left)[0]:
                said += os.read(child.stdout.fileno(), 65536)
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read()
        assert child.wait(10) == -signal.SIGKILL
    return said.decode()


async def test_what_the_journal_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: dict[str, list[int]] = {"note": [], "result": []}
    for life in range(ROUNDS):
        for line in killed(tmp_path, life * 1_000_000, chance.uniform(0.1, 0.5)).splitlines():
            if line.endswith("."):
                kind, number = line[:-1].split()
                acknowledged[kind].append(int(number))
    rig = Rig(tmp_path, Broker())
    async with running(rig):
        status = await rig.drained()
        assert (status.quarantined, status.dropped) == (0, 0)
    stored = [msgspec.json.decode(line) for line in (tmp_path / "broker").read_bytes().splitlines()]
    stored += [msgspec.json.decode(each.value) for each in rig.broker.stored]
    assert len(acknowledged["note"]) > 5 * ROUNDS
    for kind, name in (("note", "event.noted"), ("result", "inference.completed"), ("telemetry", "host.metrics")):
        numbers = [number_of(each) for each in first_time(stored, name)]
        assert numbers == sorted(numbers), kind
        assert len(numbers) == len(set(numbers)), f"{kind}: one number under several ids"
        assert set(acknowledged.get(kind, ())) <= set(numbers), kind


def first_time(stored: list[dict[str, object]], name: str) -> list[dict[str, object]]:
    """Envelopes of one type, each at its first coming."""
    found: dict[object, dict[str, object]] = {}
    for each in stored:
        if each["type"] == name:
            found.setdefault(each["id"], each)
    return list(found.values())


def test_the_first_coming_counts() -> None:
    came = [{"id": each, "type": "t", "place": place} for place, each in enumerate("baab")]
    assert [each["place"] for each in first_time([*came, {"id": "c", "type": "u"}], "t")] == [0, 1]
