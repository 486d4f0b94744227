"""Nodes with a real sshd each, whose programs that change a machine are stand-ins that keep their state in files.

Nothing of this machine is touched: whoever logs in has the stand-ins first in the PATH, and a rig does not start where one of
them is not found there.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.model import Node
from tests.servers.sshd import PROGRAM, SshServer

PROGRAMS = {
    "systemctl": r"""
for unit do :; done
unit=${unit%.service}; file=$NODE/state/unit.$unit
case $1 in
  show) load=not-found; active=inactive; enabled=
        [ ! -e "$file" ] || { load=loaded; read -r active enabled <"$file"; }
        printf 'LoadState=%s\nActiveState=%s\nUnitFileState=%s\n' $load "$active" "$enabled"; exit 0 ;;
  is-active) read -r active enabled <"$file" && [ "$active" = active ]; exit ;;
  list-units) for file in "$NODE"/state/unit.*; do read -r active enabled <"$file"; name=${file##*/unit.}
        printf '%s.service loaded %s running About %s\n' "$name" "$active" "$name"; done; exit 0 ;;
  reboot|poweroff) echo "$1" >"$NODE/state/going"; exit 0 ;;
esac
read -r active enabled <"$file" || exit 5
echo "$1 $unit" >>"$NODE/state/calls"
case $1 in
  start|restart) active=active; [ ! -e "$file.broken" ] || active=failed ;;
  stop) active=inactive ;;
  enable) enabled=enabled ;; disable) enabled=disabled ;;
  *) echo "stand-in: $1" >&2; exit 64 ;;
esac
echo "$active $enabled" >"$file"
""",
    "cat": r"""
[ "$1" = /proc/sys/kernel/random/boot_id ] || exec /bin/cat "$@"
echo asked >>"$NODE/state/asked"
exec /bin/cat "$NODE/state/life"
""",
    "apt-get": r"""
simulate=no; verb=; names=
for each do
  case $each in -s) simulate=yes ;; -*|*=300|DPkg*|Dpkg*|Debug*) ;;
    upgrade|install|update) verb=$each ;; *) names="$names $each" ;; esac
done
[ $verb = update ] && { echo update >>"$NODE/state/calls"; exit 0; }
if [ $simulate = no ]; then
  echo "$verb$names" >>"$NODE/state/calls"
  [ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9
  while [ -e "$NODE/state/apt.slow" ]; do sleep 0.05; done
  [ ! -e "$NODE/state/apt.broken" ] || { echo 'E: Sub-process /usr/bin/dpkg returned an error code (1)' >&2; exit 100; }
fi
while read -r name have offer; do
  wanted=$offer; chosen=no
  [ -z "$names" ] && chosen=yes
  for each in $names; do
    [ "$each" = "$name" ] && chosen=yes
    case $each in "$name="*) chosen=yes; wanted=${each#*=} ;; esac
  done
  if [ $chosen = yes ] && [ "$wanted" != "$have" ]; then
    if [ $simulate = yes ]; then echo "Inst $name [$have] ($wanted Debian:12.1/stable [amd64])" >&3
    else echo "Setting up $name ($wanted) ..." >&3; have=$wanted; fi
  fi
  echo "$name $have $offer"
done <"$NODE/state/apt" 3>&1 >"$NODE/state/apt.new"
if [ $simulate = no ]; then mv "$NODE/state/apt.new" "$NODE/state/apt"; fi
""",
    "apt-cache": r"""
shift 2
for name do
  grep "^$name " "$NODE/state/archive" | while read -r name version; do echo "$name | $version | somewhere"; done
done
""",
    "apt-mark": "exit 0",
    "dpkg": '[ ! -e "$NODE/state/audit" ] || /bin/cat "$NODE/state/audit"',
    "getent": r"""
[ "$1" = passwd ] || exit 2
grep "^$2:" "$NODE/state/passwd"
""",
    "id": 'for user do :; done; /bin/cat "$NODE/state/groups.$user"',
    "useradd": r"""
[ "$1" != -D ] || { echo "HOME=$NODE/home"; exit 0; }
groups=; uid=1234; gid=1234; shell=/bin/sh
for name do :; done
while [ $# -gt 1 ]; do
  case $1 in -G) groups=$2; shift ;; -u) uid=$2; shift ;; -g) gid=$2; shift ;; -s) shell=$2; shift ;; -d) shift ;; esac; shift
done
echo "useradd $name" >>"$NODE/state/calls"
echo "$name:x:$uid:$gid::$NODE/home/$name:$shell" >>"$NODE/state/passwd"
echo "$name $groups" | tr , ' ' | sed 's/ *$//' >"$NODE/state/groups.$name"
""",
    "userdel": r"""
for name do :; done
echo "userdel $*" >>"$NODE/state/calls"
grep -v "^$name:" "$NODE/state/passwd" >"$NODE/state/passwd.new"; mv "$NODE/state/passwd.new" "$NODE/state/passwd"
""",
    "groupadd": "exit 0",
    "docker": r"""
