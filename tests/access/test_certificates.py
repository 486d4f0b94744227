"""Which certificate is shown, through handshakes in memory: half-copied ones, those of public authorities, ends and alerts."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.core.access.authority import Authority, describe
from appliance.core.access.certificates import Certificates, Pem
from appliance.core.alerts.rules import DEFAULTS
from appliance.core.model import Health, Phase, ServiceStatus
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState, Section
from appliance.errors import ConfigError
from tests.support import ManualClock

DAY = 86400.0
HOME, PUBLIC = ["pi.local", "127.0.0.1"], ["spark.example.org"]


class Bench:
    """Certificates, and a clock that stands where the real one is: OpenSSL looks at that one."""

    def __init__(self, path: Path, public: Callable[[], Pem | None] = lambda: None, *, own: bool = False) -> None:
        import time

        self.path, self.clock = path, ManualClock(time.time())
        self.authority = self.other("home")
        files = (path / "cert.pem", path / "key.pem") if own else (None, None)
        if own:
            self.put(self.authority.server(HOME)[:2])
        self.certificates = Certificates(self.authority, self.clock, lambda: HOME, *files, None, path, public)

    def other(self, name: str) -> Authority:
        return Authority(Secrets(self.path / name, {}), self.clock, name)

    def put(self, pair: Pem) -> None:
        for name, value in zip(("cert.pem", "key.pem"), pair, strict=True):
            (self.path / name).write_bytes(value)


def shown(server: ssl.SSLContext, name: str | None, client: ssl.SSLContext | None = None) -> str:
    """The fingerprint that a handshake shows to who asks for a name. Raises ssl.SSLError."""
    if client is None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, to, server_hostname=name)
    answering = server.wrap_bio(to, back, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    answering.do_handshake()
    certificate = asking.getpeercert(binary_form=True)
    assert certificate is not None
    return hashlib.sha256(certificate).hexdigest()


def marked(pair: Pem) -> str:
    return describe(pair[0]).fingerprint.replace(":", "").lower()


@pytest.mark.parametrize("half", ["cert.pem", "key.pem", "garbage", "password"])
def test_a_certificate_that_is_half_there_changes_nothing(tmp_path: Path, half: str) -> None:
    """It ended every handshake, and after the next restart of the listener the whole API."""
    bench = Bench(tmp_path, own=True)
    before, after = bench.authority.server(HOME)[:2], bench.other("new").server(HOME)[:2]
    context = bench.certificates.context()
    if half == "garbage":
        (tmp_path / "cert.pem").write_bytes(b"-----BEGIN")
    elif half == "password":
        bench.put((after[0], locked(after[1])))
    else:
        (tmp_path / half).write_bytes(after[half == "key.pem"])
    assert not bench.certificates.renew()
    assert shown(context, None) == marked(before)
    assert bench.certificates.context() is context
    assert "a new one cannot be used" in bench.certificates.trouble()
    assert bench.certificates.info().fingerprint == describe(before[0]).fingerprint
    bench.put(after)
    assert bench.certificates.renew()
    assert (shown(context, None), bench.certificates.trouble()) == (marked(after), "")


def locked(key: bytes) -> bytes:
    """The same key under a password."""
    from cryptography.hazmat.primitives import serialization as form

    loaded = form.load_pem_private_key(key, None)
    return loaded.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x"))


def test_whoever_asks_for_a_public_name_is_shown_that_certificate(tmp_path: Path) -> None:
    found: list[Pem] = []
    bench = Bench(tmp_path, lambda: found[-1] if found else None)
    public = bench.other("public")
    context = bench.certificates.context()
    home = shown(context, "pi.local")
    assert shown(context, "spark.example.org") == home
    found.append(public.server(PUBLIC)[:2])
    assert bench.certificates.renew()
    assert not bench.certificates.renew()
    assert shown(context, "spark.example.org") == shown(context, "SPARK.example.org") == marked(found[-1])
    assert shown(context, "pi.local") == shown(context, None) == shown(context, "other.example.org") == home
    found.append((b"garbage", b"garbage"))
    assert not bench.certificates.renew()
    assert shown(context, "spark.example.org") == marked(found[0])
    bench.clock.move(398 * DAY)
    assert shown(context, "spark.example.org") != marked(found[0]), "once it has ended it is of no use to anybody"


def test_a_public_name_is_no_way_around_the_certificate_of_clients(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    clients, public = bench.other("clients"), bench.other("public").server(PUBLIC)[:2]
    (tmp_path / "clients.pem").write_bytes(clients.ca_pem())
    strict = Certificates(
        bench.authority, bench.clock, lambda: HOME, None, None, tmp_path / "clients.pem", tmp_path, lambda: public
    )
    for name in ("pi.local", "spark.example.org", None):
        with pytest.raises(ssl.SSLError):
            shown(strict.context(), name)


def test_the_end_of_the_authority_itself_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.certificates.context()
    bench.clock.move(3550 * DAY)
    bench.certificates.renew()
    assert "the authority itself ends in 100 days" in bench.certificates.trouble()
    bench.clock.move(200 * DAY)
    bench.certificates.renew()
    assert "the authority itself has expired" in bench.certificates.trouble()


@pytest.mark.parametrize(("days", "fires"), [(300.0, False), (14.5, False), (13.0, True), (-2.0, True)])
def test_an_alert_comes_before_the_end_and_stays_after_it(days: float, fires: bool) -> None:
    rule = next(each for each in DEFAULTS if each.name == "certificate")
    state = LiveState(ManualClock())
    assert [each.value for each in rule.measure(state)] == [None], "no service shows one"
    status = ServiceStatus(
        "http", "REST", Phase.running, Health.healthy, "", details={"certificate_days": days}
    )  # fmt: skip
    state.put(Section.services, (status,))
    (reading,) = rule.measure(state)
    assert reading.value == days
    assert rule.holds(days) is fires
    assert ("expired" in rule.told(rule.verdict(reading))) is (days < 0)


def test_the_first_certificate_must_be_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path, own=True)
    (tmp_path / "key.pem").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        bench.certificates.context()
