"""Certificates by which agents prove themselves to brokers, each its own; against a Kafka that demands them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.core.access.authority import Authority
from appliance.core.agents import setup
from appliance.core.secrets import Secrets
from appliance.core.streams.kafka import Access, probe
from appliance.errors import ConfigError, LinkDownError
from appliance.settings import KafkaSettings, Settings
from tests.servers.kafka import KafkaServer
from tests.support import ManualClock

DAY = 86400.0
NODE = "spark-agent"


class Rig:
    """The appliance's authority, with a clock that the test moves."""

    def __init__(self, path: Path, wall: float = 1_800_000_000.0) -> None:
        self.clock, self.folder = ManualClock(wall), path / "secrets"
        self.authority = Authority(Secrets(self.folder, {}), self.clock, "pi")


def wanted(**kafka: Any) -> Settings:
    given = {"bootstrap_servers": "192.0.2.9:9092", "tls": True, **kafka}
    return Settings.model_validate({"kafka": given, "agents": {"certificates": True}})


def test_each_agent_has_a_certificate_of_its_own_that_is_renewed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    chain, key = rig.authority.client(NODE)
    found = x509.load_pem_x509_certificate(chain)
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(rig.authority.ca_pem()))
    assert found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == NODE
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH], "it is no server's"
    assert rig.authority.client(NODE) == (chain, key)
    assert rig.authority.client("other")[1] != key
    assert (rig.folder / f"tls.client.{NODE}").stat().st_mode & 0o777 == 0o600
    rig.clock.move(300 * DAY)
    assert rig.authority.client(NODE) == (chain, key)
    rig.clock.move(50 * DAY)
    assert rig.authority.client(NODE)[1] != key


def test_an_installation_takes_it_along_and_no_key_of_the_appliance(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for name in ("cert", "key"):
        (tmp_path / name).write_text(f"the appliance's {name}")
    settings = wanted(cert_file=tmp_path / "cert", key_file=tmp_path / "key")
    made = setup.make(NODE, settings, {"tasks.key": "x"}, rig.authority.client)
    chain, key = rig.authority.client(NODE)
    assert (made.files["kafka-cert.pem"], made.secrets["kafka.key"]) == (chain.decode(), key.decode())
    assert "the appliance's" not in repr(made.files) + repr(made.secrets)
    kafka = tomllib.loads(made.config)["kafka"]
    assert (kafka["cert_file"], kafka["key_file"]) == (
        "/etc/prime-spark-agent/kafka-cert.pem", "/run/credentials/prime-spark-agent.service/kafka.key",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="TLS"):
        setup.make(NODE, wanted(tls=False), {"tasks.key": "x"}, rig.authority.client)


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[tuple[KafkaServer, Rig]]:
    """A broker that demands certificates by the appliance's authority."""
    import time

    rig = Rig(tmp_path, time.time())
    trusted = tmp_path / "agents.pem"
    trusted.write_bytes(rig.authority.ca_pem())
    server = KafkaServer(tmp_path / "kafka", ("SSL",))
    server.settings |= {"listener.name.ssl.ssl.client.auth": "required", "ssl.truststore.location": str(trusted)}
    server.start()
    yield server, rig
    server.kill()


async def test_a_broker_takes_agents_by_their_certificate_alone(strict: tuple[KafkaServer, Rig], tmp_path: Path) -> None:
    server, rig = strict

    def access(pair: tuple[bytes, bytes] | None) -> Access:
        files: dict[str, Path] = {}
        for name, text in zip(("cert_file", "key_file"), pair or (), strict=False):
            files[name] = tmp_path / name
            files[name].write_bytes(text)
        given = {"bootstrap_servers": server.bootstrap("SSL"), "tls": True, "ca_file": server.access.authority.path, **files}
        return Access(KafkaSettings.model_validate(given), "", "agent")

    assert await probe(access(rig.authority.client(NODE))) == server.bootstrap("SSL")
    for wrong in (None, Rig(tmp_path / "stranger", rig.clock.wall()).authority.client(NODE)):
        with pytest.raises(LinkDownError):
            await probe(access(wrong))
