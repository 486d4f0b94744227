"""What is written into /etc is what the system's own programs understand."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from appliance.core.lifecycle.firstboot import hashing, network, prepare
from appliance.core.lifecycle.firstboot.form import UserTable
from appliance.core.lifecycle.firstboot.generate import generate
from appliance.core.lifecycle.firstboot.model import Identity, Interface, Login, Radio
from tests.firstboot import rig
from tests.firstboot.test_applying import files
from tests.support import needs_program


def test_the_files_say_what_the_machine_is_called_and_where_it_stands(used: rig.Box) -> None:
    assert used.etc("hostname") == "spark-7\n"
    assert "127.0.1.1 spark-7\n" in used.etc("hosts")
    assert (used.root / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Zurich")
    assert used.etc("locale.conf") == "LANG=C.UTF-8\n"
    assert 'XKBLAYOUT="ch"\n' in used.etc("default/keyboard")
    assert used.etc("machine-id") == (used.data / "system/machine-id").read_text()


def test_accounts_of_the_image_stay_as_they_are(used: rig.Box) -> None:
    assert used.etc("passwd") == rig.PASSWD + "ada:x:1000:1000::/home/ada:/bin/bash\n"
    assert used.etc("group") == ("root:x:0:\nsudo:x:27:ada\nadm:x:4:syslog,ada\nprime-spark:x:990:\nada:x:1000:\n")
    shadow = dict(line.split(":")[:2] for line in used.etc("shadow").splitlines())
    assert (shadow["root"], shadow["prime-spark"]) == ("*", "!")
    assert hashing.fits("correct horse", shadow["ada"])
    assert not hashing.fits("correct hors", shadow["ada"])
    assert (used.root / "etc/shadow").stat().st_mode & 0o777 == 0o640
    assert used.etc("ssh/authorized_keys/ada") == rig.KEY + "\n"
    assert "NOPASSWD" not in used.etc("sudoers.d/prime-spark")
    assert (used.data / "home/ada/.profile").exists()
    assert (used.data / "home/ada").stat().st_mode & 0o777 == 0o700


def test_called_again_it_ends_the_same_and_who_has_gone_is_gone(used: rig.Box) -> None:
    before, data = files(used.root), files(used.data)
    generate(used.data, used.root)
    assert (files(used.root), files(used.data)) == (before, data)
    used.write('[[users]]\nname = "ada"\nrole = "admin"\npassword = "correct horse"\n[[wifi]]\nssid = "a"\ncountry = "CH"\n'
               'interface = "wlan1"\nsecurity = "open"\n')  # fmt: skip
    assert used.apply().state == "applied"
    assert used.etc("passwd") == rig.PASSWD
    assert "ada" not in used.etc("shadow") + used.etc("group")
    assert not list((used.root / "etc/ssh/authorized_keys").iterdir())
    assert [each.name for each in (used.root / "etc/wpa_supplicant").iterdir()] == ["wpa_supplicant-wlan1.conf"]


def test_a_start_after_an_update_finds_another_image(used: rig.Box) -> None:
    """The accounts of the new image, and the same people, host key and number of the machine."""
    etc = used.root / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nnew:x:1001:1001::/:/bin/false\nprime-spark:x:991:991::/:/bin/false\n"
    )
    (etc / "machine-id").write_text("e" * 32 + "\n")
    key = used.etc("ssh/ssh_host_ed25519_key")
    (etc / "ssh/ssh_host_ed25519_key").unlink()
    generate(used.data, used.root)
    assert "ada:x:1000:1000:" in used.etc("passwd")
    assert "new:x:1001:" in used.etc("passwd")
    assert used.etc("ssh/ssh_host_ed25519_key") == key
    assert used.etc("machine-id") == "0123456789abcdef0123456789abcdef\n"


def test_an_identity_that_cannot_be_read_does_not_stop_the_start(used: rig.Box) -> None:
    (used.data / "system/identity.json").write_text("{")
    (used.root / "etc/passwd").write_text(rig.PASSWD)
    generate(used.data, used.root)
    assert used.etc("passwd") == rig.PASSWD


@pytest.mark.parametrize(("ssid", "password"), [("IEEE", "password"), ("a b#c", "p\"a'ss$12345"), ("x" * 32, "z" * 63)])
def test_the_key_of_a_wifi_is_that_of_wpa_passphrase(ssid: str, password: str) -> None:
    program = needs_program("wpa_passphrase")
    said = subprocess.run([program, ssid], input=password + "\n", capture_output=True, text=True, check=True).stdout
    derived = hashing.wifi_key(ssid, password)
    assert f"\tpsk={derived}\n" in said
    assert hashing.wifi_key(ssid, derived.upper()) == derived


def test_a_login_hash_is_one_that_other_programs_check(used: rig.Box) -> None:
    program = needs_program("mkpasswd")
    digest = used.identity().logins[0].hash
    setting = digest.rpartition("$")[0]
    again = subprocess.run([program, "-S", setting, "-s"], input="correct horse", capture_output=True, text=True, check=False)
    assert again.stdout.strip() == digest, again.stderr


def test_the_host_key_is_one_of_ssh(used: rig.Box) -> None:
    program = needs_program("ssh-keygen")
    key = used.root / "etc/ssh/ssh_host_ed25519_key"
    assert key.stat().st_mode & 0o777 == 0o600
    public = subprocess.run([program, "-y", "-f", key], capture_output=True, text=True, check=True).stdout
    assert public.split()[:2] == used.etc("ssh/ssh_host_ed25519_key.pub").split()[:2]


def test_sshd_understands_its_part(used: rig.Box) -> None:
    program = needs_program("sshd")
    config = used.root / "etc/ssh/sshd_config.d/10-prime-spark.conf"
    key = used.root / "etc/ssh/ssh_host_ed25519_key"
    said = subprocess.run(
        [program, "-T", "-f", config, "-h", key, "-o", f"HostKey={key}"], capture_output=True, text=True, check=False
    )
    assert "authorizedkeysfile /etc/ssh/authorized_keys/%u .ssh/authorized_keys" in said.stdout, said.stderr
    assert "passwordauthentication no" in said.stdout


def test_wpa_supplicant_understands_its_part(tmp_path: Path) -> None:
    """It reads the file, and then finds that there is no such interface; nothing of this machine's network is touched."""
    program, config = needs_program("wpa_supplicant"), tmp_path / "wpa.conf"
    radios = [Radio("first", psk="a" * 64, country="CH", hidden=True), Radio('o "1" é#', security="open"),
              Radio("new", security="wpa3", passphrase='quo"te# x')]  # fmt: skip
    for text, good in ((network.supplicant(radios), True), (network.supplicant(radios).replace("psk=a", "psk=?"), False)):
        config.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("ctrl_interface")))
        words = [program, "-d", "-D", "none", "-i", "nosuch0", "-c", str(config)]
        said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
        assert ("failed to parse" not in said) is good, said
        assert "id=2 ssid='new'" in said, said


