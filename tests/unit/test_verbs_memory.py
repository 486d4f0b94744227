"""The memory's answers on the command line: tables with dates, sizes and spans, and nothing that steers a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from appliance.verbs import render
from appliance.verbs.memory import FORMS

NOW = time.time()
ENTRY = {
    "key": "plans:harvest", "kind": "json", "size": 2048, "tiers": ["redis", "disk"], "owed": ["documents"], "unknown": [],
    "age_s": 75.2, "ttl_s": 7200.0, "pinned": True, "hits": 3, "tags": ["a"], "checksum": "0123456789ab", "device": "pc",
}  # fmt: skip
TIER = {
    "name": "disk", "level": 2, "health": "unhealthy", "reason": "no space", "next_step": "make room.", "entries": None,
    "size": 220_000, "limit": 4 << 30, "hits": 3, "misses": 1, "errors": 2, "evictions": 5, "owed": 12, "oldest_owed_s": 180.0,
    "p50_ms": 0.25, "p99_ms": 12.34,
}  # fmt: skip
STATUS = {
    "tiers": [TIER], "hits": 3, "misses": 1, "fetches": 7, "coalesced": 0, "corrupt": 0, "conflicts": 2, "p50_ms": None,
    "p99_ms": None,
}  # fmt: skip
RUN = {
    "tier": "documents", "started": NOW, "ended": NOW + 1, "pushed": 1, "pulled": 2, "conflicts": 0, "waiting": 4,
    "sent_bytes": 2048, "received_bytes": 100, "error": "", "next_step": "",
}  # fmt: skip
SYNC = {
    "tiers": ["documents"], "runs": [RUN], "interval_s": 300.0, "owed": {"documents": 2}, "conflicts_detected": 4,
    "conflicts_resolved": 0,
}  # fmt: skip
CONFLICT = {
    "conflict_id": "01a1fd37-af2a-71a7-a16c-f2efb2e74496", "key": "plans:harvest", "tier": "documents", "detected": NOW,
    "mine_device": "pc", "mine_modified": None, "theirs_device": "pi", "theirs_modified": NOW, "reason": "Both changed it.",
    "seen": "0a1b2c3d.4e5f6a7b",
}  # fmt: skip
FOUND = {
    "meta": {"namespace": "plans", "key": "harvest", "modified": NOW - 4000, "tags": ["a"]}, "snippet": "the [wash]\n again",
    "rank": 0.0607927,
}  # fmt: skip
SAME = {"left": "{", "right": "{", "mark": "same", "by": ""}
CHANGED = {"left": "\x1b[31ma", "right": "b", "mark": "changed", "by": "mine"}
COMPARED = {
    **CONFLICT, "rows": [SAME, CHANGED], "mine_deleted": False, "theirs_deleted": False, "base": ["{"], "mergeable": False,
    "unmergeable": "both changed it", "merged": None, "editable": "{}", "kind": "json",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("memory.list", {"entries": [ENTRY], "cursor": "a b"}, ["2.0 KiB", "1 min", "2 h", "documents*", "--cursor 'a b'"]),
        ("memory.list", {"entries": [{**ENTRY, "unknown": ["redis"]}], "cursor": ""}, ["redis?", "? cannot be asked now"]),
        ("memory.list", {"entries": [], "cursor": ""}, ["no keys"]),
        (
            "memory.status",
            STATUS,
            ["2 disk", "214.8 KiB", "75 %", "0.25/12", "12, 3 min", "no space; 5 evictions; 2 errors. Next"],
        ),
        ("sync.status", SYNC, [time.strftime("%Y-%m-%d", time.localtime(NOW)), "2.0 KiB", "100 B", "owed: documents 2"]),
        ("sync.status", {**SYNC, "runs": [], "tiers": []}, ["no cloud tier is configured"]),
        ("memory.status", {**STATUS, "tiers": [{**TIER, "reason": "disk: no space"}]}, ["\n\ndisk: no space; 5"]),
        ("memory.status", {**STATUS, "tiers": [{**TIER, "reason": "disk at x fails"}]}, ["\n\ndisk at x fails; 5"]),
        ("memory.search", [FOUND], ["plans:harvest", "the [wash]", "0.061", "1 h", "key", "snippet", "rank", "age"]),
        ("memory.delete", {"key": "a:b", "deleted": True, "not_asked": []}, ["a:b is deleted in every tier"]),
        (
            "memory.delete",
            {"key": "a:b", "deleted": True, "not_asked": ["nas"]},
            ["not reached now, so it is", "there later: nas"],
        ),
        ("sync.conflicts", [CONFLICT], ["e74496", "plans:harvest", "pi", "sync resolve"]),
        ("sync.conflict", COMPARED, ["no clean merge: both changed it", r" |m b", "mine: pc", "--seen 0a1b2c3d.4e5f6a7b"]),
    ],
)
def test_an_answer_is_a_table_that_fits(name: str, value: Any, shown: list[str]) -> None:
    text = render.formed(FORMS, name, value, 80, colour=False)
    assert text is not None
    assert [part for part in shown if part not in text] == [], text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_a_wide_terminal_has_more_columns() -> None:
    texts = [
        render.formed(FORMS, "memory.list", {"entries": [ENTRY], "cursor": ""}, width, colour=False) or ""
        for width in (80, 140)
    ]
    assert ["0123456789ab" in text for text in texts] == [False, True]
    texts = [render.formed(FORMS, "memory.status", STATUS, width, colour=False) or "" for width in (80, 140)]
    assert ["evicted" in text for text in texts] == [False, True]


@pytest.mark.parametrize(("name", "value"), [("memory.get", {"key": "a"}), ("memory.status", None), ("sync.conflicts", [])])
def test_other_answers_have_the_general_form(name: str, value: Any) -> None:
    assert render.formed(FORMS, name, value, 80, colour=False) is None


def test_tables_need_no_textual() -> None:
    """The command line starts without it."""
    import subprocess

    code = "import sys, appliance.verbs.memory; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
