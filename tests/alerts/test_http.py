"""Webhook, ntfy and templates against a real HTTP server: what is sent, what answers mean, and that secrets stay secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import logging
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from appliance import cli, paths
from appliance.core.alerts.channels.making import make_adapter
from appliance.core.alerts.channels.model import DeliveryError, Note, Notice
from appliance.core.alerts.channels.posting import Adapter, retry_after
from appliance.core.alerts.channels.rendering import NOTES, fingerprint, payload, text, title
from appliance.core.alerts.channels.templates import NAMES, compiled, filled, in_json
from appliance.core.model import Severity
from appliance.core.secrets import Secrets
from appliance.errors import AbsentError, ConfigError
from appliance.settingalerts import AlertChannel
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.alerts.sink import Sink
from tests.support import free_port

LABELS = {"alertname": "node", "device": "pc", "node": "nas", "severity": "critical", "subject": "nas"}
NASTY = 'a "quote", a \\ and a\nline end, <b> & \x1b[31m {{ 7 * 7 }}'


def note(subject: str = "nas", ends: float = 0.0, summary: str = "nas is unreachable") -> Note:
    labels = {**LABELS, "subject": subject, "node": subject}
    return Note(f"node:{subject}", Severity.critical, labels, {"summary": summary}, 1_700_000_000.0, ends)


def notice(*notes: Note) -> Notice:
    return Notice("hook", "r", '{}/{route="r"}:{alertname="node"}', {"alertname": "node"}, notes or (note(),))


def adapter(tmp_path: Path, **given: Any) -> Adapter:
    secrets = Secrets(tmp_path / "secrets", {})
    secrets.put("token", b"s3cr3t/ko:en\n")
    secrets.put("sign", b"whsec_" + base64.b64encode(b"k" * 24))
    return make_adapter(AlertChannel.model_validate(given), secrets, "pc", "https://spark.example.org")


def test_the_payload_is_alertmanagers() -> None:
    over = note("router", 1_700_000_060.0)
    made = payload(notice(note(), over), "https://spark.example.org")
    assert {name: made[name] for name in ("version", "status", "receiver", "truncatedAlerts", "externalURL")} == {
        "version": "4", "status": "firing", "receiver": "hook", "truncatedAlerts": 0, "externalURL": "https://spark.example.org",
    }  # fmt: skip
    assert made["groupKey"] == '{}/{route="r"}:{alertname="node"}'
    assert made["groupLabels"] == {"alertname": "node"}
    assert made["commonLabels"] == {"alertname": "node", "device": "pc", "severity": "critical"}
    assert made["commonAnnotations"] == {"summary": "nas is unreachable"}
    first, second = made["alerts"]
    assert (first["status"], first["startsAt"], first["endsAt"]) == (
        "firing", "2023-11-14T22:13:20.000Z", "0001-01-01T00:00:00Z",
    )  # fmt: skip
    assert (second["status"], second["endsAt"]) == ("resolved", "2023-11-14T22:14:20.000Z")
    assert len(first["fingerprint"]) == 16
    assert first["fingerprint"] != second["fingerprint"]


def test_the_fingerprint_is_that_of_prometheus_common() -> None:
    """Of the empty set the offset of FNV-1a; "a" and "b" worked out by hand with its definition."""
    assert fingerprint({}) == f"{14695981039346656037:x}"
    total = 14695981039346656037
    for byte in b"a\xffb\xff":
        total = ((total ^ byte) * 1099511628211) % 2**64
    assert fingerprint({"a": "b"}) == f"{total:016x}"


def test_long_messages_are_cut_and_say_so() -> None:
    many = notice(*(note(f"n{index}", summary="x" * 50) for index in range(NOTES + 20)))
    assert (len(payload(many, "")["alerts"]), payload(many, "")["truncatedAlerts"]) == (NOTES, 20)
    told = text(many, 3800)
    assert len(told.encode()) <= 3800
    assert told.endswith("further alerts")
    shown = told.count("critical node on")
    assert f"and {NOTES + 20 - shown} further" in told
    assert title(many) == "120 critical alerts: node"


async def test_a_webhook_is_signed_and_says_who_it_is(tmp_path: Path, server: Sink) -> None:
    hook = adapter(
        tmp_path,
        kind="webhook",
        url=f"{server.url}/hook?team=1",
        secret="token",
        signing_secret="sign",
        headers={"X-Team": "a"},
    )
    assert await hook.send(notice(), "id-1", 1_700_000_000.9) == "200 Said thanks"
    await hook.close()
    (got,) = server.got
    assert got.line == "POST /hook?team=1 HTTP/1.1"
    assert (got.headers["authorization"], got.headers["x-team"]) == ("Bearer s3cr3t/ko:en", "a")
    signed = hmac.new(b"k" * 24, b"id-1.1700000000." + got.body, hashlib.sha256).digest()
    assert got.headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()
    assert (got.headers["webhook-id"], got.headers["webhook-timestamp"]) == ("id-1", "1700000000")
    assert got.json["alerts"][0]["labels"] == LABELS


async def test_ntfy_gets_priority_tags_and_click(tmp_path: Path, server: Sink) -> None:
    ntfy = adapter(tmp_path, kind="ntfy", url=server.url, topic="spark", secret="token", username="ada", tags=["house"])
    await ntfy.send(notice(note(summary=NASTY)), "id-1", 0.0)
    await ntfy.send(notice(note(ends=1_700_000_060.0)), "id-2", 0.0)
    await ntfy.close()
    firing, over = (got.json for got in server.got)
    assert {name: firing[name] for name in ("topic", "title", "priority", "tags", "click")} == {
        "topic": "spark", "title": "CRITICAL: node nas", "priority": 5, "tags": ["rotating_light", "house"],
        "click": "https://spark.example.org",
    }  # fmt: skip
    assert "\x1b" not in firing["message"]
    assert (over["title"], over["priority"], over["tags"]) == ("Resolved: node nas", 3, ["white_check_mark", "house"])
    assert server.got[0].headers["authorization"] == "Basic " + base64.b64encode(b"ada:s3cr3t/ko:en").decode()


TELEGRAM = (
    '{"chat_id": 7, "text": "{{ title }}\\n'
    '{% for a in alerts %}{{ a.annotations.summary }}{% if not loop.last %}, {% endif %}{% endfor %}"}'
)


async def test_a_template_is_filled_and_escaped_for_json(tmp_path: Path, server: Sink) -> None:
    http = adapter(
        tmp_path, kind="http", url=server.url + "/bot{{ secret }}/sendMessage", secret="token", body=TELEGRAM,
        headers={"X-Severity": "{{ severity }}", "X-Text": "{{ text }}"},
    )  # fmt: skip
    await http.send(notice(note(summary=NASTY), note("router")), "id-1", 0.0)
    await http.close()
    (got,) = server.got
    assert got.line.startswith("POST /bots3cr3t%2Fko:en/sendMessage ")
    assert got.json == {"chat_id": 7, "text": f"2 critical alerts: node\n{NASTY}, nas is unreachable"}
    assert got.headers["x-severity"] == "critical"
    assert "\n" not in got.headers["x-text"]


async def test_tables_and_forms_are_filled_too(tmp_path: Path, server: Sink) -> None:
    whole = adapter(tmp_path, kind="http", url=server.url, body='{"all": {{ alerts | tojson }}, "n": {{ alerts | length }}}')
    await whole.send(notice(note(summary=NASTY)), "id-1", 0.0)
    form = adapter(tmp_path, kind="http", url=server.url, body="text={{ text }}&x=1", body_kind="form", method="PUT")
    await form.send(notice(note(summary="a&b=c d")), "id-1", 0.0)
    await whole.close()
    await form.close()
    assert server.got[0].json["all"][0]["annotations"]["summary"] == NASTY
    assert server.got[0].json["n"] == 1
    assert b"a%26b%3Dc%20d" in server.got[1].body
    assert server.got[1].line.startswith("PUT ")


@pytest.mark.parametrize(
    "evil",
    ["{{ ''.__class__ }}", "{{ ''.format() }}", "{{ alerts.append(1) }}", "{{ 'a' * 9 }}", "{{ 'x'.join }}{{ 'x'.upper() }}",
     "{{ range(9) }}", "{{ nobody }}", "{{ loop }}", "{{ alerts | map('upper') }}", "{{ cycler }}", "{{ 2 ** 9 }}",
     "{% include 'x' %}", "{{ self.__init__.__globals__ }}", "{{ '%9s' % 1 }}"],
)  # fmt: skip
def test_templates_reach_nothing(evil: str) -> None:
    with pytest.raises((DeliveryError, ConfigError)):
        filled("body", compiled("body", evil, in_json), {"alerts": [{"labels": {"a": "b"}}]})


def test_templates_have_a_bound() -> None:
    long = "{% for a in alerts %}{% for b in alerts %}{% for c in alerts %}xxxxxxxxxx{% endfor %}{% endfor %}{% endfor %}"
    with pytest.raises(DeliveryError, match="more than"):
        filled("body", compiled("body", long, in_json), {"alerts": [{}] * 100})


def test_broken_templates_and_missing_secrets_are_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the template body"):
        compiled("body", "{{ title", in_json)
    with pytest.raises(AbsentError, match="the secret nothing is not there"):
        adapter(tmp_path, kind="ntfy", url="http://192.0.2.1", topic="x", secret="nothing")


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"body": "{{ title"}, "the template body cannot be read"), ({"body": "{{ titel }}"}, "did you mean title?"),
     ({"url": "http://192.0.2.1/{{ nobody }}"}, "the template url names 'nobody'"),
     ({"headers": {"X-Text": "{{ text | nonsense }}"}}, "the template headers.X-Text cannot be read"),
     ({"body": "{% for a in alerts %}{{ a.labels.node }}{{ loop.index }}{% endfor %}{{ commonLabels.severity }}"}, "")],
)  # fmt: skip
def test_a_configuration_with_a_broken_template_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    channel = {"kind": "http", "url": "http://192.0.2.1", "body": "{{ title }}", **changed}
    where = paths.find({"PRIME_SPARK_HOME": str(tmp_path)})
    where.config.write_text(tomlkit.dumps({"alerts": {"channels": {"hook": channel}}}))
    out = io.StringIO()
    code = cli.run(["config", "check"], Context(SocketClient(where.api_socket), where, {}, out, 200, colour=False), out)
    assert (code, told in out.getvalue()) == (2 if told else 0, True), out.getvalue()
    assert not told or "config.toml:" in out.getvalue()


def test_what_templates_see_is_what_they_may_name() -> None:
    assert {*payload(notice(note()), "")} <= NAMES


async def test_a_body_that_is_no_json_is_not_sent(tmp_path: Path, server: Sink) -> None:
    http = adapter(tmp_path, kind="http", url=server.url, body='{"text": {{ title }}}')
    with pytest.raises(DeliveryError, match="makes no JSON") as caught:
        await http.send(notice(), "id-1", 0.0)
    assert not caught.value.retry
    assert server.got == []


@pytest.mark.parametrize(
    ("status", "headers", "retry", "after"),
    [
        (503, {}, True, None), (500, {"retry-after": "7"}, True, 7.0), (429, {"retry-after": "30"}, True, 30.0),
        (429, {"retry-after": "soon"}, True, None), (429, {"retry-after": "999999999"}, True, 3600.0), (408, {}, True, None),
        (400, {}, False, None), (401, {}, False, None), (404, {}, False, None), (302, {"location": "/x"}, False, None),
    ],
)  # fmt: skip
async def test_answers_mean_what_they_say(
    tmp_path: Path, server: Sink, status: int, headers: dict[str, str], retry: bool, after: float | None
) -> None:
    server.answer((status, headers, b"because"))
    hook = adapter(tmp_path, kind="webhook", url=server.url)
    with pytest.raises(DeliveryError, match=f"answered {status} Said because") as caught:
        await hook.send(notice(), "id-1", 0.0)
    await hook.close()
    assert (caught.value.retry, caught.value.after) == (retry, after)
    assert len(server.got) == 1
    assert caught.value.next_step


def test_a_date_in_retry_after_is_read() -> None:
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after("Fri, 31 Dec 2999 23:59:59 GMT") == 3600.0
    assert retry_after("") is None


async def test_a_dead_and_a_hung_server_are_tried_again(tmp_path: Path, server: Sink) -> None:
    dead = adapter(tmp_path, kind="webhook", url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DeliveryError, match="ConnectError") as caught:
        await dead.send(notice(), "id-1", 0.0)
    assert caught.value.retry
    server.answer(None)
    hung = adapter(tmp_path, kind="webhook", url=server.url, timeout_seconds=1)
    with pytest.raises(DeliveryError, match="did not answer within 1 s") as caught:
        await hung.send(notice(), "id-1", 0.0)
    assert caught.value.retry
    await hung.close()


async def test_an_answer_without_an_end_is_cut(tmp_path: Path, server: Sink) -> None:
    server.answer((200, {}, b"x" * 1_000_000))
    hook = adapter(tmp_path, kind="webhook", url=server.url)
    assert len(await hook.send(notice(), "id-1", 0.0)) <= 200
    await hook.close()


async def test_no_log_has_the_address_with_the_token(tmp_path: Path, server: Sink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    http = adapter(tmp_path, kind="http", url=server.url + "/bot{{ secret }}/x", secret="token", body="{}")
    await http.send(notice(), "id-1", 0.0)
    server.answer((500, {}, b""))
    with pytest.raises(DeliveryError) as caught:
        await http.send(notice(), "id-1", 0.0)
    await http.close()
    assert "s3cr3t" not in caplog.text + str(caught.value)
