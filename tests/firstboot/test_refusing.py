"""A file in which something is wrong: the line, what it is, what to write instead; and nothing of it is applied."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

from appliance import cli, paths
from appliance.core.doctor.checks.first_boot import judge
from appliance.core.lifecycle.firstboot import erase, reading, words
from appliance.firstboot import FirstBootParts, told
from appliance.firstboot import apply as start
from appliance.lock import Lock
from appliance.settingforms import SettingError
from appliance.verbs.client import SocketClient
from appliance.verbs.context import Context
from tests.firstboot import rig
from tests.firstboot.test_applying import ARGON, CRYPT, QUICK, files
from tests.support import needs_program

USER = '[[users]]\nname = "ada"\n'
WIFI = '[[wifi]]\nssid = "x"\ncountry = "CH"\n'
SHELL = f"{USER}shell = true\n"
DSA = "ssh-dss AAAAB3NzaC1kc3MAAACBAP== x"
WRONG = {
    "no TOML": ('[system]\nhostname = spark\n', 2, "this is no TOML", "mend this line"),
    "a key twice": ('[system]\nhostname = "a"\nhostname = "b"\n', 3, "this is no TOML", "each key only once"),
    "unfinished": ('[[users]]\nname = """\nada\n', 4, "this is no TOML", "mend this line"),
    "unknown table": ('# x\n\n[sytem]\nhostname = "a"\n', 3, "sytem: there is no such key", "did you mean system?"),
    "unknown key": ('[system]\nhostname = "a"\ntimezon = "UTC"\n', 3, "system.timezon: there is no", "did you mean timezone?"),
    "unknown key of the second": (
        f'{USER}password = "12345678"\n[[users]]\nname = "bob"\npassord = "12345678"\n', 6, "users[2].passord", "password?",
    ),
    "wrong type": ('[system]\nhostname = 7\n', 2, "system.hostname: Input should be a valid string", "a text in quotes"),
    "hostname": ('[system]\nhostname = "a.b"\n', 2, "'a.b' is no name of a machine", "letters, digits and dashes"),
    "time zone": ('[system]\ntimezone = "Europe/Zuerich"\n', 2, "no time zone 'Europe/Zuerich'", "Europe/Zurich?"),
    "locale": ('[system]\nlocale = "english"\n', 2, "is no locale", "C.UTF-8"),
    "keymap": ('[system]\nkeymap = "de; reboot"\n', 2, "no layout", "us, gb"),
    "account of the system": ('[[users]]\nname = "root"\npassword = "12345678"\n', 2, "account of the system", "another name"),
    "user's name": ('[[users]]\nname = "Ada L"\npassword = "12345678"\n', 2, "is not a user name", "a to z"),
    "no way in": (f'{USER}role = "admin"\n', 1, "ada could not log in", "password"),
    "short password": (f'{USER}password = "short"\n', 3, "shorter than 8", "longer"),
    "struck out": (f'{USER}password = "********"\n', 3, "it was struck out", "write it again"),
    "role": (f'{USER}role = "root"\npassword = "12345678"\n', 3, "users[1].role", "viewer"),
    "password and hash": (f'{USER}password = "12345678"\npassword_hash = "{ARGON}"\n', 4, "a password and a hash", "one of"),
    "hash for a shell that is not there": (f'{USER}password_hash = "{CRYPT}"\n', 3, "does not have", "shell = true"),
    "no hash": (f'{USER}password_hash = "$1$abc$def"\n', 3, "this is no hash", "mkpasswd"),
    "dear hash": (f'{USER}password_hash = "{ARGON.replace("65536", "9999999")}"\n', 3, "takes too much", "m=262144"),
    "key": (f'{USER}ssh_keys = ["ssh-ed25519 AAAA"]\n', 3, "number 1 is no public key", ".pub"),
    "two lines in one key": (f'{USER}ssh_keys = ["{rig.KEY}\\nssh-rsa x"]\n', 3, "number 1 is no public key", ".pub"),
    "a user twice": (f'{USER}password = "12345678"\n{USER}password = "12345678"\n', 5, "ada is there twice", "take one"),
    "prefix": ('[network.eth0]\naddress = "192.0.2.10"\n', 2, "no address of an interface", "192.0.2.10/24"),
    "network's own address": ('[network.eth0]\naddress = "192.0.2.0/24"\n', 2, "the whole network", "192.0.2.10/24"),
    "gateway elsewhere": (
        '[network.eth0]\naddress = "192.0.2.10/24"\ngateway = "198.51.100.1"\n', 3, "not in the network 192.0.2.0/24", "mend",
    ),
    "gateway alone": ('[network.eth0]\ngateway = "192.0.2.1"\n', 2, "has no address beside it", "give an address"),
    "no address at all": ('[network.eth0]\ndhcp = false\n', 2, "there is no address", "give address"),
    "interface": ('[network."a/b"]\ndhcp = true\n', 1, "no network interface", "end0"),
    "Wi-Fi password": (f'{WIFI}password = "short"\n', 4, "8 to 63", "as the router shows it"),
    "Wi-Fi umlaut": (f'{WIFI}password = "pässwörter"\n', 4, "English keyboard", "wpa_passphrase"),
    "Wi-Fi without a password": (WIFI, 1, "the password is missing", 'security = "open"'),
    "Wi-Fi without a country": ('[[wifi]]\nssid = "x"\npassword = "12345678"\n', 1, "country: it is missing", "country ="),
    "derived key for WPA3": (f'{WIFI}security = "wpa3"\npassword = "{"a" * 64}"\n', 5, "no derived keys", "itself"),
    "country": ('[[wifi]]\nssid = "x"\ncountry = "Swiss"\npassword = "12345678"\n', 3, "is no country", "CH"),
    "node": ('[[nodes]]\nname = "a"\nhost = "/etc"\n', 3, "no address of a machine", "nas.lan"),
    "node's key": ('[[nodes]]\nname = "a"\nhost = "a.lan"\nprot = 22\n', 4, "nodes[1].prot", "did you mean port?"),
    "jump": ('[[nodes]]\nname = "a"\nhost = "a.lan"\njump = "b"\n', 1, "reached through b, which is no machine", "add b"),
    "jump of the second": (
        '[[nodes]]\nname = "c"\nhost = "c.lan"\n[[nodes]]\nname = "a"\nhost = "a.lan"\njump = "b"\n', 4, "reached", "add b",
    ),
    "node of the settings": (
        '[[nodes]]\nname = "a"\nhost = "a.lan"\n[settings.fleet.nodes.a]\nhost = "b.lan"\n', 1, "a is in the configuration too",
        "take one of the two away",
    ),
    "setting": ('[settings.ssh]\nhots = "0.0.0.0"\n', 2, "unknown key ssh.hots", "did you mean ssh.host?"),
    "setting's value": ('[settings.ssh]\nenabled = true\nport = 99999\n', 3, "ssh.port", "from 0 to 65535"),
    "setting's text": ('[settings.api]\nnames = ["a b"]\n', 2, "api.names", "host name"),
    "keys of an interface without its name": (
        '[network]\naddress = "192.0.2.10/24"\n', 2, "network.address belongs to an interface", "write [network.wired]",
    ),
    "interface called like a key": ('[network.address]\ndhcp = true\n', 1, "'address' is no network", "wired or wifi"),
    "kind in capitals": ('[network.WiFi]\ndhcp = true\n', 1, "'WiFi' is no network interface", "write wifi, in small"),
    "interface without a number": ('[network.wlan]\ndhcp = true\n', 1, "'wlan' is no network", "wired or wifi"),
    "radio of a kind": (f'{WIFI}password = "12345678"\ninterface = "wifi"\n', 5, "'wifi' is no network interface", "wlan0"),
    "one address twice": (
        '[network.end0]\naddress = "192.0.2.10/24"\n[network.end1]\naddress = "192.0.2.10/16"\n', 4, "the address of end0 too",
        "an address of its own",
    ),
    "one bracket for a Wi-Fi": ('#\n[wifi]\nssid = "x"\n', 2, "[wifi] is one table of several", "[[wifi]], with two brackets."),
    "one bracket for users": ('[users]\nname = "ada"\n', 1, "[users] is one table", "[[users]], with two brackets."),
    "one bracket and a name": (
        '#\n[users.ada]\nrole = "admin"\n', 2, "[users.ada] is one table", '[[users]], with two brackets, and name = "ada"',
    ),
    "two brackets for one": ('[[system]]\nhostname = "a"\n', 1, "[[system]] is there once only", "write [system]"),
    "DSA": (f'{USER}ssh_keys = ["{DSA}"]\n', 3, "of the kind ssh-dss, with which nobody gets in", "ed25519"),
    "key that is cut off": (f'{USER}ssh_keys = ["{rig.KEY[:60]}"]\n', 3, "number 1 is no whole public key", "all of it"),
    "bcrypt that is cut off": (f'{SHELL}password_hash = "$2b$12$abcdefghijklmnopqrstuv"\n', 4, "this is no hash", "mkpasswd"),
    "SHA-512 that is cut off": (f'{SHELL}password_hash = "$6$salt$abcdefghijklmnopqrstuv"\n', 4, "this is no hash", "mkpasswd"),
    "password among the settings": (
        '[settings.kafka]\npassword = "x"\n', 2, "kafka.password is no setting", 'go below [secrets]: kafka.password = "…"',
    ),
    "node's key that is needed": ('[[nodes]]\nname = "a"\nhst = "a.lan"\n', 3, "nodes[1].hst: there is no", "mean host?"),
    "United Kingdom": ('[[wifi]]\nssid = "x"\ncountry = "UK"\npassword = "12345678"\n', 3, "'UK' is no country", "write GB."),
    "quotes of a word processor": ('[system]\nhostname = “spark”\n', 2, "this is no TOML", "“ and ” are other signs"),
    "second Wi-Fi's password": (f'{WIFI}password = "12345678"\n{WIFI}password = "short"\n', 8, "8 to 63", "router"),
    "own secret": ('[secrets]\n"audit.key" = "x"\n', 2, "audit.key is made on the device", "take it away"),
    "secret's name": ('[secrets]\n"../x" = "x"\n', 2, "is no name of a secret", "kafka.password"),
    "secret that is no text": ('[secrets]\nkafka.password = 7\n', 2, "secrets.kafka.password", "a text in quotes"),
    "what to restore": ('[restore]\nkey = "AGE-SECRET-KEY-1"\n', 1, "what to restore is not clear", "file or repository"),
    "backup that is not there": (
        f'[restore]\nkey = "AGE-SECRET-KEY-1{"Q" * 58}"\nfile = "x.backup.age"\n', 3, "there is no file", "put it there",
    ),
    "file elsewhere": ('[restore]\npassphrase = "x"\nfile = "../x"\n', 3, "no file beside this one", "same partition"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_told_with_its_line(box: rig.Box, case: str) -> None:
    text, line, what, step = WRONG[case]
    box.write(text)
    outcome = box.apply()
    assert (outcome.state, outcome.line) == ("broken", line), outcome
    assert what in outcome.message
    assert step in outcome.next_step
    assert "12345678" not in outcome.message + outcome.next_step
    assert box.file.read_text() == text
    assert list(files(box.data)) == ["system/machine-id"]
    assert box.told()["state"] == "broken"
    assert "nothing of it was applied" in told(outcome)


@pytest.mark.parametrize(
    ("raw", "line", "what", "step"),
    [
        (QUICK.encode("utf-16"), None, "written in UTF-16", "Encoding: UTF-8"),
        (QUICK.removeprefix("\ufeff").encode("utf-16-be"), None, "written in UTF-16", "Encoding: UTF-8"),
        (b'[system]\n# caf\xe9\nhostname = "a"\n', 2, "this line is no UTF-8", "save the file as UTF-8"),
        (b"\0" * 512, None, "nothing was written into it", "eject the card"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" * 20, None, "this is no text", "the right file"),
        (b"#" * ((1 << 20) + 1), None, "more than 1 MiB", "the right file"),
    ],
    ids=["UTF-16 of Notepad", "UTF-16 without a mark", "Latin-1", "zeros after a power cut", "a program", "far too large"],
)
def test_what_editors_write_is_told_apart(box: rig.Box, raw: bytes, line: int | None, what: str, step: str) -> None:
    box.write(raw)
    outcome = box.apply()
    assert (outcome.state, outcome.line) == ("broken", line), outcome
    assert what in outcome.message
    assert step in outcome.next_step


MANY = """
[system]
hostname = "a b"
timezon = "UTC"

[[users]]
name = "ada"
password = "short"

[settings.ssh]
port = 99999
hots = "x"
"""


def test_all_that_is_wrong_is_told_at_once(box: rig.Box, tmp_path: Path) -> None:
    box.write(MANY)
    places = [f"{box.file}:{number}" for number in (3, 4, 8, 11, 12)]
    code, text = line(tmp_path, "first-boot", "check", str(box.file))
    assert code == 2
    assert [each.split(": ")[1] for each in text.splitlines()[::2]] == places, text
    assert [each.partition(" ")[0] for each in text.splitlines()] == ["error:", "next:"] * 5
    _, text = line(tmp_path, "first-boot", "check", str(box.file), "--json")
    error = json.loads(text)["error"]
    assert f"{box.file}:3" in error["message"]
    assert [each["message"].split(": ")[0] for each in error["others"]] == places[1:]
    outcome = box.apply()
    assert (outcome.line, [each.line for each in outcome.others]) == (3, [4, 8, 11, 12])
    assert f"{box.file}:11: " in "\n".join(told(outcome))
    assert (box.run / "notice.d/first-boot.txt").read_text().count("Next: ") == 5
    assert "and 4 more" in judge(outcome).reason


def test_what_may_not_be_meant_is_noted(box: rig.Box, tmp_path: Path) -> None:
    box.write(
        f'{USER}password = "12345678"\n[network.eth0]\ndhcp = true\n[secrets]\nkafka.pasword = "x"\nredis.password = "y"\n'
    )
    code, text = line(tmp_path, "first-boot", "check", str(box.file), "--json")
    notes = json.loads(text)["notes"]
    assert code == 0
    assert ["administrator" in notes[0], "end0" in notes[1], "did you mean kafka.password?" in notes[2]] == [True] * 3
    assert len(notes) == 3


def test_what_only_the_machine_knows_is_checked_there(box: rig.Box) -> None:
    rules = box.root / "usr/share/X11/xkb/rules"
    rules.mkdir(parents=True)
    (rules / "base.lst").write_text(
        "! model\n  pc105  PC\n\n! layout\n  us  English\n  ch  German (Switzerland)\n\n! variant\n"
    )
    (box.root / "usr/lib/locale/C.utf8").mkdir(parents=True)
    for line, what in (('keymap = "xx"', "layout 'xx'"), ('locale = "de_CH.UTF-8"', "de_CH.UTF-8 is not in this image"),
                       ('timezone = "Europe/Vienna"', "no time zone Europe/Vienna")):  # fmt: skip
        box.write(f"[system]\n{line}\n")
        outcome = box.apply()
        assert (outcome.state, outcome.line) == ("broken", 2)
        assert what in outcome.message
    box.write('[system]\nkeymap = "ch"\nlocale = "C.UTF-8"\n')
    assert box.apply().state == "applied"


def test_a_broken_file_leaves_a_machine_in_use_as_it_is(used: rig.Box) -> None:
    before = files(used.data)
    used.write('[system]\nhostname = "other"\n[[users]]\nname = "eve"\nrole = "root"\n')
    assert used.apply().line == 5
    assert files(used.data) == before
    assert used.etc("hostname") == "spark-7\n"


def line(home: Path, *words: str) -> tuple[int, str]:
    """A command line on any computer: (exit code, what it wrote)."""
    where, out = paths.find({"PRIME_SPARK_HOME": str(home)}), io.StringIO()
    context = Context(SocketClient(where.api_socket), where, {}, out, 120, colour=False)
    return cli.run(words, context, out), out.getvalue()


def test_it_can_be_checked_on_any_computer(box: rig.Box, tmp_path: Path) -> None:
    box.write(rig.WHOLE)
    code, text = line(tmp_path, "first-boot", "check", str(box.file))
    assert (code, "valid: system, users, network, wifi, nodes, settings, secrets" in text) == (0, True), text
    code, text = line(tmp_path, "first-boot", "check", str(box.file), "--json")
    assert (code, json.loads(text)["valid"]) == (0, True)
    box.write('[system]\nhostnam = "a"\n')
    code, text = line(tmp_path, "first-boot", "check", str(box.file))
    assert (code, text) == (2, f"error: {box.file}:2: system.hostnam: there is no such key.\nnext: did you mean hostname?\n")
    code, text = line(tmp_path, "first-boot", "check", str(box.file), "--json")
    assert json.loads(text)["error"]["next_step"] == "did you mean hostname?"
    assert not list(box.data.iterdir())


def test_applying_is_for_our_image_alone(box: rig.Box, tmp_path: Path) -> None:
    (box.root / "etc/os-release").write_text("ID=debian\n")
    box.write(QUICK)
    places = [f"--{name}={path}" for name, path in (("boot", box.boot), ("data", box.data), ("root", box.root))]
    code, text = line(tmp_path, "first-boot", "apply", *places)
    assert (code, "not started from the Prime Spark image" in text) == (1, True), text
    assert not list(box.data.iterdir())
    code, text = line(tmp_path, "first-boot", "status", *places)
    assert (code, "Nothing is known" in text) == (1, True)
    (box.root / "etc/os-release").write_text('IMAGE_ID="prime-spark"\n')
    code, text = line(tmp_path, "first-boot", "apply", *places)
    assert (code, "applied: system, users, secrets" in text) == (0, True), text
    code, text = line(tmp_path, "first-boot", "status", *places, "--json")
    assert (code, json.loads(text)["state"]) == (0, "applied")
    code, text = line(tmp_path, "first-boot", "check", str(box.file))
    assert (code, "was applied (the clock showed" in text) == (0, True)


def test_while_the_appliance_runs_nothing_is_applied(used: rig.Box, tmp_path: Path) -> None:
    places = [f"--{name}={path}" for name, path in (("boot", used.boot), ("data", used.data), ("root", used.root))]
    used.write('[system]\nhostname = "other"\n')
    lock = Lock(used.places.lock)
    assert lock.take()
    code, text = line(tmp_path, "first-boot", "apply", *places)
    assert (code, "The appliance runs" in text) == (1, True), text
    assert used.identity().hostname == "spark-7"
    lock.release()
    assert line(tmp_path, "first-boot", "apply", *places)[0] == 0
    assert used.identity().hostname == "other"


def test_the_example_is_valid_and_says_nothing(box: rig.Box) -> None:
    example = Path(__file__).parents[2] / "firmware-image/boot/prime-spark.toml.example"
    text = example.read_text(encoding="utf-8")
    box.write(text)
    assert box.apply().state == "none"
    assert erase.remarks(text) == ()
    shown = "\n".join(
        each.removeprefix("#") for each in text.splitlines() if each.startswith("#") and not each.startswith("# ")
    )
    (box.boot / "control-pc.backup.age").touch()
    document = reading.parse(box.file, shown)
    from appliance.core.lifecycle.firstboot.form import FirstBoot

    assert set(document) == set(FirstBoot.model_fields) - {"applied"}, "the example shows every table"
    from appliance.core.lifecycle.firstboot.validate import check

    filled = shown.replace('password = ""', 'password = "correct horse"').replace(
        'key = ""', f'key = "AGE-SECRET-KEY-1{"Q" * 58}"'
    )
    assert set(check(box.file, filled.encode(), FirstBootParts()).tables) == set(document)


TOO_MUCH = {"depth": "[" * 3000 + "]" * 3000, "digits": "1" * 5000, "hexadecimal": "0x" + "f" * 5000}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_no_check_foresaw_costs_the_machine_nothing_else(used: rig.Box, name: str) -> None:
    used.write(f"[settings.x]\na = {TOO_MUCH[name]}\n")
    (used.root / "etc/hostname").unlink()  # /etc is in memory: a start begins without it
    outcome = start(used.boot, used.data, used.root, used.run)
    assert outcome.state in {"broken", "failed"}
    assert used.told()["next_step"]
    assert used.etc("hostname") == "spark-7\n"


def test_a_link_in_the_appliances_home_leads_root_nowhere(used: rig.Box) -> None:
    identity = (used.data / "system/identity.json").read_bytes()
    used.places.lock.unlink(missing_ok=True)
    used.places.lock.symlink_to(used.data / "system/identity.json")
    start(used.boot, used.data, used.root, used.run)
    assert (used.data / "system/identity.json").read_bytes() == identity
    used.places.lock.unlink()
    aside, secrets = used.data / "aside", used.places.secrets
    secrets.rename(aside)
    secrets.symlink_to(aside)
    used.write('[secrets]\n"redis.password" = "abc def"\n')
    outcome = used.apply()
    assert (outcome.state, "is a link" in outcome.message) == ("failed", True)
    assert not (aside / "redis.password").exists()
    secrets.unlink()
    assert used.apply().state == "applied"
    assert (secrets / "redis.password").read_text() == "abc def"


def test_passwords_that_are_not_read_do_not_stay_unsaid(used: rig.Box) -> None:
    assert used.apply().warnings == ()
    text = used.file.read_text(encoding="utf-8")
    used.file.write_text(text.replace("*" * len("correct horse"), "another long one"), encoding="utf-8")
    outcome = used.apply()
    assert outcome.state == "kept"
    assert outcome.warnings == (
        "prime-spark.toml has new passwords and the table [applied]: take that table away, or the passwords out",
    )


@pytest.mark.parametrize("method", ["yescrypt", "gost-yescrypt", "sha512crypt", "sha256crypt", "bcrypt"])
def test_every_hash_of_mkpasswd_is_taken_whole_and_not_cut_off(method: str) -> None:
    made = subprocess.run(
        [needs_program("mkpasswd"), "-m", method, "-s"], input="correct horse", capture_output=True, text=True, check=True
    ).stdout.strip()
    assert words.kind_of_hash(made) == "crypt"
    with pytest.raises(SettingError, match="no hash"):
        words.kind_of_hash(made[:-1])


@pytest.mark.parametrize("kind", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "521")], ids=lambda kind: kind[0])
def test_every_kind_of_key_that_ssh_keygen_makes_is_taken(tmp_path: Path, kind: tuple[str, ...]) -> None:
    file = tmp_path / "key"
    subprocess.run([needs_program("ssh-keygen"), "-q", "-N", "", "-f", file, "-t", *kind], check=True)
    public = file.with_suffix(".pub").read_text().strip()
    assert words.keys((public,)) == (public,)
    with pytest.raises(SettingError, match="no whole public key"):
        words.keys((" ".join((public.split()[0], public.split()[1][:48])),))