project=$NODE/state/compose
case $1 in
  compose) exit 1 ;;
  ps) while read -r name state hash; do
        printf '%s\t%s\tUp 2 minutes\t%s\t%s\t%s/compose.yml\n' "$name" "$state" "$hash" "$NODE" "$NODE"
      done <"$project"; exit 0 ;;
esac
echo "stand-in: $1" >&2; exit 64
""",
    "docker-compose": r"""
project=$NODE/state/compose; shift 2; echo "$*" >>"$NODE/state/calls"
verb=$1; shift
names=; for each do case $each in -*) ;; *) names="$names $each" ;; esac; done
case $verb in
  config) while read -r name hash; do
      if [ "$1" = --services ]; then echo "$name"; else echo "$name $hash"; fi; done <"$NODE/state/wanted"; exit 0 ;;
  up) while read -r name hash; do echo "$name running $hash"; done <"$NODE/state/wanted" >"$project"
      [ ! -e "$NODE/state/ill" ] || sed -i '1s/running/exited/' "$project" ;;
  down) : >"$project" ;;
  stop) for name in $names; do sed -i "s/^$name running/$name exited/" "$project"; done ;;
  rm) for name in $names; do sed -i "/^$name /d" "$project"; done ;;
  restart) ;;
  *) echo "stand-in: $verb" >&2; exit 64 ;;
esac
""",
    "journalctl": r"""
echo "$*" >>"$NODE/state/calls"; echo 'one line'
case $* in *-f*) while [ ! -e "$NODE/state/quiet" ]; do sleep 0.05; done ;; esac
""",
    "nft": '/bin/cat "$NODE/state/nft"',
    "ufw": "exit 127",
    "iptables-save": "exit 127",
    "perl": "exit 127",
}
FORBIDDEN = ("reboot", "poweroff", "halt", "shutdown", "usermod", "adduser", "deluser", "podman", "etherwake")


class ToolServer(SshServer):
    """sshd of one node; who logs in has the stand-ins, and is in the node's own folder.

    Args:
        own: The appliance's key, that is let in.
        name: Of the node.
    """

    def __init__(self, own: OwnKey, name: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"node-{name}-"))
        self.name = name
        for folder in ("bin", "state", "home/.ssh", "sshd"):
            (self.home / folder).mkdir(parents=True)
        for program in FORBIDDEN:
            self._program(program, f'echo "stand-in: {program} is not for this test" >&2; exit 64')
        for program, text in PROGRAMS.items():
            self._program(program, text)
        self._program(
            "enter", f'NODE={self.home} PATH={self.home}/bin:/usr/bin:/bin HOME={self.home}/home; export NODE PATH HOME\n'
            'cd "$HOME" || exit 70; exec sh -c "$SSH_ORIGINAL_COMMAND"',
        )  # fmt: skip
        super().__init__(self.home / "sshd", "")
        self.authorized = self.home / "home/.ssh/authorized_keys"
        self.authorized.write_text(f'command="{self.home}/bin/enter" {own.public()}\n')
        self.put("passwd", f"{self.user}:x:0:0::{self.home}/home:/bin/sh\ndaemon:x:1:1::/:/bin/false\n")
        self.put("life", "11111111\n")

    def _program(self, name: str, text: str) -> None:
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{text.strip()}\n")
        path.chmod(0o755)

    def start(self) -> None:
        """Start it, once it is sure that every program that matters is a stand-in."""
        names = [*PROGRAMS, *FORBIDDEN]
        asked = 'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; for each do command -v "$each"; done'
        found = subprocess.run(
            ["sh", "-c", asked, "sh", *names], env={"PATH": f"{self.home}/bin:/usr/bin:/bin"}, check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        assert found.stdout.split() == [f"{self.home}/bin/{name}" for name in names]
        config = self.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.directory / 'host_key'}\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n"
            f"SetEnv HOME={self.home}/home\n"  # the login shell reads no start-up files of whoever runs the tests
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self.child.spawn([str(PROGRAM), "-D", "-e", "-f", str(config)], self._listens)

    def go(self) -> None:
        """Stop as a machine does that goes down: its sessions end too."""
        sessions = [each for each in psutil.Process().children(recursive=True) if self._mine(each)]
        self.stop()
        for each in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(sessions, 5.0)

    def _mine(self, process: psutil.Process) -> bool:
        """It descends from our sshd."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return any(str(self.directory) in " ".join(each.cmdline()) for each in [process, *process.parents()])
        return False

    def put(self, name: str, text: str) -> None:
        """Have a file of its state."""
        (self.home / "state" / name).write_text(text)

    def state(self, name: str) -> str:
        """What a file of its state says; empty where there is none."""
        path = self.home / "state" / name
        return path.read_text() if path.exists() else ""

    def node(self, **other: object) -> Node:
        """Its entry in the inventory."""
        known: dict[str, object] = {
            "name": self.name, "host": "127.0.0.1", "port": self.port, "user": self.user, "host_key": self.fingerprint,
        }  # fmt: skip
        return Node(**{**known, **other})  # type: ignore[arg-type]

    def clean(self) -> None:
        """Remove its files."""
        shutil.rmtree(self.home)
