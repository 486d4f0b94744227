"""The form of `prime-spark.toml`: every table and key, and what each may hold."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from appliance.core.lifecycle.firstboot import mountwords, words
from appliance.settingfleet import NAME, NodeAccess
from appliance.settingforms import SettingError
from appliance.settinggroups import Group

Short = Annotated[str, Field(max_length=1024)]
Texts = tuple[Short, ...]
Address = Annotated[str, AfterValidator(words.address)]
Plain = Annotated[str, AfterValidator(words.plain_address)]


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


OneOrMore = BeforeValidator(_listed)
"""A text, or a list of texts."""


class SystemTable(Group):
    """This machine."""

    hostname: Annotated[str, AfterValidator(words.hostname)] = ""
    """Its name in the network; the appliance's too, unless settings.node.device_id gives that."""
    timezone: Annotated[str, AfterValidator(words.timezone)] = ""
    """Such as Europe/Zurich."""
    locale: Annotated[str, AfterValidator(words.locale)] = ""
    """Language of the login shell, such as C.UTF-8."""
    keymap: Annotated[str, AfterValidator(words.keymap)] = ""
    """Layout of the keyboard, such as de, ch or us."""
    keymap_variant: Annotated[str, AfterValidator(words.keymap)] = ""
    """Such as nodeadkeys."""


class UserTable(Group):
    """Somebody who may use the appliance."""

    name: Annotated[str, AfterValidator(words.user)]
    """a to z, 0 to 9, _ and -."""
    role: Literal["viewer", "operator", "admin"] = "viewer"
    """What they may do."""
    password: Annotated[str, AfterValidator(words.password)] = ""
    """8 characters at least; struck out of the file once it is applied."""
    password_hash: Annotated[tuple[Annotated[str, AfterValidator(words.usable_hash)], ...], Field(max_length=2), OneOrMore] = ()
    """Instead: "$argon2id$…" for the appliance, "$y$…" or "$6$…" for the shell, or both in a list."""
    ssh_keys: Annotated[Texts, Field(max_length=32), AfterValidator(words.keys)] = ()
    """Lines of .pub files."""
    shell: bool = False
    """Whether they may log in at the machine itself, on its second screen and over SSH on port 22."""

    @model_validator(mode="after")
    def _can_log_in(self) -> UserTable:
        kinds = [words.kind_of_hash(each) for each in self.password_hash]
        if len(set(kinds)) < len(kinds):
            raise words.PlacedError(
                ("password_hash",),
                f"{self.name} has two hashes of one kind",
                "give one for the appliance, and one for the shell.",
            )
        if self.password and self.password_hash:
            told = f"{self.name} has a password and a hash"
            raise words.PlacedError(("password_hash",), told, "give one of the two.")
        if not (self.password or self.password_hash or self.ssh_keys):
            raise SettingError(f"{self.name} could not log in", "give password, password_hash or ssh_keys.")
        if "crypt" in kinds and not self.shell:
            raise words.PlacedError(
                ("password_hash",),
                f"the hash of {self.name} is one for the shell, which {self.name} does not have",
                "set shell = true, or give a password.",
            )
        return self


class NetworkTable(Group):
    """A network interface."""

    dhcp: bool | None = None
    """Addresses come from the router; the default where no address is given."""
    address: Annotated[tuple[Address, ...], OneOrMore] = ()
    """With the length of its prefix, such as 192.0.2.10/24; one, or a list."""
    gateway: Annotated[tuple[Plain, ...], OneOrMore] = ()
    """Of the router."""
    dns: Annotated[tuple[Plain, ...], OneOrMore] = ()
    """Servers of names."""
    search: Annotated[tuple[Annotated[str, AfterValidator(words.domain)], ...], OneOrMore] = ()
    """Domains in which short names are looked for."""

    @model_validator(mode="after")
    def _fits(self) -> NetworkTable:
        words.reachable(self.address, self.gateway, dhcp=self.dhcp)
        return self


class WifiTable(Group):
    """A Wi-Fi network."""

    ssid: Annotated[str, AfterValidator(words.ssid)]
    """Its name."""
    password: Annotated[str, AfterValidator(words.unmasked)] = ""
    """Of 8 to 63 characters; or 64 hexadecimal digits, the key that `wpa_passphrase` derives."""
    country: Annotated[str, AfterValidator(words.country)]
    """Where the machine stands, two capital letters: the law says which channels may be used."""
    hidden: bool = False
    """Whether the network does not tell its name."""
    security: Literal["wpa2", "wpa3", "open"] = "wpa2"
    """wpa2 fits networks that speak both; for wpa3 the password itself has to be kept on the device."""
    interface: Annotated[str, AfterValidator(words.radio)] = "wlan0"
    """Network interface."""

    @model_validator(mode="after")
    def _password(self) -> WifiTable:
        words.wifi_password(self.password, self.security)
        return self