def test_interfaces_and_networks() -> None:
    identity = Identity(
        interfaces=(Interface("wired", dhcp=False, address=("192.0.2.10/24", "2001:db8::2/64"), gateway=("192.0.2.1",),
                              dns=("192.0.2.53",), search=("example.net",)), Interface("eth1")),
        radios=(Radio("first", psk="a" * 64, country="CH", hidden=True), Radio("open \"one\"", security="open", country="CH"),
                Radio("new", security="wpa3", passphrase='quo"te# x', country="CH")),
    )  # fmt: skip
    found = network.files(identity)
    assert sorted(found) == [
        "etc/systemd/network/10-prime-spark-eth1.network", "etc/systemd/network/10-prime-spark-wlan0.network",
        "etc/systemd/network/11-prime-spark-wired.network", "etc/wpa_supplicant/wpa_supplicant-wlan0.conf",
    ]  # fmt: skip
    wired = configparser.RawConfigParser(strict=False)
    wired.read_string(found["etc/systemd/network/11-prime-spark-wired.network"][0])
    assert (wired["Match"]["type"], wired["Network"]["dhcp"], wired["Network"]["domains"]) == ("ether", "no", "example.net")
    assert "Address=192.0.2.10/24\nAddress=2001:db8::2/64\n" in found["etc/systemd/network/11-prime-spark-wired.network"][0]
    text, mode = found["etc/wpa_supplicant/wpa_supplicant-wlan0.conf"]
    assert mode == 0o600
    assert text.count("network={") == 3
    assert "ssid=" + b'open "one"'.hex() in text
    assert "scan_ssid=1\n    key_mgmt=WPA-PSK" in text
    assert "sae_password=" + b'quo"te# x'.hex() in text


