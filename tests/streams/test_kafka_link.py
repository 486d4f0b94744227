"""The link to a real Kafka: order, nothing twice, why it is down, what can never be sent."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer

from appliance.core.doctor.checks import kafka as doctor
from appliance.core.streams import kafka_admin, topics
from appliance.core.streams.kafka import probe
from appliance.core.streams.kafka_lanes import LARGEST
from appliance.core.streams.kafka_link import KafkaLink
from appliance.core.streams.model import LinkState, Message
from appliance.errors import LinkDownError
from tests.servers.fixtures import Topics
from tests.servers.kafka import KafkaServer
from tests.servers.kafka_cluster import KafkaCluster
from tests.streams.kafka_rig import access, message, numbers, running_link, stored
from tests.support import free_port, wait_for
from tests.unit.doctor_support import Machine

KEYS = [f"device-{each}" for each in range(5)]


def batch(topic: str, count: int, first: int = 0, size: int = 200) -> list[Message]:
    return [message(topic, number, KEYS[number % len(KEYS)], size) for number in range(first, first + count)]


async def send_all(link: KafkaLink, messages: list[Message], seconds: float = 60.0) -> None:
    """As the outbox does: the same messages again until they are taken."""
    async with asyncio.timeout(seconds):
        while True:
            await link.up.wait()
            try:
                assert await link.send(messages) == []
                return
            except LinkDownError:
                await asyncio.sleep(0.05)


async def check(servers: str, topic: str, sent: list[Message]) -> None:
    """All are there once, each key in its order."""
    found = await stored(servers, topic)
    assert len(found) == len(sent)
    assert {document["id"] for _, _, document in found} == {each.id for each in sent}
    for key in KEYS:
        assert numbers(found, key) == sorted(numbers(found, key))


async def test_messages_are_stored_in_order(kafka: Topics) -> None:
    topic = f"{kafka.prefix}order"
    await kafka.server.create_topic(topic, 3)
    sent = batch(topic, 5000)
    async with running_link(access(kafka.bootstrap)) as (link, told):
        await link.up.wait()
        for first in range(0, 5000, 500):
            assert await link.send(sent[first : first + 500]) == []
        assert told[-1].state is LinkState.up
    await check(kafka.bootstrap, topic, sent)


async def test_a_network_that_cuts_answers_stores_nothing_twice(kafka: Topics) -> None:
    topic = f"{kafka.prefix}cut"
    await kafka.server.create_topic(topic, 3)
    sent = batch(topic, 3000)
    async with running_link(access(kafka.server.bootstrap("PROXIED"))) as (link, _):
        await link.up.wait()
        for number, first in enumerate(range(0, 3000, 300)):
            sending = asyncio.create_task(send_all(link, sent[first : first + 300]))
            await asyncio.to_thread(kafka.proxy.cut_after, 20 + 37 * number, http=False)
            await asyncio.to_thread(kafka.proxy.heal)
            await asyncio.to_thread(kafka.proxy.cut_now)
            await sending
    await check(kafka.bootstrap, topic, sent)


async def test_a_broker_that_comes_late_is_found(kafka: Topics) -> None:
    kafka.proxy.refuse()
    async with running_link(access(kafka.server.bootstrap("PROXIED"))) as (link, told):
        await wait_for(lambda: told and told[-1].state is LinkState.down)
        assert "refuses connections" in told[-1].reason
        assert told[-1].next_step
        with pytest.raises(LinkDownError, match="refuses connections"):
            await link.send([message("any", 1)])
        kafka.proxy.heal()
        await wait_for(link.up.is_set)
        assert told[-1].state is LinkState.up


async def test_a_broker_killed_amid_batches_loses_and_repeats_nothing(kafka: Topics) -> None:
    topic = f"{kafka.prefix}killed"
    await kafka.server.create_topic(topic, 3)
    sent = batch(topic, 4000)
    async with running_link(access(kafka.bootstrap)) as (link, told):
        await link.up.wait()
        await send_all(link, sent[:500])
        sending = asyncio.create_task(send_all(link, sent[500:]))
        await asyncio.to_thread(kafka.server.kill)
        await wait_for(lambda: told[-1].state is LinkState.down, 30)
        assert "refuses connections" in told[-1].reason
        kafka.server.start()  # from the main thread: the broker ends with the thread that started it
        await sending
    await check(kafka.bootstrap, topic, sent)


async def test_a_slow_network_only_takes_longer(kafka: Topics) -> None:
    topic = f"{kafka.prefix}slow"
    await kafka.server.create_topic(topic, 3)
    kafka.proxy.delay(0.02)
    sent = batch(topic, 300, size=2000)
    async with running_link(access(kafka.server.bootstrap("PROXIED"))) as (link, _):
        await send_all(link, sent)
    await check(kafka.bootstrap, topic, sent)


async def test_a_network_that_swallows_everything_is_told_and_survived(kafka: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("kafka.ANSWER_MS", "kafka_link.ANSWER_MS"):
        monkeypatch.setattr(f"appliance.core.streams.{where}", 1000)
    monkeypatch.setattr("appliance.core.streams.kafka_lanes.PATIENCE", 1.0)
    topic = f"{kafka.prefix}swallowed"
    await kafka.server.create_topic(topic, 3)
    sent = batch(topic, 600)
    async with running_link(access(kafka.server.bootstrap("PROXIED"))) as (link, told):
        await send_all(link, sent[:300])
        await asyncio.to_thread(kafka.proxy.hang)
        sending = asyncio.create_task(send_all(link, sent[300:]))
        await wait_for(lambda: told[-1].state is LinkState.down, 30)
        assert "no answer" in told[-1].reason
        await asyncio.to_thread(kafka.proxy.heal)
        await sending
    await check(kafka.bootstrap, topic, sent)


async def test_what_is_too_large_is_refused_and_holds_up_nothing(kafka: Topics) -> None:
    topic = f"{kafka.prefix}large"
    await kafka.server.create_topic(topic, 1, max_message_bytes=20_000)
    large = message(topic, 3)._replace(value=secrets.token_hex(30_000).encode())
    huge = message(topic, 4)._replace(value=b"x" * (LARGEST + 1))
    sent = [message(topic, 1), message(topic, 2), large, huge, message(topic, 5), message(topic, 6)]
    async with running_link(access(kafka.bootstrap), batch=20_000) as (link, _):
        await link.up.wait()
        refused = await link.send(sent)
        assert [each.message.id for each in refused] == [large.id, huge.id]
        assert "MessageSizeTooLarge" in refused[0].reason
        assert await link.send([message(topic, 7)]) == []
    assert numbers(await stored(kafka.bootstrap, topic), "device-1") == [1, 2, 5, 6, 7]


async def test_a_batch_refused_as_a_whole_goes_out_one_by_one(kafka: Topics) -> None:
    topic = f"{kafka.prefix}whole"
    await kafka.server.create_topic(topic, 1, max_message_bytes=2000)
    sent = [message(topic, number)._replace(value=secrets.token_hex(400).encode()) for number in range(8)]
    bad = message(topic, 9)._replace(value=secrets.token_hex(4000).encode())
    async with running_link(access(kafka.bootstrap)) as (link, _):  # nobody told it of the topic's limit
        await link.up.wait()
        refused = await link.send([*sent[:4], bad, *sent[4:]])
        assert [each.message.id for each in refused] == [bad.id]
    lines = await asyncio.to_thread(kafka.server.console_consumer, topic, len(sent))
    assert [line.encode() for line in lines] == [each.value for each in sent]


async def test_a_topic_that_is_not_there_refuses_only_its_own(kafka: Topics) -> None:
    topic = f"{kafka.prefix}there"
    await kafka.server.create_topic(topic, 1)
    stray, good = message(f"{kafka.prefix}nowhere", 1), message(topic, 2)
    async with running_link(access(kafka.bootstrap)) as (link, _):
        await link.up.wait()
        refused = await link.send([stray, good])
        assert [(each.message.id, "does not exist" in each.reason) for each in refused] == [(stray.id, True)]
    assert numbers(await stored(kafka.bootstrap, topic), "device-1") == [2]


@pytest.mark.parametrize(
    ("listener", "settings", "reason"),
    [
        ("SSL", {"tls": True}, "is not trusted"),
        ("SSL", {}, "closed the connection"),
        ("PLAINTEXT", {"tls": True, "ca": True}, "closed the connection|TLS with"),
        ("SASL_SSL", {"tls": True, "ca": True, "sasl_mechanism": "PLAIN", "wrong": True}, "wrong user or password"),
        ("SASL_SSL", {"tls": True, "ca": True, "sasl_mechanism": "SCRAM-SHA-512", "wrong": True}, "wrong user or password"),
        ("SASL_PLAINTEXT", {"sasl_mechanism": "SCRAM-SHA-256", "wrong": True}, "wrong user or password"),
        ("PLAINTEXT", {"sasl_mechanism": "PLAIN"}, "wants no login"),
    ],
)
async def test_the_reason_of_a_refused_client_is_named(
    kafka_server: KafkaServer, listener: str, settings: dict[str, object], reason: str
) -> None:
    given = dict(settings)
    if given.pop("ca", False):
        given["ca_file"] = kafka_server.access.authority.path
    password = "wrong" if given.pop("wrong", False) else kafka_server.access.password
    reached = access(kafka_server.bootstrap(listener), password, username="appliance", **given)  # type: ignore[arg-type]
    async with running_link(reached) as (_, told):
        await wait_for(lambda: told and told[-1].state is LinkState.down, 20)
        with pytest.raises(LinkDownError, match=reason) as refused:
            raise LinkDownError(told[-1].reason, told[-1].next_step)
        assert refused.value.next_step


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_tls_and_login_that_are_right_bring_messages(kafka: Topics, mechanism: str) -> None:
    topic = f"{kafka.prefix}secured"
    await kafka.server.create_topic(topic, 1)
    ca, password = kafka.server.access.authority.path, kafka.server.access.password
    reached = access(
        kafka.server.bootstrap("SASL_SSL"), password, tls=True, ca_file=ca, sasl_mechanism=mechanism, username="appliance"
    )
    async with running_link(reached) as (link, _):
        await link.up.wait()
        assert await link.send([message(topic, 1)]) == []
    assert numbers(await stored(kafka.bootstrap, topic), "device-1") == [1]


async def test_a_client_certificate_is_used(kafka_server: KafkaServer) -> None:
    ours = kafka_server.access.authority.issue("client")
    ca = kafka_server.access.authority.path
    server = kafka_server.bootstrap("SSL")
    assert await probe(access(server, tls=True, ca_file=ca, cert_file=ours, key_file=ours)) == server


async def test_names_and_ports_that_lead_nowhere_are_told_apart() -> None:
    with pytest.raises(LinkDownError, match="No address is known"):
        await probe(access("no-such-host.invalid:9092"))
    with pytest.raises(LinkDownError, match="refuses connections"):
        await probe(access(f"127.0.0.1:{free_port()}"))


async def test_topics_are_made_where_missing_and_never_altered(kafka: Topics) -> None:
    names = [topics.TopicSpec(f"{kafka.prefix}{each.name}", each.direction) for each in topics.CONTRACT]
    await kafka.server.create_topic(names[0].name, 1, retention_ms=1000)
    reached = access(kafka.bootstrap)
    found = await kafka_admin.prepare(reached, names, create=True)
    assert set(found.created) == {each.name for each in names[1:]}
    assert "1 partitions" in topics.problem(found.topics[names[0].name], 1)
    assert "kept for" in topics.problem(found.topics[names[0].name], 1)
    for each in names[1:]:
        facts = found.topics[each.name]
        assert (facts.partitions, facts.replication, facts.number("retention.ms")) == (3, 1, 7 * 86_400_000)
        assert topics.problem(facts, 1) == ""
    again = await kafka_admin.prepare(reached, names, create=True)
    assert again.created == ()
    assert again.topics[names[0].name].number("retention.ms") == 1000


async def test_one_broker_of_three_lost_costs_nothing(kafka_cluster: KafkaCluster) -> None:
    topic = f"cluster-{secrets.token_hex(4)}"
    reached = access(kafka_cluster.bootstrap())
    found = await kafka_admin.prepare(reached, [topics.TopicSpec(topic, "out")], create=True)
    assert found.topics[topic].replication == 3
    sent = batch(topic, 6000)
    async with running_link(reached, needed={topic: 2}) as (link, _):
        await link.up.wait()
        await send_all(link, sent[:1000])
        sending = asyncio.create_task(send_all(link, sent[1000:4000]))
        lost = await kafka_cluster.alive().leader(topic, 0)
        await asyncio.to_thread(kafka_cluster.nodes[lost].kill)
        await sending
        await send_all(link, sent[4000:])
    alive = kafka_cluster.alive().bootstrap()
    await check(alive, topic, sent)


async def test_too_few_replicas_are_named(kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.streams.kafka_lanes.PATIENCE", 1.0)
    topic = f"cluster-{secrets.token_hex(4)}"
    reached = access(kafka_cluster.bootstrap())
    await kafka_cluster.nodes[1].create_topic(topic, 1, min_insync_replicas=3)
    sent = message(topic, 1)
    async with running_link(reached, needed={topic: 3}) as (link, _):
        await link.up.wait()
        leader = await kafka_cluster.alive().leader(topic)
        other = next(each for each in kafka_cluster.nodes if each != leader)
        await asyncio.to_thread(kafka_cluster.nodes[other].kill)
        reasons: list[str] = []

        async def told() -> bool:
            try:
                await link.send([sent])
            except LinkDownError as error:
                reasons.append(error.message)
            return any("in-sync replicas of the 3" in each for each in reasons)

        await wait_for(told, 40, "the reason is named")
        kafka_cluster.recover()  # from the main thread: brokers end with the thread that started them
        await send_all(link, [sent])
    assert numbers(await stored(kafka_cluster.bootstrap(), topic), "device-1") == [1]


async def test_the_doctor_says_whether_kafka_answers(kafka_server: KafkaServer, machine: Machine) -> None:
    absent = await doctor.CHECK.run(machine.context())
    assert (absent.status, "kafka.bootstrap_servers" in absent.fix) == ("absent", True)
    good = await doctor.CHECK.run(replace(machine.context(), kafka=access(kafka_server.bootstrap())))
    assert (good.status, kafka_server.bootstrap() in good.reason) == ("ok", True)
    dead = await doctor.CHECK.run(replace(machine.context(), kafka=access(f"127.0.0.1:{free_port()}")))
    assert (dead.status, "refuses connections" in dead.reason) == ("failed", True)


async def test_many_refused_messages_do_not_each_cost_a_producer(kafka: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = f"{kafka.prefix}many"
    await kafka.server.create_topic(topic, 1, max_message_bytes=2000)
    sent = [message(topic, number)._replace(value=secrets.token_hex(4000).encode()) for number in range(40)]
    good = message(topic, 41)
    async with running_link(access(kafka.bootstrap)) as (link, _):
        await link.up.wait()
        made, make = [0], link._make

        async def counted(server: str) -> AIOKafkaProducer:
            made[0] += 1
            return await make(server)

        monkeypatch.setattr(link, "_make", counted)
        refused = await link.send([*sent, good])
        assert [each.message.id for each in refused] == [each.id for each in sent]
        assert made[0] < 20
    assert numbers(await stored(kafka.bootstrap, topic), "device-1") == [41]


async def test_a_topic_of_the_contract_that_was_removed_is_made_again(kafka: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.core.streams.kafka_lanes.PATIENCE", 1.0)
    reached, other = access(kafka.bootstrap), f"{kafka.prefix}other"
    await kafka.server.create_topic(other, 1)

    async def make(topic: str) -> None:
        await kafka_admin.prepare(reached, [topics.TopicSpec(topic, "both")], create=True)

    await make("edge.sensors")
    async with running_link(reached, make=make) as (link, _):
        await link.up.wait()
        await link.send([message("edge.sensors", 1)])
        async with kafka.server.admin() as admin:
            await admin.delete_topics(["edge.sensors"])
        sent = [message("edge.sensors", 2, kafka.prefix), message(other, 3)]
        await send_all(link, sent, 40)
    assert numbers(await stored(kafka.bootstrap, "edge.sensors"), kafka.prefix) == [2]
    assert numbers(await stored(kafka.bootstrap, other), "device-1") == [3]


async def test_a_topic_for_replies_is_made_with_the_first(kafka: Topics) -> None:
    reached, topic = access(kafka.bootstrap), f"cloud.{kafka.prefix}replies"

    async def make(name: str) -> None:
        await kafka_admin.prepare(reached, [topics.TopicSpec(name, "both")], create=True)

    async with running_link(reached, make=make) as (link, _):
        await link.up.wait()
        assert await link.send([message(topic, 1)]) == []
    assert numbers(await stored(kafka.bootstrap, topic), "device-1") == [1]
    async with kafka.server.admin() as admin:
        await admin.delete_topics([topic])
