"""What channels are trusted with stands in no record, no log, and no answer that a server sends back."""

from __future__ import annotations

import logging

import pytest

from tests.alerts.rig import QUICK, alert, settings
from tests.alerts.sink import Sink
from tests.alerts.test_office import Make, hooked

EVERYTHING = (
    "SELECT CAST(record AS TEXT), CAST(notice AS TEXT) FROM alert_deliveries "
    "UNION ALL SELECT CAST(labels AS TEXT), CAST(notes AS TEXT) FROM alert_told"
)


async def test_secrets_are_in_no_record_and_no_log(desk: Make, server: Sink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wanted = settings(
        channels={"hook": {"kind": "http", "url": server.url + "/{{ secret }}", "secret": "bot", "body": "{}"}},
        routes={"all": {"channels": ["hook"], **QUICK}},
    )
    first = await desk(settings())
    first.secrets.put("bot", b"top:s3cr3t\n")
    here = await desk(wanted)
    server.answer((200, {}, b"hello top:s3cr3t"), (500, {}, b"no top:s3cr3t"))
    for index in range(2):
        await here.see(alert("node", f"n{index}"), seconds=2)
        await here.deliver()
    assert server.got[0].line == "POST /top:s3cr3t HTTP/1.1"
    kept = await here.store.read(lambda connection: str(connection.execute(EVERYTHING).fetchall()))
    assert "•••" in kept
    assert "s3cr3t" not in kept + caplog.text + repr(here.office.status())


async def test_an_echoed_login_is_blotted_out(desk: Make, server: Sink) -> None:
    first = await desk(settings())
    first.secrets.put("pw", b"correct horse\n")
    here = await desk(hooked(server, secret="pw", username="ada", headers={"Authorization": "none"}))
    await here.see(alert())
    server.answer((401, {}, b"no: Basic YWRhOmNvcnJlY3QgaG9yc2U="))
    await here.deliver()
    assert server.got[0].headers["authorization"] == "Basic YWRhOmNvcnJlY3QgaG9yc2U="
    assert here.status().last_answer.endswith("no: Basic •••")
