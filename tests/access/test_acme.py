"""A certificate by a public authority: against Pebble, and how renewing goes on while an authority fails."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.core.access.acme import PAIR
from appliance.core.access.authority import Authority, describe
from appliance.core.access.challenges import MOST, PREFIX, Challenges
from appliance.core.access.errors import AcmeError
from appliance.core.access.renewal import FIRST, AcmeService
from appliance.core.model import Health
from appliance.core.secrets import Secrets
from appliance.errors import AbsentError, ConflictError
from appliance.settingacme import AcmeSettings
from tests.access.pebble import Pebble, program
from tests.api.rig import Api, serving
from tests.support import ManualClock, free_port, wait_for

DAY = 86400.0
NAMES = ("spark.example.org",)


class Signing:
    """An authority that signs, or fails, as the test wants; what it signs is real."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self._secrets = Secrets(path / "kept", {})
        self._authority = Authority(Secrets(path / "public", {}), clock, "public")
        self.fails = False
        self.asked = 0
        self.during: Callable[[], None] = lambda: None

    def obtain(self) -> bytes:
        self.asked += 1
        self.during()
        if self.fails:
            raise AcmeError("The authority signed nothing: it is down.", "wait.")
        cert, key, _ = self._authority.server(list(NAMES), force=True)
        self._secrets.put(PAIR, key + cert)
        return key + cert

    def pair(self) -> bytes | None:
        return self._secrets.get(PAIR)


class Rig:
    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.signing = Signing(path, self.clock)
        self.why = ""
        self.fresh()

    def fresh(self) -> None:
        self.service = AcmeService(self.signing, self.signing.pair, NAMES, self.clock, lambda: self.why)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_it_is_renewed_after_two_thirds_of_its_life_and_not_before(rig: Rig) -> None:
    assert (await rig.service.health()).health is Health.degraded
    await rig.service.turn()
    assert rig.signing.asked == 1
    first = rig.signing.pair()
    assert (await rig.service.health()).health is Health.healthy
    rig.clock.move(240 * DAY)
    rig.fresh()
    await rig.service.turn()
    assert rig.signing.asked == 1
    rig.clock.move(30 * DAY)
    await rig.service.turn()
    assert rig.signing.asked == 2
    assert rig.signing.pair() != first


async def test_a_failing_authority_leaves_the_present_one_and_is_asked_less_and_less(rig: Rig) -> None:
    await rig.service.turn()
    kept = rig.signing.pair()
    rig.signing.fails = True
    rig.clock.move(300 * DAY)
    for tries in range(2, 6):
        await rig.service.turn()
        assert rig.signing.asked == tries
        before = rig.service._next_try - rig.clock.monotonic()
        assert FIRST / 2 * 2 ** (tries - 2) <= before <= FIRST * 2 ** (tries - 2)
        await rig.service.turn()
        assert rig.signing.asked == tries, "not before its time"
        rig.clock.move(before)
    assert rig.signing.pair() == kept
    report = await rig.service.health()
    assert (report.health, "is not renewed" in report.reason, report.details["certificate_days"] > 90) == (
        Health.degraded, True, True,
    )  # fmt: skip
    rig.clock.move(200 * DAY)
    report = await rig.service.health()
    assert (report.health, "expired" in report.reason) == (Health.unhealthy, True)
    assert report.details["certificate_days"] < 0, "the rule certificate tells of it"
    rig.signing.fails = False
    await rig.service.turn()
    assert (await rig.service.health()).health is Health.healthy


@pytest.mark.parametrize("step", [-400 * DAY, -86400.0 * 20000])
async def test_a_clock_that_was_set_back_asks_nobody(rig: Rig, step: float) -> None:
    await rig.service.turn()
    rig.clock.wall_now = max(0.0, rig.clock.wall_now + step)
    await rig.service.turn()
    assert rig.signing.asked == 1
    assert "is the clock right" in (await rig.service.health()).reason


async def test_nobody_is_asked_where_nobody_could_ask_here(rig: Rig) -> None:
    rig.why = "api.redirect_port is not set"
    await rig.service.turn()
    assert rig.signing.asked == 0
    report = await rig.service.health()
    assert (report.health, rig.why in report.reason) == (Health.unhealthy, True)
    with pytest.raises(AcmeError, match="redirect_port"):
        await rig.service.obtain()


async def test_one_order_at_a_time(rig: Rig) -> None:
    both = await asyncio.gather(rig.service.obtain(), rig.service.obtain(), return_exceptions=True)
    assert sum(isinstance(each, ConflictError) for each in both) == 1
    assert rig.signing.asked == 1


