"""The authority, its certificates, and HTTPS on a real socket."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from appliance.core.access import addresses
from appliance.core.access.authority import CA_CERT, CERT, KEY, Authority, describe
from appliance.core.access.certificates import Certificates
from appliance.core.secrets import Secrets
from appliance.errors import ConfigError, StoreError
from tests.api.rig import serving
from tests.support import ManualClock, free_port, wait_for

NAMES = ["localhost", "pi.local", "127.0.0.1", "::1"]
DAY = 86400.0


def authority(path: Path, clock: ManualClock) -> Authority:
    return Authority(Secrets(path / "secrets", {}), clock, "pi")


def test_a_certificate_holds_all_names_and_is_signed_by_the_authority(tmp_path: Path) -> None:
    clock = ManualClock()
    made = authority(tmp_path, clock)
    cert, key, new = made.server(NAMES)
    assert new
    assert made.server(NAMES) == (cert, key, False)
    ca = x509.load_pem_x509_certificate(made.ca_pem())
    found = x509.load_pem_x509_certificate(cert)
    found.verify_directly_issued_by(ca)
    info = describe(cert)
    assert set(info.names) == set(NAMES)
    assert info.begins <= clock.wall() < info.ends
    for name in (CERT, KEY, CA_CERT, "tls.ca_key"):
        assert (tmp_path / "secrets" / name).stat().st_mode & 0o777 == 0o600
    assert made.server([*NAMES, "new.example.org"])[2], "a name was missing"
    assert x509.load_pem_x509_certificate(made.ca_pem()) == ca


@pytest.mark.parametrize(("later", "new"), [(300 * DAY, False), (350 * DAY, True), (500 * DAY, True), (-30 * DAY, True)])
def test_it_is_renewed_before_its_end_and_where_the_clock_was_wrong(tmp_path: Path, later: float, new: bool) -> None:
    clock = ManualClock()
    made = authority(tmp_path, clock)
    made.server(NAMES)
    ca = made.ca_pem()
    clock.wall_now += later
    cert, _, found = made.server(NAMES)
    assert found is new
    assert describe(cert).begins <= clock.wall() < describe(cert).ends
    assert made.ca_pem() == ca, "whoever trusts the authority need not trust another"


def test_an_authority_that_was_founded_in_1970_holds_today(tmp_path: Path) -> None:
    clock = ManualClock(0.0)
    made = authority(tmp_path, clock)
    made.server(NAMES)
    info = describe(made.ca_pem())
    assert info.begins <= 0.0 + DAY
    assert info.ends > dt.datetime(2035, 1, 1, tzinfo=dt.UTC).timestamp()


def test_half_an_authority_and_damaged_ones_are_told(tmp_path: Path) -> None:
    made = authority(tmp_path, ManualClock())
    made.ca_pem()
    file = tmp_path / "secrets" / CA_CERT
    whole = file.read_bytes()
    file.write_bytes(b"garbage")
    with pytest.raises(StoreError, match="damaged"):
        made.ca_pem()
    file.unlink()
    with pytest.raises(StoreError, match="missing"):
        made.ca_pem()
    file.write_bytes(whole)
    file.chmod(0o600)
    (tmp_path / "secrets" / CERT).write_bytes(b"garbage")
    (tmp_path / "secrets" / CERT).chmod(0o600)
    assert made.server(NAMES)[2]


def test_an_own_certificate_is_used_watched_and_never_replaced(tmp_path: Path) -> None:
    clock = ManualClock()
    cert, key, _ = authority(tmp_path / "other", clock).server(NAMES)
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, value in zip(files, (cert, key), strict=True):
        file.write_bytes(value)
    own = Certificates(authority(tmp_path, clock), clock, lambda: NAMES, *files, None, tmp_path)
    own.context()
    assert (own.trouble(), own.info().own) == ("", False)
    with pytest.raises(ConfigError, match="your own"):
        own.remake()
    clock.wall_now += 390 * DAY
    assert "ends in 7 days" in own.trouble()
    clock.wall_now += 10 * DAY
    assert own.trouble() == "the certificate has expired"
    clock.wall_now -= 800 * DAY
    assert "clock" in own.trouble()
    files[1].write_bytes(authority(tmp_path / "third", clock).server(NAMES)[1])
    assert not own.renew()
    assert "a new one cannot be used: The certificate or its key cannot be used" in own.trouble()
    files[0].unlink()
    assert not own.renew()
    assert "cannot be read" in own.trouble()
    with pytest.raises(ConfigError, match="cannot be read"):
        Certificates(authority(tmp_path, clock), clock, lambda: NAMES, *files, None, tmp_path).context()


def test_addresses_come_from_the_kernels_tables() -> None:
    trie = "Main:\n     |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n"
    assert [str(each) for each in addresses.local_v4(trie)] == ["192.0.2.7"]
    assert str(addresses.v6("20010db8000000000000000000000001 02 40 00 80 eth0\n")[0]) == "2001:db8::1"
    assert {"localhost", "127.0.0.1", "::1", "pi", "x.example.org"} <= set(addresses.own_names("pi", ["x.example.org"]))


async def test_https_from_the_first_start_a_new_certificate_without_a_break_and_the_way_from_http(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    plain = free_port()
    async with serving(home, f'tls = "yes"\nredirect_port = {plain}\nnames = ["pi.example.org"]\n') as api:
        assert api.url.startswith("https://")
        told = await api.invoke("tls.export")
        assert told["qr"]
        trust = ssl.create_default_context(cadata=told["pem"])
        shown = await api.invoke("tls.show")
        assert {"pi.example.org", "127.0.0.1"} <= set(shown["certificate"].names)
        async with httpx.AsyncClient(verify=trust, base_url=api.url, timeout=60) as client:
            answer = await client.get("/health")
            assert (answer.status_code, "max-age" in answer.headers["strict-transport-security"]) == (200, True)
            renewed = await api.invoke("tls.renew")
            assert renewed.fingerprint != shown["certificate"].fingerprint
            assert (await client.get("/health")).status_code == 200, "open connections go on"
        assert await served(api.port, told["pem"]) == renewed.fingerprint
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(timeout=60) as stranger:
                await stranger.get(f"{api.url}/health")
        async with httpx.AsyncClient(timeout=60) as client:
            for host, target in (("pi.example.org", "pi.example.org"), ("evil.example.net", "localhost")):
                answer = await client.get(f"http://127.0.0.1:{plain}//x?y=1", headers={"Host": host})
                assert (answer.status_code, answer.headers["location"]) == (308, f"https://{target}:{api.port}//x?y=1")


async def served(port: int, ca: str) -> str:
    """The fingerprint of the certificate that new connections get."""
    context = ssl.create_default_context(cadata=ca)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return _colons(hashlib.sha256(shown).hexdigest())
    finally:
        writer.close()


def _colons(text: str) -> str:
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2)).upper()


async def test_clients_without_a_certificate_are_refused_where_one_is_wanted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    clients = authority(tmp_path / "clients", ManualClock(dt.datetime.now(dt.UTC).timestamp()))
    (tmp_path / "ca.pem").write_bytes(clients.ca_pem())
    async with serving(home, f'tls = "yes"\nclient_ca_file = "{tmp_path / "ca.pem"}"\n') as api:
        trust = ssl.create_default_context(cadata=(await api.invoke("tls.export"))["pem"])
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(verify=trust, timeout=60) as client:
                await client.get(f"{api.url}/health")


async def test_without_an_administrator_it_stays_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is loopback's all the same: what is looked at is whether it would be left."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr("appliance.api.listener.LOOK", 0.05)
    monkeypatch.setattr("appliance.settingaccess.is_loopback", lambda _: False)
    async with serving(home) as api:
        service = api.access._http
        await wait_for(lambda: not service._kept_in, message="ada has a password")
        await api.invoke("user.set-role", name="otto", role="admin")
        await api.invoke("user.remove", name="ada")
        await wait_for(lambda: service._kept_in == "no administrator has a password")
        report = await service.health()
        assert (report.health.value, "this machine alone" in report.reason) == ("degraded", True)
        await wait_for(lambda: service.urls and service.urls[0].startswith("https://127.0.0.1:"))
