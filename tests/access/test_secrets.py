"""Secrets that lie elsewhere: files, systemd's credentials, Vault; and what happens while they cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.access.elsewhere import SecretService, open_secrets
from appliance.core.access.errors import SecretAwayError, SecretGoneError
from appliance.core.access.references import KEPT, PAUSE, References
from appliance.core.model import Health, ServiceStatus
from appliance.core.secrets import Secrets
from appliance.errors import StoreError
from appliance.settings import Settings
from tests.access.vault import ROLE, SECRET_ID, ScriptedVault
from tests.api.rig import serving
from tests.servers.kafka_security import Authority
from tests.support import ManualClock, wait_for

NAME = "kafka.password"
HOUR = 3600.0


@pytest.fixture
def vault() -> Iterator[ScriptedVault]:
    vault = ScriptedVault()
    vault.secrets["prime-spark/kafka"] = {"password": "first", "port": 9092}
    yield vault
    vault.close()


class Rig:
    """Secrets of an appliance in a folder, with a clock that the test moves."""

    def __init__(self, path: Path, vault: ScriptedVault | None = None, *references: str, **more: Any) -> None:
        self.path, self.clock, self.environ = path, ManualClock(), dict[str, str]()
        token = path / "token"
        token.write_text("hvs.file\n")
        token.chmod(0o600)
        given = {"url": vault.url if vault else "", "token_file": token if vault else None, "timeout_seconds": 5, **more}
        wanted = references or (f"{NAME}=vault:prime-spark/kafka#password",)
        self.settings = Settings.model_validate({"secrets": {"references": wanted}, "vault": given})
        self.fresh()

    def fresh(self) -> None:
        """As after a restart."""
        self.secrets = open_secrets(self.path / "secrets", self.environ, self.settings, self.clock)

    @property
    def away(self) -> References:
        assert self.secrets.elsewhere is not None
        return self.secrets.elsewhere


def test_a_secret_comes_out_of_vault(tmp_path: Path, vault: ScriptedVault) -> None:
    rig = Rig(tmp_path, vault, f"{NAME}=vault:prime-spark/kafka#password", "x.port=vault:prime-spark/kafka#port")
    assert rig.secrets.text(NAME) == "first"
    assert rig.secrets.get("x.port") == b"9092"
    assert [(each.name, each.here, each.kept, each.problem) for each in rig.away.status()] == [
        (NAME, True, False, ""), ("x.port", True, False, ""),
    ]  # fmt: skip
    kept = tmp_path / "secrets" / KEPT
    assert {each.stat().st_mode & 0o777 for each in kept.iterdir()} == {0o600}
    assert (kept.stat().st_mode & 0o777, sorted(each.name for each in kept.iterdir())) == (0o700, [NAME, "x.port"])


@pytest.mark.parametrize("fault", ["dead", "sealed", "garbage", "refused", "token", "redirect"])
def test_what_is_unreachable_is_told_and_its_last_good_value_is_used(tmp_path: Path, vault: ScriptedVault, fault: str) -> None:
    rig = Rig(tmp_path, vault)
    assert rig.secrets.text(NAME) == "first"
    if fault == "dead":
        vault.close()
    elif fault == "refused":
        vault.refused.add("prime-spark/kafka")
    elif fault == "token":
        vault.tokens.clear()
    else:
        setattr(vault, {"redirect": "elsewhere"}.get(fault, fault), True)
    for _ in range(2):
        rig.clock.move(HOUR)
        rig.away.refresh()
        assert rig.secrets.text(NAME) == "first"
        (told,) = rig.away.status()
        assert (told.here, told.kept, bool(told.problem), bool(told.next_step)) == (True, True, True, True)
        rig.fresh()  # the value outlives a restart
    rig.clock.move(72 * HOUR)
    rig.away.refresh()
    assert rig.secrets.text(NAME) == "", "it does not live for ever, and nothing takes its place"
    with pytest.raises(SecretAwayError, match="used no more"):
        rig.secrets.get(NAME)
    with pytest.raises(SecretAwayError):
        rig.secrets.get_or_create(NAME)
    assert not (tmp_path / "secrets" / NAME).exists(), "nor is one made"
    if fault == "dead":
        return
    vault.refused.clear()
    vault.tokens.add("hvs.file")
    vault.sealed = vault.garbage = vault.elsewhere = False
    rig.clock.move(PAUSE)
    rig.away.refresh()
    assert rig.secrets.text(NAME) == "first"


@pytest.mark.parametrize("step", [-86400.0 * 365, 86400.0 * 365])
def test_a_clock_that_is_set_ends_no_value_in_memory(tmp_path: Path, vault: ScriptedVault, step: float) -> None:
    rig = Rig(tmp_path, vault)
    assert rig.secrets.text(NAME) == "first"
    vault.sealed = True
    rig.clock.wall_now += step
    rig.away.refresh()
    assert rig.secrets.text(NAME) == "first"


@pytest.mark.parametrize("gone", ["deleted", "removed", "key"])
def test_what_was_taken_away_there_is_used_no_more(tmp_path: Path, vault: ScriptedVault, gone: str) -> None:
    rig = Rig(tmp_path, vault)
    assert rig.secrets.text(NAME) == "first"
    if gone == "deleted":
        vault.deleted.add("prime-spark/kafka")
    elif gone == "removed":
        vault.secrets.clear()
    else:
        vault.secrets["prime-spark/kafka"] = {"other": "x"}
    rig.away.refresh()
    with pytest.raises(SecretGoneError):
        rig.secrets.get(NAME)
    assert not (tmp_path / "secrets" / KEPT / NAME).exists()
    vault.sealed = True
    rig.fresh()
    with pytest.raises(SecretAwayError):
        rig.secrets.get(NAME)


def test_a_new_value_is_told_and_not_slipped_in(tmp_path: Path, vault: ScriptedVault) -> None:
    rig = Rig(tmp_path, vault)
    rig.secrets.get(NAME)
    vault.secrets["prime-spark/kafka"] = {"password": "second"}
    rig.away.refresh()
    assert [each.changed for each in rig.away.status()] == [True]
    report = asyncio.run(SecretService(rig.away, 300).health())
    assert (report.health, NAME in report.reason, "start" in report.next_step) == (Health.degraded, True, True)
    assert rig.secrets.text(NAME) == "second"
    assert [each.changed for each in rig.away.status()] == [False]


def test_a_role_logs_in_and_logs_in_again_when_its_token_ends(tmp_path: Path, vault: ScriptedVault) -> None:
    secret_id = tmp_path / "secret-id"
    secret_id.write_text(SECRET_ID)
    secret_id.chmod(0o600)
    rig = Rig(tmp_path, vault, token_file=None, role_id=ROLE, secret_id_file=secret_id, namespace="home")
    assert (rig.secrets.text(NAME), vault.logins) == ("first", 1)
    rig.away.refresh()
    assert vault.logins == 1
    vault.tokens.clear()
    rig.away.refresh()
    assert (vault.logins, [each.problem for each in rig.away.status()]) == (2, [""])
    assert set(vault.namespaces) == {"home"}
    secret_id.write_text("wrong")
    vault.tokens.clear()
    rig.away.refresh()
    assert "invalid role or secret ID" in rig.away.status()[0].problem
    secret_id.chmod(0o644)
    rig.clock.move(PAUSE)
    rig.away.refresh()
    assert "everybody can read it" in rig.away.status()[0].problem


def test_a_dead_vault_is_asked_once_not_for_each_secret(tmp_path: Path, vault: ScriptedVault) -> None:
    rig = Rig(tmp_path, vault, *(f"s.{number}=vault:prime-spark/kafka#password" for number in range(20)))
    vault.sealed = True
    before = len(vault.namespaces)
    assert {rig.secrets.text(f"s.{number}") for number in range(20)} == {""}
    assert len(vault.namespaces) == before + 1


def test_vault_is_proven_by_its_certificate(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    vault = ScriptedVault(authority.issue("vault"))
    vault.secrets["prime-spark/kafka"] = {"password": "first"}
    try:
        assert Rig(tmp_path, vault, ca_file=authority.path).secrets.text(NAME) == "first"
        (tmp_path / "elsewhere").mkdir()
        rig = Rig(tmp_path / "elsewhere", vault, ca_file=other.path)
        assert rig.secrets.text(NAME) == ""
        assert "cannot be used" in rig.away.status()[0].problem
    finally:
        vault.close()


def test_no_token_is_in_any_message(tmp_path: Path, vault: ScriptedVault, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path, vault)
    rig.secrets.get(NAME)
    for name in ("sealed", "garbage", "elsewhere"):
        setattr(vault, name, True)
        rig.clock.move(PAUSE)
        rig.away.refresh()
        setattr(vault, name, False)
    vault.tokens.clear()
    rig.clock.move(PAUSE)
    rig.away.refresh()
    text = caplog.text + repr(rig.away.status()) + repr(rig.settings)
    assert "cannot be fetched" in text
    assert "hvs." not in text
    assert "'first'" not in text


def test_files_and_credentials(tmp_path: Path) -> None:
    file, folder = tmp_path / "redis", tmp_path / "credentials"
    folder.mkdir()
    file.write_bytes(b"from a file\n")
    (folder / "s3").write_bytes(b"from systemd\n")
    rig = Rig(tmp_path, None, f"redis.password=file:{file}", "s3.secret_key=credential:s3")
    file.chmod(0o640)
    assert rig.secrets.text("redis.password") == "from a file"
    assert rig.secrets.text("s3.secret_key") == ""
    assert "CREDENTIALS_DIRECTORY" in rig.away.status()[1].problem
    rig.environ["CREDENTIALS_DIRECTORY"] = str(folder)
    rig.fresh()
    assert rig.secrets.text("s3.secret_key") == "from systemd"
    file.chmod(0o644)
    rig.fresh()
    assert rig.secrets.text("redis.password") == ""
    assert "everybody can read it" in rig.away.status()[0].problem
    assert not (tmp_path / "secrets" / KEPT).exists(), "what is on this machine is not copied"
    with pytest.raises(StoreError, match="comes from"):
        rig.secrets.put("redis.password", b"x")


def test_the_environment_does_not_go_before_a_reference(tmp_path: Path, vault: ScriptedVault) -> None:
    rig = Rig(tmp_path, vault)
    rig.environ["KAFKA_PASSWORD"] = "an old one"
    rig.fresh()
    assert rig.secrets.text(NAME) == "first"
    vault.sealed = True
    rig.clock.move(73 * HOUR)
    rig.away.refresh()
    assert rig.secrets.text(NAME) == "", "and no other takes its place"


def test_a_credential_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"x")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError, match="credential"):
        Secrets(tmp_path / "secrets", {"CREDENTIALS_DIRECTORY": str(tmp_path)}).get(NAME)


@pytest.mark.parametrize(
    "wrong",
    [
        {"references": ["kafka.password"]}, {"references": ["kafka.password=secret"]}, {"references": ["a=vault:x"]},
        {"references": ["a=vault:../x#y"]}, {"references": ["a=vault:x//y#z"]}, {"references": ["a=file:relative"]},
        {"references": ["a=credential:../x"]}, {"references": ["audit.key=file:/x"]}, {"references": ["../a=file:/x"]},
        {"references": ["a=file:/x", "a=file:/y"]}, {"keep_hours": -1},
    ],
    ids=str,
)  # fmt: skip
def test_references_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="secrets"):
        Settings.model_validate({"secrets": wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://vault.example.org:8200", "token_file": "/t"}, {"url": "vault.example.org"},
        {"url": "https://u:p@vault.example.org", "token_file": "/t"}, {"url": "https://vault.example.org"},
        {"url": "https://vault.example.org", "token_file": "/t", "role_id": "x", "secret_id_file": "/s"}, {"role_id": "x"},
        {"mount": "../x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_vault_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="vault"):
        Settings.model_validate({"vault": wrong})


async def test_an_appliance_starts_without_its_vault_and_says_so(tmp_path: Path, vault: ScriptedVault) -> None:
    home, token = tmp_path / "home", tmp_path / "token"
    home.mkdir(mode=0o700)
    token.write_text("hvs.file")
    token.chmod(0o600)
    vault.sealed = True
    further = f"""
[secrets]
references = ["kafka.password=vault:prime-spark/kafka#password"]
[vault]
url = "{vault.url}"
token_file = "{token}"
"""
    async with serving(home, further, services=("secrets",)) as api:
        (told,) = await api.invoke("secret.list")
        assert (told.name, told.here) == (NAME, False)
        assert "first" not in repr(told)

        def status() -> ServiceStatus:
            assert api.appliance.supervisor is not None
            return next(each for each in api.appliance.supervisor.statuses() if each.name == "secrets")

        await wait_for(lambda: "Vault is sealed" in status().reason)
        assert status().health is Health.unhealthy
