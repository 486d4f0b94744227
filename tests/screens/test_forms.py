"""Forms stay open until what was typed is taken, and say beside the field why it was not."""

from __future__ import annotations

import os

import pytest
from textual.widgets import Input

from appliance import configfile, paths
from appliance.core.model import Role
from appliance.errors import ConfigError
from appliance.screens.forms import FieldError, Fields, field_of, parse, with_repeats
from tests.screens.conftest import Bench, Seen
from tests.support import wait_for


async def fill(seen: Seen, **values: str) -> None:
    """Type into the fields, in their order, and press Enter after each."""
    for name, value in values.items():
        await wait_for(lambda name=name: seen.app.focused is not None and seen.app.focused.id == f"field-{name}")  # type: ignore[misc]
        if value and typed(seen, name):
            seen.session.feed(b"\x15")
            await wait_for(lambda name=name: not typed(seen, name))  # type: ignore[misc]
        seen.session.feed(f"{value}\r".encode())


def typed(seen: Seen, name: str) -> str:
    return seen.app.screen.query_one(f"#field-{name}", Input).value


async def wizard(bench: Bench) -> Seen:
    """A console of an appliance without an administrator."""
    await bench.appliance.store.write(lambda connection: connection.execute("DELETE FROM users"))
    await bench.appliance.domains.setup.refresh()  # type: ignore[union-attr]
    seen = bench.open()
    await seen.shows("First run")
    await wait_for(lambda: isinstance(seen.app.screen, Fields))
    return seen


async def test_the_wizard_stays_and_keeps_what_was_typed(bench: Bench) -> None:
    seen = await wizard(bench)
    await fill(seen, device_id="", admin="", password="short", again="short")
    await seen.shows("shorter than")
    await seen.shows("choose a longer one")
    lines = seen.display.splitlines()
    label = next(index for index, line in enumerate(lines) if "8 characters at least" in line)
    assert "shorter than" in lines[label + 2], "beside the field that it is about"
    assert seen.app.focused is seen.app.screen.query_one("#field-password")
    assert (typed(seen, "admin"), typed(seen, "password")) == ("admin", "short")
    await fill(seen, password="battery staple", again="battery stable")
    await seen.shows("this is not the same password")
    assert "shorter than" not in seen.display
    await fill(seen, again="battery staple")
    await seen.shows("may log in over SSH")
    assert await bench.appliance.accounts.check_password("admin", "battery staple") is not None
    await seen.end()


async def test_a_name_that_is_not_kept_is_told(bench: Bench) -> None:
    """The administrator is there either way; why the name is not stands there whole."""
    bench.appliance.paths.config.unlink()
    bench.appliance.paths.config.mkdir()
    seen = await wizard(bench)
    await fill(seen, device_id="kitchen", admin="", password="battery staple", again="battery staple")
    await seen.shows("But the appliance keeps its name")
    await seen.shows("cannot be read")
    await seen.end()


async def test_a_setting_that_is_refused_can_be_mended(bench: Bench) -> None:
    seen = bench.open()
    await seen.press("8", "node.device_id")
    await seen.press("e", "Enter")
    await wait_for(lambda: isinstance(seen.app.screen, Fields))
    before = typed(seen, "value")
    seen.session.feed(b"!? ?!\r")
    await wait_for(lambda: seen.app.focused is not None and "Next:" in seen.display)
    assert isinstance(seen.app.screen, Fields)
    assert typed(seen, "value") == f"{before}!? ?!"
    assert ".toml" not in seen.display.partition("Next:")[0].rpartition("!? ?!")[2]
    await seen.end()


async def test_setup_from_the_palette_is_the_wizard(bench: Bench) -> None:
    """With a second field for the password; as any other form that asks for one."""
    seen = bench.open()
    await seen.shows("Host")
    for command, title in (("setup complete", "First run"), ("user add", "Add a user")):
        await seen.press(":", "narrow down")
        await seen.press(command, command.replace(" ", ": "))
        await seen.press("\r", title)
        await seen.shows("the same password again")
        await seen.press("\x1b", " q Quit")
    await seen.end()


async def test_who_may_not_is_told_before_they_type(bench: Bench) -> None:
    seen = bench.open(role=Role.viewer)
    await seen.press("3", "Results")
    await seen.press("o", "needs the role operator")
    assert not isinstance(seen.app.screen, Fields)
    await seen.end()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("ssh.port", "70000", r"^ssh\.port: "),
        ("ssh.prt", "1", r"^unknown key ssh\.prt\."),
        ("ssh.port.deep", "1", r"^ssh\.port: "),
        ("telemetry.interval_seconds", "soon", r"^telemetry\.interval_seconds: "),
    ],
)
def test_a_value_that_is_not_in_the_file_has_no_line_there(home: object, key: str, value: str, told: str) -> None:
    where = paths.find()
    where.make()
    where.config.write_text("# mine\n[ssh]\nenabled = true\n")
    with pytest.raises(ConfigError, match=told) as caught:
        configfile.change(where, key, value, dict(os.environ))
    assert where.config.name not in caught.value.message
    assert where.config.read_text() == "# mine\n[ssh]\nenabled = true\n"


def test_another_fault_in_the_file_keeps_its_place(home: object) -> None:
    where = paths.find()
    where.make()
    where.config.write_text("[ssh]\nport = 70000\n")
    with pytest.raises(ConfigError, match=rf"^{where.config}:2: ssh\.port: "):
        configfile.change(where, "ssh.enabled", "true", dict(os.environ))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("user.add: role: wrong; password: too long.", "role"),
        ("The password is shorter than 8 characters.", "password"),
        ("x: device_id: String should match", "device_id"),
        ("The disk is full.", ""),
    ],
)
def test_an_error_stands_beside_its_field(message: str, field: str) -> None:
    assert field_of(message, {"name": {}, "role": {}, "password": {}, "device_id": {}}) == field


def test_what_is_neither_yes_nor_no_is_refused() -> None:
    assert parse("on", {"type": "boolean"}, "yes") is True
    assert parse("on", {"type": "boolean"}, "off") is False
    with pytest.raises(FieldError, match="yes or no, not 'perhaps'"):
        parse("on", {"type": "boolean"}, "perhaps")
    assert list(with_repeats({"password": {"format": "password"}, "x": {}})) == ["password", "again", "x"]