def test_challenges_are_bounded_and_nothing_else_is_answered() -> None:
    challenges = Challenges()
    for number in range(MOST + 5):
        challenges.put(f"t{number}", "x")
    assert len(challenges) == MOST
    assert challenges.answer(f"{PREFIX}t{MOST}") == "x"
    for path in (f"{PREFIX}t0", f"{PREFIX}../t10", PREFIX, "/t10", f"{PREFIX}t10/", f"/x{PREFIX}t10"):
        assert challenges.answer(path) is None, path
    for token in ("", "a/b", "a b", "../x", "x" * 300):
        with pytest.raises(ValueError, match="token"):
            challenges.put(token, "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"directory": "http://acme.example.org/dir", "names": NAMES, "agree_terms": True},
        {"directory": "https://acme.example.org/dir", "agree_terms": True}, {"names": ["10.8.0.2"]},
        {"names": ["*.example.org"]},
        {"directory": "https://acme.example.org/dir", "names": NAMES}, {"names": ["localhost"]}, {"email": "a@b, c@d"},
        {"names": ["a\nb.example.org"]},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="AcmeSettings"):
        AcmeSettings.model_validate(wrong)


@pytest.fixture
async def public(tmp_path: Path) -> AsyncIterator[tuple[Pebble, int]]:
    """Pebble, and the port on which it asks."""
    program()
    port = free_port()
    pebble = await asyncio.to_thread(Pebble, tmp_path / "pebble", port)
    yield pebble, port
    await asyncio.to_thread(pebble.close)


def settings(pebble: Pebble, port: int, names: tuple[str, ...] = NAMES) -> str:
    return f"""
tls = "yes"
redirect_port = {port}
[acme]
directory = "{pebble.directory}"
names = {json.dumps(list(names))}
agree_terms = true
ca_file = "{pebble.authority.path}"
"""


async def shown(api: Api, name: str) -> tuple[str, tuple[str, ...]]:
    """Issuer and names of the certificate that whoever asks for a name gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=context, server_hostname=name)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    found = describe(ssl.DER_cert_to_PEM_cert(der).encode())
    return found.issuer, found.names


async def test_an_authority_signs_and_the_name_is_shown_without_a_restart(tmp_path: Path, public: tuple[Pebble, int]) -> None:
    pebble, port = public
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home, settings(pebble, port), services=("acme",)) as api:
        await wait_for(lambda: api.appliance.secrets.get(PAIR) is not None, 60, "the authority signs")
        file = home_of(api) / PAIR
        assert file.stat().st_mode & 0o777 == 0o600
        told = await api.invoke("tls.show")
        assert told["public"].names == NAMES
        await api.invoke("tls.renew")  # takes up both
        issuer, names = await shown(api, NAMES[0])
        assert ("Pebble" in issuer, names) == (True, NAMES)
        assert "Prime Spark" in (await shown(api, "localhost"))[0]
        async with httpx.AsyncClient(timeout=60) as client:
            plain = await client.get(f"http://127.0.0.1:{port}{PREFIX}nothing", headers={"Host": NAMES[0]})
            assert (plain.status_code, plain.headers["location"]) == (308, f"https://{NAMES[0]}:{api.port}{PREFIX}nothing")
        assert (api.access.challenges.asked > 0, len(api.access.challenges)) == (True, 0)
        before = api.appliance.secrets.get(PAIR)
        again = await api.invoke("tls.obtain")
        assert again.names == NAMES
        assert api.appliance.secrets.get(PAIR) != before
        kept = api.appliance.secrets.get(PAIR)
        await asyncio.to_thread(pebble.child.kill)
        with pytest.raises(AcmeError, match="signed nothing"):
            await api.invoke("tls.obtain")
        assert api.appliance.secrets.get(PAIR) == kept
        report = await api.access.acme.health()
        assert (report.health, "is not renewed" in report.reason) == (Health.degraded, True)


async def test_a_name_that_the_authority_refuses_is_told_and_the_rest_goes_on(
    tmp_path: Path, public: tuple[Pebble, int]
) -> None:
    pebble, port = public
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with serving(home, settings(pebble, port, ("blocked.example.org",)), services=("acme",)) as api:
        with pytest.raises(AcmeError, match=r"blocked\.example\.org|rejectedIdentifier|policy"):
            await obtained(api)
        assert api.appliance.secrets.get(PAIR) is None
        assert "Prime Spark" in (await shown(api, "blocked.example.org"))[0]
        assert (await api.access.acme.health()).health is Health.unhealthy
    (tmp_path / "other").mkdir(mode=0o700)
    async with serving(tmp_path / "other") as api:
        with pytest.raises(AbsentError, match="No public authority"):
            await api.invoke("tls.obtain")


async def obtained(api: Api) -> Any:
    """`tls.obtain`, once the order of the start is over."""
    await wait_for(lambda: api.access.acme._problem, 60, "the first order is over")
    return await api.invoke("tls.obtain")


def home_of(api: Api) -> Path:
    return api.appliance.paths.secrets
