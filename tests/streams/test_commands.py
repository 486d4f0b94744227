"""Signed commands: what is carried out, once, under whose name; and everything that is refused, audited and counted."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.core.actions import Action, ActionRegistry, Invocation, NoParams, Params
from appliance.core.audit import AuditLog
from appliance.core.bus import Bus
from appliance.core.dispatch import Dispatcher
from appliance.core.events import CommandReplied, Event, new_id, rfc3339
from appliance.core.model import Role
from appliance.core.outbox import Outbox
from appliance.core.refusals import OWN, Refusals
from appliance.core.store import Store
from appliance.core.streams import signing
from appliance.core.streams.build import refusal_writer
from appliance.core.streams.commands import LARGEST, Commander
from appliance.core.streams.seen import Seen
from appliance.errors import CommandRefusedError, ConflictError, DiskFullError
from appliance.settings import CommandSettings, IssuerSettings
from tests.support import ManualClock


def client_sign(document: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """What another program does by docs/streams.md, with nothing of ours (plain texts and whole numbers only)."""
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return json.dumps({**document, "signature": base64.b64encode(key.sign(plain)).decode()}).encode()


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


class Wanted(Params):
    """A number."""

    number: int = 0


@dataclass
class Rig:
    """A commander on a real store."""

    path: Path
    clock: ManualClock
    key: Ed25519PrivateKey
    store: Store
    audit: AuditLog
    commander: Commander
    refusals: Refusals
    done: list[tuple[str, Role, str, int]]
    replies: list[CommandReplied]

    def envelope(self, **changes: Any) -> dict[str, Any]:
        """A command that is right, with changes to its data and (those of the envelope) to itself."""
        now = self.clock.wall()
        data = {"action": "test.run", "args": {"number": 7}, "issued_by": "cloud", "expires_at": rfc3339(now + 60),
                "reply_to": "cloud.replies"}  # fmt: skip
        whole = {"v": 1, "id": new_id(), "timestamp": rfc3339(now), "source": "cloud", "device_id": "pi", "type": "command"}
        data |= {name: value for name, value in changes.items() if name not in whole}
        return {**whole, **{name: value for name, value in changes.items() if name in whole}, "data": data}

    def signed(self, **changes: Any) -> bytes:
        return client_sign(self.envelope(**changes), self.key)

    async def rows(self) -> list[tuple[str, str, str, str]]:
        """(actor, action, outcome, detail), oldest first."""
        return [(each.actor, each.action, each.outcome, each.detail) for each in reversed(await self.audit.entries())]


async def make(path: Path, clock: ManualClock, key: Ed25519PrivateKey, max_age: float = 300) -> Rig:
    store = Store(path / "appliance.sqlite")
    await asyncio.to_thread(store.open)
    journal = Outbox(store, "pi")
    await journal.load()
    bus, audit = Bus(journal), AuditLog(store, b"k" * 32, clock)
    done: list[tuple[str, Role, str, int]] = []
    replies: list[CommandReplied] = []
    publish = bus.publish

    async def noticed(event: Event) -> None:
        await publish(event)
        if isinstance(event, CommandReplied):
            replies.append(event)

    bus.publish = noticed  # type: ignore[method-assign]

    async def run(call: Invocation, params: Wanted) -> dict[str, int]:
        done.append((call.actor.name, call.actor.role, call.actor.via, params.number))
        return {"number": params.number}

    async def fail(_: Invocation, __: NoParams) -> None:
        raise ConflictError("It is busy.", "wait.")

    registry = ActionRegistry()
    registry.add(
        Action("test.run", "Run", run, params=Wanted), Action("test.danger", "Danger", run, params=Wanted, dangerous=True),
        Action("test.admin", "Admin", run, params=Wanted, role=Role.admin), Action("test.fail", "Fail", fail),
    )  # fmt: skip
    given_settings = CommandSettings(max_age_seconds=max_age, issuers={"cloud": IssuerSettings(public_key=public(key))})
    refusals = Refusals(refusal_writer(audit))
    commander = Commander(given_settings, "pi", Dispatcher(registry, audit), Seen(store), bus, clock, refusals.note, audit)
    return Rig(path, clock, key, store, audit, commander, refusals, done, replies)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = await make(tmp_path, ManualClock(), Ed25519PrivateKey.generate())
    yield found
    await found.refusals.close(1.0)
    await asyncio.to_thread(found.store.close)


async def test_a_signed_command_is_carried_out_under_its_issuers_name(rig: Rig) -> None:
    body = rig.signed()
    await rig.commander.take(body)
    assert rig.done == [("cloud", Role.operator, "kafka", 7)]
    reply = rig.replies[0]
    assert (reply.status, reply.result, reply.reply_to) == ("completed", {"number": 7}, "cloud.replies")
    assert reply.command_id == json.loads(body)["id"]
    assert [row[:3] for row in await rig.rows()] == [("cloud", "test.run", "started"), ("cloud", "test.run", "ok")]
    assert (rig.commander.stats().accepted, rig.commander.stats().refused) == (1, {})


async def test_a_command_for_all_devices_is_for_this_one(rig: Rig) -> None:
    await rig.commander.take(rig.signed(device_id="*"))
    assert len(rig.done) == 1


STRANGER = Ed25519PrivateKey.generate()


def tampered(rig: Rig) -> bytes:
    document = json.loads(rig.signed())
    document["data"]["args"]["number"] = 8
    return json.dumps(document).encode()


def twice(rig: Rig) -> bytes:
    return rig.signed().replace(b'"number": 7', b'"number": 7, "number": 7')


REFUSED: dict[str, Callable[[Rig], bytes]] = {
    "unsigned": lambda rig: json.dumps(rig.envelope()).encode(),
    "bad signature": tampered,
    "bad signature, of a stranger": lambda rig: client_sign(rig.envelope(), STRANGER),
    "bad signature, no text": lambda rig: json.dumps({**rig.envelope(), "signature": 5}).encode(),
    "unknown issuer": lambda rig: rig.signed(issued_by="nobody"),
    "unknown issuer, no text": lambda rig: rig.signed(issued_by=["cloud"]),
    "expired": lambda rig: rig.signed(timestamp=rfc3339(rig.clock.wall() - 100), expires_at=rfc3339(rig.clock.wall() - 1)),
    "from the future": lambda rig: rig.signed(
        timestamp=rfc3339(rig.clock.wall() + 61), expires_at=rfc3339(rig.clock.wall() + 90)
    ),
    "lives too long": lambda rig: rig.signed(expires_at=rfc3339(rig.clock.wall() + 301)),
    "not for this device": lambda rig: rig.signed(device_id="other"),
    "wrong version": lambda rig: rig.signed(v=2),
    "wrong version, another type": lambda rig: rig.signed(type="event.noted"),
    "malformed": lambda rig: rig.signed(expires_at="tomorrow"),
    "malformed, no zone": lambda rig: rig.signed(timestamp="2026-01-01T00:00:00"),
    "malformed, id": lambda rig: rig.signed(id="1"),
    "malformed, args": lambda rig: rig.signed(args=[1]),
    "malformed, confirm": lambda rig: rig.signed(confirm="yes"),
    "bad reply topic": lambda rig: rig.signed(reply_to="cloud.commands"),
    "bad reply topic, another": lambda rig: rig.signed(reply_to="edge.telemetry"),
    "bad reply topic, of a contract": lambda rig: rig.signed(reply_to="cloud.aggregated"),
    "bad reply topic, of results": lambda rig: rig.signed(reply_to="agents.results"),
    "not JSON": lambda _: b"\xff{",
    "not JSON, a list": lambda _: b"[1]",
    "not JSON, NaN": lambda _: b'{"v": NaN}',
    "not JSON, deep": lambda _: b'{"a":' * 40 + b"1" + b"}" * 40,
    "not JSON, very deep": lambda _: b"[" * 60_000,
    "not JSON, a key twice": twice,
    "not JSON, half a surrogate pair": lambda _: b'{"data": {"action": "\\ud800"}}',
    "not JSON, half a pair in a name": lambda _: b'{"\\udfff": 1}',
    "too large": lambda _: b"x" * (LARGEST + 1),
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_what_is_not_right_is_refused_audited_and_counted(rig: Rig, reason: str) -> None:
    await rig.commander.take(REFUSED[reason](rig))
    assert rig.done == []
    assert rig.replies == []
    assert rig.commander.stats().refused == {reason.partition(",")[0]: 1}
    assert [row[2] for row in await rig.rows()] == ([] if reason == "not for this device" else ["refused"])


async def test_a_command_is_carried_out_once_also_after_a_restart(rig: Rig, tmp_path: Path) -> None:
    body = rig.signed()
    await rig.commander.take(body)
    await rig.commander.take(body)
    assert len(rig.done) == 1
    assert rig.commander.stats().refused == {"replayed": 1}
    await asyncio.to_thread(rig.store.close)
    again = await make(tmp_path, rig.clock, rig.key)
    try:
        await again.commander.take(body)
        assert again.done == []
        assert again.commander.stats().refused == {"replayed": 1}
        assert (await again.rows())[-1][:3] == ("cloud", "test.run", "refused")
    finally:
        await again.refusals.close(1.0)
        await asyncio.to_thread(again.store.close)
        await asyncio.to_thread(rig.store.open)


async def test_a_clock_set_back_makes_no_old_command_new(rig: Rig) -> None:
    body = rig.signed()
    await rig.commander.take(body)
    rig.clock.move(3600)
    await rig.commander.take(rig.signed())
    rig.clock.move(-3600)
    await rig.commander.take(body)
    assert len(rig.done) == 2
    assert rig.commander.stats().refused == {"replayed": 1}


async def test_ids_are_bounded_and_new_commands_refused_beyond(rig: Rig) -> None:
    seen = Seen(rig.store, limit=2)
    now = rig.clock.wall()
    for name in ("a", "b"):
        await seen.take(name, now + 60, now)
    with pytest.raises(CommandRefusedError, match="no more"):
        await seen.take("c", now + 60, now)
    with pytest.raises(CommandRefusedError, match="before"):
        await seen.take("a", now + 60, now)
    await seen.take("c", now + 200_000, now + 100_000)


@pytest.mark.parametrize(
    ("action", "confirm", "status", "words"),
    [
        ("test.admin", False, "refused", "needs the role admin"),
        ("test.danger", False, "refused", "Danger?"),
        ("test.danger", True, "completed", ""),
        ("test.unknown", False, "refused", "No action is called"),
        ("test.fail", False, "failed", "It is busy."),
    ],
)
async def test_the_reply_says_what_became_of_it(rig: Rig, action: str, confirm: bool, status: str, words: str) -> None:
    args = {} if action == "test.fail" else {"number": 1}
    await rig.commander.take(rig.signed(action=action, confirm=confirm, args=args))
    assert rig.replies[0].status == status
    assert words in rig.replies[0].error
    rows = await rig.rows()
    assert {row[0] for row in rows} == {"cloud"}
    assert rows[-1][2] == {"completed": "ok"}.get(status, status)


async def test_a_flood_of_refusals_does_not_fill_the_audit(rig: Rig) -> None:
    for _ in range(50):
        await rig.commander.take(json.dumps(rig.envelope()).encode())
    assert len(await rig.rows()) == OWN
    assert rig.commander.stats().refused == {"unsigned": 50}
    await rig.refusals.close(1.0)
    assert "45 more refusals" in (await rig.rows())[-1][3]


def test_the_canonical_form_is_that_of_rfc_8785() -> None:
    document = {"signature": "x", "b": 1.0, "a": "\u20ac\n", "c": [True, None, 1e21], "\ufb33": 1, "\U0001f600": 2}
    expected = '{"a":"\u20ac\\n","b":1,"c":[true,null,1e+21],"\U0001f600":2,"\ufb33":1}'
    assert signing.canonical(document) == expected.encode()


def test_signing_and_checking_fit_together() -> None:
    key = bytes(range(32))
    signed = signing.sign({"a": 1}, key)
    signing.verify(signed, signing.public_half(key))
    with pytest.raises(CommandRefusedError):
        signing.verify({**signed, "a": 2}, signing.public_half(key))


async def test_what_ended_before_something_forgotten_is_refused_whatever_the_clock_says(rig: Rig) -> None:
    body = rig.signed()
    await rig.commander.take(body)
    rig.clock.move(2 * 86_400)
    await rig.commander.take(rig.signed())
    rig.clock.move(-2 * 86_400)
    await rig.commander.take(body)
    assert len(rig.done) == 2
    assert rig.commander.stats().refused == {"expired": 1}


async def test_a_command_from_its_own_place_is_no_replay_and_one_from_another_is(rig: Rig) -> None:
    body = rig.signed()
    await rig.commander.take(body, "0:7")
    await rig.commander.take(body, "0:7")
    assert (len(rig.done), len(rig.replies), rig.commander.stats().refused) == (1, 1, {})
    await rig.commander.take(body, "0:8")
    assert (len(rig.done), rig.commander.stats().refused) == (1, {"replayed": 1})


async def test_a_command_that_the_appliance_did_not_end_is_told_as_not_known(rig: Rig) -> None:
    body = rig.signed()
    document = json.loads(body)
    now = rig.clock.wall()
    await Seen(rig.store).take(document["id"], now + 60, now, "0:7")  # and then it was killed
    rig.clock.move(3600)
    await rig.commander.take(body, "0:7")
    assert rig.done == []
    assert [(each.status, "not known" in each.error) for each in rig.replies] == [("failed", True)]
    assert [(row[0], row[2], "not known" in row[3]) for row in await rig.rows()] == [("cloud", "failed", True)]
    await rig.commander.take(body, "0:7")
    assert len(rig.replies) == 1


async def test_what_cannot_be_audited_is_refused_and_told_when_there_is_room(rig: Rig) -> None:
    record, publish = rig.audit.record, rig.commander._bus.publish

    async def full(*_: object) -> None:
        raise DiskFullError("No room.", "make some.")

    rig.audit.record, rig.commander._bus.publish = full, full  # type: ignore[method-assign, assignment]
    body = rig.signed()
    with pytest.raises(DiskFullError):
        await rig.commander.take(body, "0:7")
    rig.audit.record, rig.commander._bus.publish = record, publish  # type: ignore[method-assign]
    await rig.commander.take(body, "0:7")
    assert rig.done == []
    assert [(each.status, each.error) for each in rig.replies] == [("refused", "No room.")]


@pytest.mark.parametrize("result", [object(), {"name": "\udcff.txt"}, {"n": 2**70}, {1: {2, 3}}, "x" * 300_000])
async def test_a_result_without_a_form_in_json_is_told_as_completed(rig: Rig, result: object) -> None:
    async def run(_: Invocation, __: NoParams) -> object:
        return result

    rig.commander._dispatcher.registry.add(Action("test.odd", "Odd", run))
    await rig.commander.take(rig.signed(action="test.odd", args={}))
    assert [each.status for each in rig.replies] == ["completed"]
    assert rig.replies[0].result != result or not isinstance(result, str)


async def test_orders_of_others_and_one_kind_of_refusal_do_not_hide_another(rig: Rig) -> None:
    for _ in range(OWN + 1):
        await rig.commander.take(rig.signed(device_id="other"))
        await rig.commander.take(b"{")
    await rig.commander.take(tampered(rig))
    rows = await rig.rows()
    assert ["not for this device" in row[3] or "another device" in row[3] for row in rows] == [False] * (OWN + 1)
    assert "signature does not fit" in rows[-1][3]
    assert rig.commander.stats().refused["not for this device"] == OWN + 1


async def test_checking_happens_in_a_thread(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    read, verify = signing.read, signing.verify

    def noted_read(body: bytes) -> dict[str, Any]:
        threads.add(threading.current_thread().name)
        return read(body)

    def noted_verify(document: dict[str, Any], public_key: str) -> None:
        threads.add(threading.current_thread().name)
        verify(document, public_key)

    monkeypatch.setattr(signing, "read", noted_read)
    monkeypatch.setattr(signing, "verify", noted_verify)
    await rig.commander.take(rig.signed())
    assert len(rig.done) == 1
    assert threading.main_thread().name not in threads


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "v", "id", "timestamp", "source", "device_id", "type", "data", "signature", "action", "args", "issued_by", "expires_at",
    "reply_to", "confirm",
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=2), signs=st.booleans())
@example(changes={"device_id": []}, signs=False)
@example(changes={"device_id": {}}, signs=False)
@example(changes={"action": "\ud800"}, signs=False)
@example(changes={"issued_by": "\udfff"}, signs=False)
@example(changes={"args": {"number": float("inf")}}, signs=False)
@example(changes={"expires_at": "0001-01-01T00:00:00+23:59"}, signs=True)
def test_no_message_breaks_the_commander(changes: dict[str, Any], signs: bool) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as home:
            rig = await make(Path(home), ManualClock(), STRANGER)
            document = rig.envelope()
            for name, value in changes.items():
                (document if name in document or not isinstance(document["data"], dict) else document["data"])[name] = value
            body = json.dumps(document)
            if signs:
                with suppress(UnicodeError):
                    body = client_sign(document, STRANGER).decode()
            await rig.commander.take(body.encode())
            await rig.refusals.close(1.0)
            await asyncio.to_thread(rig.store.close)

    asyncio.run(run())
