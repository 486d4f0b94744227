"""The inventory: the configuration, the file that actions and people write, ~/.ssh/config, and choosing from it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.core.doctor.checks import fleet as doctor
from appliance.core.fleet import inventory_file
from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.inventory_entry import Entry, configured
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.model import Node
from appliance.core.fleet.sshconfig import SshFiles
from appliance.core.secrets import Secrets
from appliance.errors import ApplianceError, ConfigError, ConflictError, InvalidArgumentsError, NotFoundError, StoreError
from appliance.settingfleet import FleetSettings, NodeAccess
from tests.unit.doctor_support import Machine

PIN = "SHA256:" + "b" * 43


def loaded(path: Path, text: str, *nodes: Node) -> FleetInventory:
    path.write_text(text)
    inventory = FleetInventory(nodes, path)
    inventory.load()
    return inventory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inventory.toml"


def test_actions_write_it_and_keep_what_people_wrote(path: Path) -> None:
    inventory = FleetInventory([], path)
    inventory.load()
    inventory.add("one", {"host": "10.0.0.1", "groups": ["lan"], "tags": {"place": "cellar"}})
    path.write_text(path.read_text().replace("[nodes.one]", "# mine, in the cellar\n[nodes.one]"))
    inventory.add("two", {"host": "10.0.0.2", "jump": "one"})
    inventory.change("one", {"user": "ada", "port": 2222, "groups": None})
    text = path.read_text()
    assert text.startswith("# The machines that the appliance reaches")
    assert "# mine, in the cellar\n[nodes.one]" in text
    again = FleetInventory([], path)
    again.load()
    assert again.all() == inventory.all()
    one = again.get("one")
    assert (one.host, one.user, one.port, one.groups, one.tags) == ("10.0.0.1", "ada", 2222, (), {"place": "cellar"})
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConflictError, match="two: reached through one"):
        inventory.remove("one")
    inventory.remove("two")
    inventory.remove("one")
    assert "# mine" not in path.read_text() or inventory.all() == ()
    assert [each.name for each in path.parent.iterdir()] == ["inventory.toml"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[nodes.a]\nhost = \"10.0.0.1\"\n[nodes.a]\nhost = \"10.0.0.2\"\n", 3, "Cannot declare"),
        ("[nodes.a]\nhost = \n", 2, "Invalid value"),
        ("[nodes.a]\nport = 22\n", 1, "nodes.a.host: it is missing"),
        ("\n[nodes.a]\nhost = \"300.1.1.1\"\n", 3, "no address of a machine"),
        ("[nodes.a]\nhost = \"10.0.0.1:22\"\n", 2, "no address of a machine"),
        ("[nodes.a]\nhost = \"x\"\nhots = \"y\"\n", 3, "there is no such key"),
        ("[nodes.a]\nhost = \"x\"\nport = 70000\n", 3, "less than or equal to 65535"),
        ("[nodes.a]\nhost = \"x\"\nhost_key = \"MD5:1\"\n", 3, "host_key"),
        ("[nodes.a]\nhost = \"x\"\nservices = [\"redis\"]\n", 3, "no service that can be looked at"),
        ("[nodes.a]\nhost = \"x\"\n\n[nodes.b]\nhost = \"y\"\njump = \"c\"\n", 6, "through c, which is no machine here"),
        ("[nodes.a]\nhost = \"x\"\njump = \"b\"\n[nodes.b]\nhost = \"y\"\njump = \"a\"\n", 3, "in a circle: a → b → a"),
        ("[nodes.a]\nhost = \"x\"\njump = \"a\"\n", 3, "in a circle: a → a"),
        ("[nodes.given]\nhost = \"x\"\n", 1, "given is in the configuration too"),
        ("[nodes.\"a b\"]\nhost = \"x\"\n", 1, "no name of a machine"),
        ("[machines.a]\nhost = \"x\"\n", 1, "there is no table machines"),
        ("[host_keys]\ngiven = \"what\"\n", 2, "not understood"),
        ("[nodes.a]\nhost = \"x\\u0000y\"\n", 2, "no address of a machine"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_its_line_and_the_last_good_one_holds(path: Path, text: str, line: int, problem: str) -> None:
    inventory = loaded(path, '[nodes.good]\nhost = "10.0.0.9"\n', Node(name="given", host="10.0.0.1"))
    assert inventory.fault is None
    path.write_text(text)
    assert not inventory.load()
    assert inventory.fault is not None
    assert inventory.fault.message.startswith(f"{path}:{line}: ")
    assert problem in inventory.fault.message
    assert inventory.fault.next_step
    assert [each.name for each in inventory.all()] == ["given", "good"]
    with pytest.raises(ConfigError, match=str(path)):
        inventory.add("new", {"host": "10.0.0.3"})
    assert path.read_text() == text
    path.write_text('[nodes.mended]\nhost = "10.0.0.9"\n')
    assert inventory.load()
    assert inventory.fault is None
    assert [each.name for each in inventory.all()] == ["given", "mended"]


def test_bytes_that_are_no_text_and_a_file_without_end(path: Path) -> None:
    path.write_bytes(b"# fine\n\xff\n")
    inventory = FleetInventory([], path)
    inventory.load()
    assert inventory.fault is not None
    assert f"{path}:2: this is no UTF-8" in inventory.fault.message
    path.write_bytes(b"#" * (inventory_file.MOST_BYTES + 1))
    inventory.load()
    assert "more than 4 MiB" in inventory.fault.message


def test_what_cannot_be_written_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = loaded(path, '[nodes.a]\nhost = "x"\n')

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            inventory.change("a", {"user": "ada"})
    assert inventory.get("a").user == "root"
    assert path.read_text() == '[nodes.a]\nhost = "x"\n'
    assert [each.name for each in path.parent.iterdir()] == ["inventory.toml"]
    for values in ({"jump": "nobody"}, {"jump": "a"}, {"host": "300.0.0.1"}):
        with pytest.raises(ConfigError):
            inventory.change("a", values)
    assert path.read_text() == '[nodes.a]\nhost = "x"\n'


def test_a_thousand_machines(path: Path) -> None:
    text = "".join(
        f'[nodes.n{number}]\nhost = "10.1.{number // 250}.{number % 250}"\ngroups = ["g{number % 10}"]\n'
        for number in range(1000)
    )
    inventory = loaded(path, text)
    assert inventory.fault is None
    assert len(inventory.all()) == 1000
    assert len(inventory.select(["group:g3", "!n3"])) == 99
    inventory.change("n500", {"user": "ada"})
    assert inventory.get("n500").user == "ada"
    inventory = loaded(path, "".join(f'[nodes.n{number}]\nhost = "h"\n' for number in range(2001)))
    assert "2000 at most" in str(inventory.fault)


def test_pins_and_maintenance_of_configured_machines_are_kept_in_the_file(path: Path) -> None:
    inventory = loaded(path, "", Node(name="given", host="10.0.0.1"), Node(name="pinned", host="10.0.0.2", host_key=PIN))
    inventory.pin("given", PIN)
    inventory.set_aside("given", True)
    again = FleetInventory([Node(name="given", host="10.0.0.1")], path)
    again.load()
    assert (again.get("given").host_key, again.get("given").enabled) == (PIN, False)
    inventory.set_aside("given", False)
    assert inventory.get("given").enabled
    with pytest.raises(ConflictError, match="stands in the configuration"):
        inventory.pin("pinned", "SHA256:" + "c" * 43)


def test_circles_in_the_configuration_are_refused_there() -> None:
    with pytest.raises(ValueError, match="in a circle: a → b → a"):
        FleetSettings(nodes={"a": NodeAccess(host="x", jump="b"), "b": NodeAccess(host="y", jump="a")})


def test_the_users_ssh_config_gives_what_an_entry_leaves_open(tmp_path: Path, path: Path) -> None:
    (tmp_path / "key").write_text("")
    (tmp_path / "config").write_text(
        f"Host away bastion\n  HostName 198.51.100.7\n  Port 2200\n  User ada\n  IdentityFile {tmp_path / 'key'}\n"
        "  ProxyJump eve@gate.example:22\nHost *\n  User everybody\n"
    )
    nodes = FleetSettings(nodes={
        "cloud": NodeAccess(host="away"), "other": NodeAccess(host="away", user="root", port=22, jump="gate"),
        "gate": NodeAccess(host="gate.example"), "plain": NodeAccess(host="10.0.0.1"),
    })  # fmt: skip
    inventory = FleetInventory(configured(nodes), path, SshFiles(tmp_path))
    inventory.load()
    assert inventory.fault is None
    cloud, other = inventory.get("cloud"), inventory.get("other")
    assert (cloud.host, cloud.port, cloud.user, cloud.key_file) == ("198.51.100.7", 2200, "ada", str(tmp_path / "key"))
    assert (cloud.jump, inventory.get("plain").user) == ("gate", "root")
    assert (other.host, other.port, other.user) == ("198.51.100.7", 22, "root")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        (["all"], "abcd"), (["a", "c"], "ac"), (["group:x"], "ab"), (["group:x", "!a"], "b"), (["!group:x"], "cd"),
        (["tag:k=1"], "ac"), (["role:db"], "d"), (["group:x", "role:db", "!b"], "ad"), ([" a ", ""], "a"),
        (["all", "! b"], "acd"),
    ],
)  # fmt: skip
def test_choosing(selector: Sequence[str], names: str) -> None:
    assert "".join(each.name for each in fleet().select(selector)) == names


@pytest.mark.parametrize(
    ("selector", "kind", "text"),
    [
        ([], InvalidArgumentsError, "is empty"), ([""], InvalidArgumentsError, "is empty"),
        (["e"], NotFoundError, "no machine e"),
        (["group:y"], NotFoundError, "no group y.*there are: x"), (["tag:k=3"], NotFoundError, r"no tag k=3.*did you mean k="),
        (["tag:k"], InvalidArgumentsError, "chooses no machine"), (["role:"], NotFoundError, "no role"),
        (["colour:red"], InvalidArgumentsError, "chooses no machine"), (["a", "!a"], NotFoundError, "No machine is left"),
        (["all", "!nobody"], NotFoundError, "no machine nobody"), (["a"] * 1001, InvalidArgumentsError, "more than 1000"),
    ],
)  # fmt: skip
def test_a_choice_of_nothing_is_an_error(selector: Sequence[str], kind: type[ApplianceError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        fleet().select(selector)
    assert caught.value.next_step


def fleet() -> FleetInventory:
    return FleetInventory([
        Node(name="a", host="1", groups=("x",), tags={"k": "1"}), Node(name="b", host="2", groups=("x",), tags={"k": "2"}),
        Node(name="c", host="3", tags={"k": "1"}), Node(name="d", host="4", role="db"),
    ])  # fmt: skip


def test_the_doctor_looks_at_the_inventory_and_contacts_nobody(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    assert doctor.look(machine.context()).status == "absent"
    given = (Entry(Node(name="given", host="10.0.0.1")),)
    found = doctor.look(machine.context(machines=given))
    assert (found.status, found.fix) == ("warning", "prime-spark fleet trust given")
    assert "given" in found.reason
    (home / "inventory.toml").write_text(f'[host_keys]\ngiven = "{PIN}"\n')
    assert doctor.look(machine.context(machines=given)).reason == "the appliance has no SSH key of its own yet"
    OwnKey(Secrets(home / "secrets", {}), "test").public()
    assert doctor.look(machine.context(machines=given)).status == "ok"
    (home / "inventory.toml").write_text("[nodes.a]\n")
    found = doctor.look(machine.context(machines=given))
    assert (found.status, "inventory.toml:1" in found.reason) == ("failed", True)


def test_a_file_that_is_edited_within_the_same_second_is_read(path: Path) -> None:
    inventory = loaded(path, '[nodes.a]\nhost = "x"\n')
    assert not inventory.load()
    stamp = time.time_ns()
    path.write_text('[nodes.b]\nhost = "x"\n')
    os.utime(path, ns=(stamp, stamp))
    assert inventory.load()
    assert [each.name for each in inventory.all()] == ["b"]
    path.unlink()
    assert inventory.load()
    assert inventory.all() == ()


@pytest.mark.parametrize(
    "form",
    [
        'nodes = {a = {host = "10.0.0.1"}, b = {host = "10.0.0.2"}}\n',
        'nodes.a.host = "10.0.0.1"\nnodes.b.host = "10.0.0.2"\n',
        '[nodes]\na.host = "10.0.0.1"\nb.host = "10.0.0.2"\n',
        '[nodes.a]\nhost = "10.0.0.1"\n[host_keys]\n[nodes.b]\nhost = "10.0.0.2" # the other',
        '\ufeff[nodes.a]\r\nhost = "10.0.0.1"\r\n[nodes.b]\r\nhost = "10.0.0.2"\r\n',
    ],
    ids=["inline", "dotted", "dotted in a table", "out of order", "mark of its form and other line ends"],
)
def test_actions_change_whatever_form_people_chose(path: Path, form: str) -> None:
    inventory = loaded(path, form, Node(name="given", host="10.0.0.9"))
    assert inventory.fault is None
    inventory.add("c", {"host": "10.0.0.3", "tags": {"place": "cellar"}})
    inventory.change("b", {"user": "ada"})
    inventory.pin("given", PIN)
    inventory.remove("a")
    again = loaded(path, path.read_text(), Node(name="given", host="10.0.0.9"))
    assert again.all() == inventory.all()
    found = {each.name: (each.host, each.user, each.tags, each.host_key) for each in again.all()}
    assert found == {
        "b": ("10.0.0.2", "ada", {}, ""), "c": ("10.0.0.3", "root", {"place": "cellar"}, ""),
        "given": ("10.0.0.9", "root", {}, PIN),
    }  # fmt: skip


def test_what_is_saved_by_hand_while_an_action_writes_is_kept(path: Path) -> None:
    class Saves:
        """Somebody's editor, which saves while the inventory is put together for the last time before it is written."""

        left = -1

        def fill(self, entry: Entry, _: object) -> Node:
            self.left -= 1
            if self.left == 0:
                path.write_text(path.read_text() + '[nodes.mine]\nhost = "10.0.0.7"\n')
            return entry.node

        def stamp(self) -> object:
            return None

    path.write_text('[nodes.a]\nhost = "10.0.0.1"\n')
    editor = Saves()
    inventory = FleetInventory([], path, editor)
    inventory.load()
    editor.left = 2  # once for what is there, once for what is to be written
    inventory.change("a", {"user": "ada"})
    assert [(each.name, each.user) for each in inventory.all()] == [("a", "ada"), ("mine", "root")]
    assert "[nodes.mine]" in path.read_text()


def test_the_doctor_counts_what_the_users_own_ssh_trusts(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "home").mkdir()
    folder = tmp_path / "user" / ".ssh"
    folder.mkdir(parents=True)
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    (folder / "known_hosts").write_text(f"10.0.0.1 ssh-ed25519 {key}\n")
    nodes = (Entry(Node(name="known", host="10.0.0.1")), Entry(Node(name="unknown", host="10.0.0.2")))
    found = doctor.look(machine.context(machines=nodes, environ={"HOME": str(tmp_path / "user")}))
    assert found.reason == "host keys that nobody confirmed: unknown"
