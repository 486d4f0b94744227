"""The heavy servers of the full lab, as unit files: Redis, PostgreSQL, Kafka, S3 and NUT where the design has them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.lab.plan import Plan
from tests.servers import kafka_java, nut, postgres, s3
from tests.servers.kafka import cluster_id

S3_KEY, S3_SECRET = "lab", "lab-secret-key"
BUCKET = "prime-spark-ai"
DATABASE = "prime_spark_analytics"
UPS = "sim"
Files = Mapping[str, tuple[str, int]]
"""Path in the node → text and mode."""


def unit(description: str, **service: str | list[str]) -> str:
    """A unit file of a service that is started at boot."""
    lines = ["[Unit]", f"Description={description}", "After=network.target", "", "[Service]"]
    for key, value in service.items():
        lines += [f"{key}={each}" for each in ([value] if isinstance(value, str) else value)]
    return "\n".join([*lines, "", "[Install]", "WantedBy=multi-user.target", ""])


def own(name: str) -> str:
    """Where a unit file lies."""
    return f"etc/systemd/system/{name}.service"


def redis(plan: Plan) -> Files:
    """Redis on every address, without persistence."""
    keep = "--save '' --appendonly no --dir /var/lib/redis --maxmemory 64mb --maxmemory-policy allkeys-lru"
    start = f"/usr/bin/redis-server --port 6379 --bind 0.0.0.0 --protected-mode no {keep} --supervised systemd"
    text = unit(
        "Advanced key-value store", Type="notify", User="redis", StateDirectory="redis", ExecStart=start, Restart="always"
    )
    return {own("redis-server"): (text, 0o644)}


def postgresql(plan: Plan) -> Files:
    """PostgreSQL, which trusts whoever reaches it; its database is made at the first start."""
    programs, data = postgres.programs(), "/var/lib/postgresql/data"
    make = f"{programs}/initdb -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync -D {data}"
    make += f" && echo host all all 0.0.0.0/0 trust >> {data}/pg_hba.conf"
    first = f"/bin/sh -c {shlex.quote(f'test -e {data}/PG_VERSION || ({make})')}"
    ask = f"{programs}/psql -h 127.0.0.1 -U postgres -tAc"
    query = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"
    made = f'/bin/sh -c "{ask} \\"{query}\\" | grep -q 1 || {programs}/createdb -h 127.0.0.1 -U postgres {DATABASE}"'
    start = f"{programs}/postgres -D {data} -c listen_addresses=* -c fsync=off -c shared_buffers=32MB -c max_connections=50"
    text = unit(
        "PostgreSQL", Type="notify", User="postgres", StateDirectory="postgresql", RuntimeDirectory="postgresql",
        Environment="LC_ALL=C.UTF-8",
        ExecStartPre=first, ExecStart=start, ExecStartPost=made, KillSignal="SIGINT", KillMode="mixed", Restart="on-failure",
    )  # fmt: skip
    return {own("postgresql"): (text, 0o644)}


def kafka(plan: Plan) -> Files:
    """One node of Apache Kafka, broker and controller."""
    lines = {
        "process.roles": "broker,controller", "node.id": 1, "controller.quorum.voters": "1@127.0.0.1:9093",
        "listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": f"PLAINTEXT://{plan.address}:9092", "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": "/var/lib/kafka/data", "auto.create.topics.enable": "false", "default.replication.factor": 1,
        "min.insync.replicas": 1, "offsets.topic.num.partitions": 1, "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1, "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1, "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1, "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 2 << 20,
    }  # fmt: skip
    config, temporary = "/etc/kafka/server.properties", Path("/var/tmp")
    tool = kafka_java.java(
        "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id()}", "--config", config, temporary=temporary
    )
    broker = kafka_java.java("kafka.Kafka", config, temporary=temporary, options=("-Xmx256m", *kafka_java.QUICK))
    first = f"/bin/sh -c {shlex.quote(f'test -e /var/lib/kafka/data || {shlex.join(tool)}')}"
    text = unit("Apache Kafka", Type="simple", StateDirectory="kafka", ExecStartPre=first, ExecStart=shlex.join(broker),
                Restart="on-failure", SuccessExitStatus="143")  # fmt: skip
    settings = "".join(f"{name}={value}\n" for name, value in lines.items())
    return {own("kafka"): (text, 0o644), "etc/kafka/server.properties": (settings, 0o644)}


def seaweedfs(plan: Plan) -> Files:
    """An S3 server with one identity."""
    off = "-s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false -admin.ui=false -webdav=false"
    where = f"-dir=/var/lib/seaweedfs -ip={plan.address} -ip.bind=0.0.0.0 -s3.port=9000 -s3.config=/etc/seaweedfs/s3.json"
    start = f"{s3.program()} mini {where} {off}"
    variables = [f"{name}={value}" for name, value in s3.MODEST.items()]
    text = unit("SeaweedFS (S3)", Type="simple", StateDirectory="seaweedfs", Environment=variables, ExecStart=start,
                TimeoutStopSec="1s", Restart="on-failure")  # fmt: skip
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "lab", "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}], "actions": rights}
    return {own("seaweedfs"): (text, 0o644), "etc/seaweedfs/s3.json": (json.dumps({"identities": [identity]}), 0o600)}


def nut_server(plan: Plan) -> Files:
    """A UPS that is made up, told by real NUT."""
    driver = unit("NUT driver of the UPS", Type="simple", RuntimeDirectory="nut",
                  ExecStart=f"/lib/nut/dummy-ups -a {UPS} -u root -F",
                  Restart="always", RestartSec="1")  # fmt: skip
    server = unit("NUT server", Type="simple", ExecStart="/lib/nut/upsd -u root -F", Restart="always", RestartSec="1")
    server = server.replace("After=network.target", "After=network.target nut-driver.service\nRequires=nut-driver.service")
    user = f'[{nut.USER}]\npassword = "{nut.PASSWORD}"\nactions = SET\ninstcmds = ALL\nupsmon secondary\n'
    return {
        own("nut-driver"): (driver, 0o644), own("nut-server"): (server, 0o644),
        "etc/nut/ups.conf": (f"[{UPS}]\ndriver = dummy-ups\nport = {UPS}.dev\nmode = dummy-once\n", 0o600),
        f"etc/nut/{UPS}.dev": ("".join(f"{name}: {value}\n" for name, value in nut.ON_MAINS.items()), 0o600),
        "etc/nut/upsd.conf": ("LISTEN 0.0.0.0 3493\n", 0o600), "etc/nut/upsd.users": (user, 0o600),
    }  # fmt: skip


MAKERS = {"redis-server": redis, "postgresql": postgresql, "kafka": kafka, "seaweedfs": seaweedfs, "nut-server": nut_server}


def files(service: str, plan: Plan) -> Files:
    """All files of a server in a node."""
    return MAKERS[service](plan)


def binds(service: str) -> list[tuple[str, str, bool]]:
    """What a server needs of the checkout: its program, read-only."""
    if service == "kafka":
        return [(str(kafka_java.HOME), str(kafka_java.HOME), False)]
    return [(s3.program(), s3.program(), False)] if service == "seaweedfs" else []


def configuration(addresses: Mapping[str, str]) -> list[str]:
    """Lines of the appliance's configuration for the servers of the nodes that are there."""
    wanted: dict[str, dict[str, str]] = {}
    if "control-pc" in addresses:
        wanted["memory"] = {"redis_url": "redis://127.0.0.1:6379/0"}
    if nas := addresses.get("nas"):
        wanted["ups.nut.nas"] = {"host": nas}
    if memory := addresses.get("primecore2"):
        wanted["documents"] = {"url": f"postgresql://postgres@{memory}:5432/{DATABASE}"}
    if cloud := addresses.get("primecore4"):
        wanted["kafka"] = {"bootstrap_servers": f"{cloud}:9092"}
        wanted["analytics"] = {"host": cloud, "user": "postgres", "database": DATABASE}
        wanted["s3"] = {"endpoint": f"{cloud}:9000", "access_key": S3_KEY, "bucket": BUCKET}
    return [line for section, keys in wanted.items()
            for line in (f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in keys.items()), "")]  # fmt: skip
