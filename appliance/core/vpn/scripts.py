"""What is run on a node, over SSH: POSIX shell, with nothing but wg(8), wg-quick(8) and the usual tools.

Keys come through standard input and lie in files of mode 0600; they are in no argument and in no output.
"""

from __future__ import annotations

FOLDER = "/etc/wireguard"
FAULTS = {
    64: "it got less than was sent",
    65: "its directory for configurations cannot be written",
    66: "its interface, or this hub as its peer, is not there",
    69: "wg and wg-quick are not installed there (sudo apt-get install wireguard-tools)",
    70: "its tunnel could not be brought up with the new configuration; the old one is back",
    73: "the configuration cannot be written there",
    75: "the new keys gave no handshake, and it went back to the old ones",
    76: "it has a configuration of that name that was not made here",
}
"""Exit status → what was wrong."""

READ = """
cat "$2/$1.conf"
"""
"""Arguments: interface, folder. The node's configuration, with its private key in it."""

SWITCH = """
set -u
umask 077
trap '' HUP PIPE
interface=$1 folder=$2 hub=$3 tries=$4
IFS= read -r new_key && IFS= read -r new_shared && IFS= read -r old_key && IFS= read -r old_shared || exit 64
work=$(mktemp -d "$folder/.rotate.XXXXXX") || exit 65
cat > "$work/conf" && [ -s "$work/conf" ] || { rm -rf "$work"; exit 73; }
value_of() { wg show "$interface" "$1" 2>/dev/null | while read -r key value; do [ "$key" = "$hub" ] && echo "$value"; done; }
pause() { sleep 0.2 2>/dev/null || sleep 1; }
use() {
    printf '%s\\n' "$1" > "$work/key"
    if [ "$2" = - ]; then : > "$work/shared"; else printf '%s\\n' "$2" > "$work/shared"; fi
    wg set "$interface" private-key "$work/key" peer "$hub" preshared-key "$work/shared" persistent-keepalive 0 &&
        wg set "$interface" peer "$hub" persistent-keepalive "$poke"
}
before=$(value_of latest-handshakes)
[ -n "$before" ] || { rm -rf "$work"; exit 66; }
keepalive=$(value_of persistent-keepalive)
poke=$keepalive
[ "$poke" = off ] && poke=5
[ "$before" -ge "$(date +%s)" ] && sleep 1
(
    outcome=75
    if use "$new_key" "$new_shared"; then
        while [ "$tries" -gt 0 ]; do
            now=$(value_of latest-handshakes)
            if [ "${now:-0}" -gt "$before" ]; then
                mv -f "$work/conf" "$folder/$interface.conf" && outcome=0
                break
            fi
            tries=$((tries - 1))
            pause
        done
    fi
    [ "$outcome" = 0 ] || use "$old_key" "$old_shared"
    wg set "$interface" peer "$hub" persistent-keepalive "$keepalive"
    rm -rf "$work"
    exit "$outcome"
) < /dev/null > /dev/null 2>&1 &
wait $!
"""
"""Change over to new keys; back to the old ones by itself where the new ones give no handshake, also when SSH is cut meanwhile.

Arguments: interface, folder, the hub's public key, tries of 0.2 s. Standard input: new private key, new pre-shared key, old
private key, old pre-shared key ("-" for none), a line each; then the whole new configuration.
"""

PROVISION = """
set -u
umask 077
trap '' HUP PIPE
interface=$1 folder=$2 replace=$3
command -v wg > /dev/null 2>&1 && command -v wg-quick > /dev/null 2>&1 || exit 69
mkdir -p "$folder" || exit 65
conf=$folder/$interface.conf
cat > "$conf.next" && [ -s "$conf.next" ] || { rm -f "$conf.next"; exit 73; }
if [ -e "$conf" ]; then
    if [ "$replace" != yes ] && ! head -n 1 "$conf" | grep -q '^# Prime Spark'; then rm -f "$conf.next"; exit 76; fi
    cp -p "$conf" "$conf.before" || { rm -f "$conf.next"; exit 73; }
else
    rm -f "$conf.before"
fi
mv -f "$conf.next" "$conf" || exit 73
"""
"""The first half of provisioning: the file. Arguments: interface, folder, "yes" to replace what others made."""

UP = """
shape() { grep -iE '^[[:space:]]*(Address|MTU|DNS|Table|AllowedIPs)[[:space:]]*=' "$1" 2>/dev/null | tr -d ' \\t'; }
again() {
    if [ -d /run/systemd/system ] && [ "$folder" = /etc/wireguard ]; then
        systemctl restart "wg-quick@$interface"
    else
        wg-quick down "$conf" && wg-quick up "$conf"
    fi
}
up() {
    if wg show "$interface" > /dev/null 2>&1; then
        if [ -e "$1" ] && [ "$(shape "$1")" != "$(shape "$conf")" ]; then again; return; fi
        wg-quick strip "$conf" > "$conf.strip" && wg syncconf "$interface" "$conf.strip"
        status=$?
        rm -f "$conf.strip"
        return $status
    elif [ -d /run/systemd/system ] && [ "$folder" = /etc/wireguard ]; then
        systemctl enable --now "wg-quick@$interface"
    else
        wg-quick up "$conf"
    fi
}
down() {
    if [ -d /run/systemd/system ] && [ "$folder" = /etc/wireguard ]; then
        systemctl disable --now "wg-quick@$interface"
    else
        wg-quick down "$conf"
    fi
}
back() {
    if [ -e "$conf.before" ]; then
        mv -f "$conf" "$conf.failed" && mv -f "$conf.before" "$conf" && up "$conf.failed"
        rm -f "$conf.failed"
    else
        down
        rm -f "$conf"
    fi
}
"""
START = f"""{PROVISION}{UP}
up "$conf.before" > /dev/null 2>&1 && exit 0
back > /dev/null 2>&1
exit 70
"""
"""Write the configuration from standard input, and bring the tunnel up now and at every start; back where that fails."""

UNDO = f"""
set -u
umask 077
interface=$1 folder=$2
conf=$folder/$interface.conf
{UP}
back > /dev/null 2>&1
"""
"""Take the configuration back: the one of before, or none."""


def command(script: str, *arguments: str) -> tuple[str, ...]:
    """A script with its arguments, as ports.RemoteShell takes it."""
    return ("sh", "-c", script, "sh", *arguments)


def fault(status: int) -> str:
    """What an exit status means."""
    return FAULTS.get(status, f"the command ended with status {status}")
