"""A job's end in a real appliance: the audit has the submission, the events have how it ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from appliance import config, paths
from appliance.core.events import Noted
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.runtime import Appliance

ADA = Actor("ada", Role.operator, "console")


async def test_the_end_of_a_job_is_an_event_and_its_submission_an_audit_row(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text("[ssh]\nenabled = false\n")
    (home / "words.txt").write_text("words " * 99)
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    where = paths.find()
    where.make()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    try:
        assert appliance.supervisor is not None
        await appliance.supervisor.settled()
        events = appliance.bus.subscribe("test", (Noted,))
        job: Any = await appliance.dispatcher.invoke("inference.run", {"paths": [str(home / "words.txt")]}, ADA)
        ended: list[Any] = []
        async with asyncio.timeout(20):
            while not ended:
                ended = [event for event in await events.batch() if isinstance(event, Noted) and event.event == "job.ended"]
        facts = ended[0].attributes
        assert (facts["job_id"], facts["owner"], facts["state"]) == (job.job_id, "ada", "failed")
        rows = [row for row in await appliance.audit.entries(10) if row.action == "inference.run"]
        assert [(row.actor, row.outcome) for row in rows] == [("ada", "ok"), ("ada", "started")]
    finally:
        await appliance.stop()