class MountTable(Group):
    """A share of a NAS, or a disk, that is there whenever it is used."""

    kind: Literal["nfs", "smb", "disk"]
    """What it is."""
    source: Annotated[str, Field(alias="from", max_length=300)]
    """nas.example.net:/export, //nas.example.net/share, LABEL=BACKUPS or UUID=…"""
    to: Annotated[str, AfterValidator(mountwords.place)] = ""
    """Directory below /mnt or /media; /mnt/NAME where nothing is said."""
    user: Annotated[str, AfterValidator(mountwords.user)] = ""
    """Of a share of smb."""
    password: Annotated[str, AfterValidator(mountwords.password)] = ""
    """Of that user; struck out of the file once it is applied."""
    read_only: bool = False
    """Nothing is written there."""

    @field_validator("source")
    @classmethod
    def _fits(cls, text: str, known: ValidationInfo) -> str:
        if "kind" in known.data:  # else that is told
            mountwords.origin(known.data["kind"], text)
        return text

    @model_validator(mode="after")
    def _login(self) -> MountTable:
        mountwords.login(self.kind, self.user, self.password)
        return self

    def place(self, name: str) -> str:
        """Where it is mounted."""
        return self.to or f"/mnt/{name}"


class NodeTable(NodeAccess):
    """A machine for the inventory; keys as in docs/fleet.md, and its name."""

    name: Annotated[str, Field(pattern=NAME)]
    """By which it is known."""


class RestoreTable(Group):
    """A backup that this machine begins with."""

    file: Annotated[str, AfterValidator(words.beside)] = ""
    """An exported file beside this one."""
    repository: Short = ""
    """Or a directory with a repository: beside this file, or a whole path."""
    snapshot: Annotated[str, Field(pattern=r"^(latest|[0-9a-f]{4,64})$")] = "latest"
    """Of the repository."""
    key: Annotated[str, Field(max_length=200), AfterValidator(words.recovery_key)] = ""
    """The recovery key; struck out of this file once it is applied."""
    key_file: Annotated[str, AfterValidator(words.beside)] = ""
    """Or a file with it, beside this one; its content is overwritten then."""
    passphrase: Annotated[str, Field(max_length=1024), AfterValidator(words.unmasked)] = ""
    """Or the passphrase of an exported file."""

    @model_validator(mode="after")
    def _whole(self) -> RestoreTable:
        if bool(self.file) == bool(self.repository):
            raise SettingError("what to restore is not clear", "give file or repository, and not both.")
        if sum(map(bool, (self.key, self.key_file, self.passphrase))) != 1:
            raise SettingError("what opens the backup is not clear", "give one of key, key_file and passphrase.")
        if self.file and self.key and words.AGE.fullmatch(self.key.strip()) is None:
            raise SettingError("this is no recovery key", words.RECOVERY)
        if self.repository and self.passphrase:
            raise SettingError("a repository is opened by the recovery key", "give key or key_file.")
        return self


class AppliedTable(Group):
    """That the file was applied; the machine writes it."""

    clock: Short = ""
    """What its clock showed."""
    device: Short = ""
    """Which machine."""
    version: Short = ""
    """Of the program."""


class FirstBoot(Group):
    """The whole file. Tables that are not there leave as it is what they are about."""

    system: SystemTable = SystemTable()
    users: Annotated[tuple[UserTable, ...], Field(max_length=64)] = ()
    network: dict[Annotated[str, AfterValidator(words.interface)], NetworkTable] = Field({})
    wifi: Annotated[tuple[WifiTable, ...], Field(max_length=32)] = ()
    mounts: dict[Annotated[str, AfterValidator(mountwords.name)], MountTable] = Field({}, max_length=32)
    nodes: Annotated[tuple[NodeTable, ...], Field(max_length=2000)] = ()
    settings: dict[str, Any] = Field({})
    secrets: dict[
        Annotated[str, AfterValidator(words.secret)],
        Annotated[str, Field(min_length=1, max_length=65536), AfterValidator(words.unmasked)],
    ] = Field({})
    restore: RestoreTable | None = None
    applied: AppliedTable | None = None

    @model_validator(mode="after")
    def _each_once(self) -> FirstBoot:
        mountwords.apart({name: each.place(name) for name, each in self.mounts.items()})
        words.once([each.name for each in self.users], "user", "users")
        words.once([each.name for each in self.nodes], "machine", "nodes")
        words.once([f"{each.ssid} ({each.interface})" for each in self.wifi], "Wi-Fi network", "wifi", "ssid")
        words.addresses_once({name: each.address for name, each in self.network.items()})
        for index, each in enumerate(self.wifi):
            if each.country != self.wifi[0].country:
                told = "the Wi-Fi networks are in several countries"
                raise words.PlacedError(("wifi", index, "country"), told, "give the one where the machine stands.")
        return self

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that say something."""
        return tuple(name for name in type(self).model_fields if name != "applied" and name in self.model_fields_set)


@functools.cache
def schema() -> Mapping[str, Any]:
    """JSON Schema of the file."""
    return FirstBoot.model_json_schema()
