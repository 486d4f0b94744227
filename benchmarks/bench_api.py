"""REST: requests a second on the state and on kept answers, and the memory of many event streams.

The appliance has one core, the load generator the other one. Where other programs want the processors too, it is theirs as
well; the appliance's own processor time for a request says what one core can do.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from appliance.core.figures import percentile
from benchmarks.api_load import Wanted, load
from benchmarks.api_rig import Place, appliance
from benchmarks.rows import Figure, at_least, at_most

STREAMS, ROUNDS = 500, 3
PROMPT = b'{"prompt": "Why is the sky blue?", "temperature": 0}'
ASKED: dict[str, tuple[str, bytes]] = {
    "a section of the state": ("/api/v1/state/host", b""),
    "the whole state": ("/api/v1/state", b""),
    "power, by its own name": ("/api/power/status", b""),
    "a question about a metric, kept": ("/api/v1/analytics/query?metric=cpu_usage&range=1h", b""),
    "a language model's answer, kept": ("/api/llm/generate", PROMPT),
}


def run() -> list[Figure]:
    """All figures."""
    figures: list[Figure] = []
    with appliance(0) as place:
        time.sleep(3)  # the state fills
        for what, (path, body) in ASKED.items():
            figures += _asked(place, what, path, body)
        figures += _crowd(place)
    return figures


def _asked(place: Place, what: str, path: str, body: bytes) -> list[Figure]:
    requests = [_request(token, path, body) for token in place.tokens]
    load(Wanted(place.port, 1, requests, connections=2, seconds=0.2))
    before = _cpu(place.pid)
    found = load(Wanted(place.port, 1, requests))
    if found.wrong:
        raise RuntimeError(f"{path}: {found.wrong} answers were wrong: {found.first}")
    busy = _cpu(place.pid) - before
    rate = len(found.times) / found.seconds
    own = (found.seconds + 0.5) * rate / busy if busy else 0.0
    return [
        at_least(f"{what}: requests", rate, "1/s", 1000, "its own processor time allows", own),
        at_most(f"{what}: p95", 1000 * percentile(found.times, 0.95), "ms", 50),
    ]


def _request(token: str, path: str, body: bytes = b"") -> str:
    method, more = ("POST", f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n") if body else ("GET", "")
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}\r\n{body.decode()}"


def _crowd(place: Place) -> list[Figure]:
    """MiB that the process grows by with so many streams, and from the first round of them to the last."""
    requests = [_request(token, "/api/v1/events") for token in place.tokens]
    wanted = msgspec.json.encode(Wanted(place.port, 1, requests, streams=STREAMS)) + b"\n"
    bare, sizes = _rss(place.pid), []
    for _ in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.api_load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(wanted)
            child.stdin.flush()
            opened = int(child.stdout.readline())
            if opened != STREAMS:
                raise RuntimeError(f"only {opened} of {STREAMS} streams opened")
            time.sleep(3)  # events come meanwhile
            sizes.append(_rss(place.pid))
            child.stdin.write(b"\n")
            child.stdin.close()
            child.stdout.read()
        time.sleep(1)
    return [
        Figure(f"{STREAMS} streams: memory", round((sizes[0] - bare) / 2**20, 1), "MiB"),
        at_most(f"{STREAMS} streams: growth from round 1 to {ROUNDS}", (sizes[-1] - sizes[0]) / 2**20, "MiB", 10),
    ]


def _cpu(pid: int) -> float:
    """Seconds of the processor that a process has had (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _rss(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