def test_an_administrator_without_a_password_needs_none(box: rig.Box) -> None:
    from appliance.core.lifecycle.firstboot.logins import files as written

    found = {path: text for path, text, _ in written(box.root, [Login("eve", 1000, True, "", (rig.KEY,)), Login("kim", 1001)])}
    assert "eve ALL=(ALL:ALL) NOPASSWD: ALL\n" in found["etc/sudoers.d/prime-spark"]
    assert "kim" not in found["etc/sudoers.d/prime-spark"]
    assert "eve:*:::::::\nkim:*:::::::\n" in found["etc/shadow"]


def test_what_is_said_of_an_interface_takes_nothing_else_from_it() -> None:
    """The names by multicast, and the wire before the air, are those of the files that say it of all interfaces."""
    wanted = Identity(
        interfaces=(Interface("eth0", dhcp=False, address=("192.0.2.10/24",)),), radios=(Radio("x", psk="a" * 64),)
    )
    written = network.files(wanted)
    tree = Path(__file__).parents[2] / "firmware-image/files/root/usr/lib/systemd/network"
    for name, theirs in (("eth0", "80-prime-spark-ethernet"), ("wlan0", "81-prime-spark-wireless")):
        ours, default = configparser.RawConfigParser(strict=False), configparser.RawConfigParser(strict=False)
        ours.read_string(written[f"etc/systemd/network/10-prime-spark-{name}.network"][0])
        default.read(tree / f"{theirs}.network")
        told = {section: dict(default[section]) for section in default.sections() if section != "Match"}
        told["Network"].pop("dhcp")
        told["Network"].pop("ipv6acceptra")  # what networkd does anyhow
        assert {section: {key: ours[section][key] for key in keys} for section, keys in told.items()} == told


@pytest.mark.parametrize("name", ["machine-id", "identity.json"])
def test_a_damaged_file_costs_itself_only(used: rig.Box, name: str) -> None:
    (used.data / "system" / name).write_bytes(b"\xff\xfe" * 16)
    (used.root / "etc/systemd/network/10-prime-spark-end0.network").unlink()
    used.apply()
    there = (used.root / "etc/systemd/network/10-prime-spark-end0.network").exists()
    assert there is (name == "machine-id")
    assert len(used.etc("machine-id").strip()) == 32
    if name == "machine-id":
        assert (used.data / "system/machine-id").read_text() == used.etc("machine-id")


def test_a_number_is_not_given_to_another_while_its_home_is_there(box: rig.Box) -> None:
    (box.data / "home/bob").mkdir(parents=True)  # who may log in no more: /etc/passwd is the image's at each start
    mine = os.getuid()
    taken = prepare.taken(box.job())
    assert (taken["bob"], taken["sshd"]) == (mine, 101)
    user = UserTable(name="eve", ssh_keys=(rig.KEY,), shell=True)
    assert prepare.login(user, {}, {**taken, "bob": prepare.FIRST_UID}).uid == prepare.FIRST_UID + 1


def test_one_interface_goes_before_its_kind() -> None:
    """systemd.network(5): of the files that fit, the first in the order of their names counts."""
    found = network.files(Identity(interfaces=(Interface("wifi"), Interface("wlan0"), Interface("wired"), Interface("zz0"))))
    assert [name.split("-")[-1] for name in sorted(found)] == ["wlan0.network", "zz0.network", "wifi.network", "wired.network"]
