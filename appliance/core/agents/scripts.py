"""What runs on a machine to look at an agent, install it, put it in force, take that back, and remove it: POSIX sh."""

from __future__ import annotations

from appliance.core.agents import layout

PLACES = f"""
home={layout.HOME}; mark={layout.MARK}; config={layout.CONFIG}; unit={layout.UNIT}; file={layout.UNIT_FILE}
state={layout.STATE}; staging={layout.STAGING}; lock={layout.LOCK}; name={layout.NAME}; head='{layout.HEAD}'
"""
ALONE = """
umask 077  # who can read the lock can hold it
if command -v flock >/dev/null 2>&1; then
  for each in 1 2 3; do  # a removal takes the file away: whoever waited for that one holds nothing
    exec 9>"$lock" && flock -w 300 9 || { echo 'somebody else installs or removes the agent there' >&2; exit 75; }
    [ "$lock" -ef "/proc/$$/fd/9" ] && break
  done
fi
umask 022
"""
"""One at a time, also where a link was cut and what ran over it goes on."""

PROBE = (
    PLACES
    + r"""
say() { printf '%s=%s\n' "$1" "$(printf %s "$2" | tr -c '[:print:]' '?')"; }  # anybody makes names in /var/tmp
sum() { if [ -e "$1" ]; then sha256sum <"$1" | cut -d' ' -f1; fi; }
say boot "$(cat /proc/sys/kernel/random/boot_id)"; say host "$(uname -n)"; say kernel "$(uname -s)"; say arch "$(uname -m)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=$(ldd --version 2>&1 | tr '\n' ' ')
say libc "$libc"
for each in python3.11 python3.12 python3.13 python3; do
  path=$(command -v "$each") || continue
  told=$("$path" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
  lacks=; "$path" -I -c 'import venv, zlib, ssl, ctypes' 2>/dev/null || lacks=' incomplete'
  say python "$path $told$lacks"
done
for each in tar sha256sum base64 mktemp; do command -v "$each" >/dev/null 2>&1 || say lacks "$each"; done
for each in /opt /etc/systemd/system /var/tmp; do
  [ "$each" != /opt ] || [ -d /opt ] || each=/
  [ -w "$each" ] || say fixed "$each"
done
if command -v systemctl >/dev/null 2>&1; then
  say systemd "$(systemctl show -p Version --value 2>/dev/null)"
  systemctl show -p LoadState -p ActiveState -p UnitFileState -p FragmentPath -- "$unit" 2>/dev/null
fi
if [ -e "$mark" ]; then say home ours
elif [ -d "$home" ] && [ -n "$(ls -A "$home")" ]; then say home foreign; fi
if release=$(readlink "$home/current" 2>/dev/null); then say release "${release##*/}"; fi
[ ! -e "$home/current/.whole" ] || say whole yes
[ ! -e "$home/current/.libraries" ] || say libraries "$(cat "$home/current/.libraries")"
if [ -e "$home/before/pending" ]; then
  say pending yes; former=$(cat "$home/before/release" 2>/dev/null)
  [ -z "$former" ] || [ ! -e "$home/versions/$former/.whole" ] || say former "$former"
fi
for each in "$home" "$config" "$config.new" "$config.old" "$file" "$file.new" "$state" "$staging".*; do
  [ ! -e "$each" ] || say left "$each"
done
if [ -e "$file" ]; then
  if [ "$(head -n 1 "$file")" = "$head" ]; then say unit ours; else say unit foreign; fi
fi
say sum.unit "$(sum "$file")"; say sum.config "$(sum "$config/config.toml")"
for each in "$config"/*.pem; do [ ! -e "$each" ] || say "sum.file.${each##*/}" "$(sum "$each")"; done
for each in "$config"/secrets/*; do [ ! -e "$each" ] || say "sum.secret.${each##*/}" "$(sum "$each")"; done
exit 0
"""
)
"""Lines NAME=VALUE; nothing is changed."""

STAGE = 'umask 077; mktemp -d "$1.XXXXXXXX"'
UNSTAGE = 'case $1 in /var/tmp/?*) rm -rf -- "$1" ;; esac'

UNPACK = (
    PLACES
    + ALONE
    + r"""
set -eu
archive=$1; sha=$2; release=$3; python=$4; how=$5; wanted=$6; libraries=$7
new=$home/versions/$release; incoming=$home/incoming
clean() { rm -rf "$incoming"; [ -e "$new/.whole" ] || rm -rf "$new"; }
trap clean EXIT; trap 'exit 1' HUP INT PIPE TERM
mkdir -p "$home/versions"; : >"$mark"
if [ -e "$new/.whole" ]; then echo "$release is there already"; exit 0; fi
rm -rf "$new" "$incoming"; mkdir "$incoming" "$new"
cp -- "$archive" "$incoming/archive.tar"  # from here on nobody but root changes it
[ "$(sha256sum <"$incoming/archive.tar" | cut -d' ' -f1)" = "$sha" ] || { echo 'what came is not what was sent' >&2; exit 74; }
tar -xf "$incoming/archive.tar" -C "$incoming"
"$python" -I -m venv --without-pip "$new/venv"
tool=$(echo "$incoming"/pip/pip-*.whl)/pip
pip() {
  "$new/venv/bin/python" "$tool" --disable-pip-version-check --no-input -q install --no-compile --no-cache-dir \
    --no-warn-script-location --root-user-action=ignore "$@"
}
if [ "$how" != sent ]; then
  if [ "$how" = there ]; then
    was=$(echo "$home"/current/venv/lib/python3*/site-packages); now=$(echo "$new"/venv/lib/python3*/site-packages)
    cp -Rl "$was/." "$now/" 2>/dev/null || cp -R "$was/." "$now/"
    rm -rf "$now/appliance" "$now"/prime_spark-*.dist-info
  else
    pip --only-binary=:all: -r "$incoming/libraries.txt"
  fi
  PIP_CONFIG_FILE=/dev/null pip --isolated --no-index --find-links "$incoming/wheels" --require-hashes --no-deps \
    -r "$incoming/own.txt"
else
  PIP_CONFIG_FILE=/dev/null pip --isolated --no-index --find-links "$incoming/wheels" --require-hashes --no-deps \
    -r "$incoming/requirements.txt"
fi
"$new/venv/bin/python" -c 'import appliance.cli, appliance.agent.process, appliance.agent.worker, aiokafka, httpx'
told=$("$new/venv/bin/prime-spark" --version)
[ "$told" = "prime-spark $wanted" ] || { echo "it says that it is $told, not $wanted" >&2; exit 76; }
printf %s "$libraries" >"$new/.libraries"; : >"$new/.whole"
echo "$told lies in $new"
"""
)
"""Makes a release beside the one that is in force; what is not whole at the end is gone."""

SWITCH = (
    PLACES
    + ALONE
    + r"""
set -eu
release=$1; before=$home/before; ended=
rm -rf "$config.new" "$file.new"; mkdir -p "$config.new"; mkdir -m 700 "$config.new/secrets"
while read -r kind called text; do
  case $kind in
    config) printf %s "$text" | base64 -d >"$config.new/$called" ;;
    secret) (umask 077; printf %s "$text" | base64 -d >"$config.new/secrets/$called") ;;
    unit) printf %s "$text" | base64 -d >"$file.new" ;;
    end) ended=yes ;;
  esac
done
if [ -z "$ended" ]; then
  rm -rf "$config.new" "$file.new"; echo 'the link was cut: not all of the configuration came' >&2; exit 74
fi
if [ ! -e "$before/pending" ]; then  # else an earlier attempt broke off: what was before that one is kept
  rm -rf "$before"; mkdir -m 700 "$before"
  if was=$(readlink "$home/current" 2>/dev/null) && [ -e "$home/current/.whole" ]; then
    printf %s "${was##*/}" >"$before/release"
    [ ! -d "$config" ] || cp -Rp "$config" "$before/config"
    [ ! -e "$file" ] || cp -p "$file" "$before/unit"
  fi
  : >"$before/pending"
fi
rm -rf "$config.old"; [ ! -e "$config" ] || mv "$config" "$config.old"
mv "$config.new" "$config"; rm -rf "$config.old"
mv -f "$file.new" "$file"
ln -sfn "versions/$release" "$home/current.new"; mv -fT "$home/current.new" "$home/current"
sync "$config" "$file" "$home" 2>/dev/null || sync
systemctl daemon-reload
systemctl enable -q "$unit"
systemctl reset-failed "$unit" 2>/dev/null || true
systemctl restart "$unit"
"""
)
"""Puts a release in force with its configuration, which comes through standard input, and starts it."""

STATE = (
    PLACES
    + r"""
systemctl show -p ActiveState -p SubState -p NRestarts -p MainPID -- "$unit"
told=$("$home/current/venv/bin/prime-spark" --version 2>&1); printf 'version=%s\n' "$told"
release=$(readlink "$home/current"); printf 'release=%s\n' "${release##*/}"
"""
)
JOURNAL = PLACES + 'journalctl --no-pager -o cat -u "$unit" -n 12 2>/dev/null'

FINISH = (
    PLACES
    + ALONE
    + r"""
set -eu
rm -f "$home/before/pending"; rm -rf "$staging".*
keep=$1; former=$(cat "$home/before/release" 2>/dev/null || true)
for each in "$home"/versions/*; do
  case ${each##*/} in "$keep" | "$former") ;; *) rm -rf "$each" ;; esac
done
"""
)
"""It is well: of the releases only this one and the one before it stay, and nothing of what was sent."""

BACK = (
    PLACES
    + ALONE
    + r"""
set -eu
release=$1; enabled=$2; running=$3; before=$home/before
[ "$(cat "$before/release" 2>/dev/null)" = "$release" ] || { echo 'what was before is not kept any more' >&2; exit 66; }
[ -e "$home/versions/$release/.whole" ] || { echo 'the release of before is gone' >&2; exit 66; }
rm -rf "$config.new" "$config.old"
cp -Rp "$before/config" "$config.new"; [ ! -e "$config" ] || mv "$config" "$config.old"
mv "$config.new" "$config"; rm -rf "$config.old"
cp -p "$before/unit" "$file.new"; mv -f "$file.new" "$file"
ln -sfn "versions/$release" "$home/current.new"; mv -fT "$home/current.new" "$home/current"
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null || true
if [ "$enabled" = yes ]; then systemctl enable -q "$unit"; else systemctl disable -q "$unit"; fi
if [ "$running" = yes ]; then systemctl restart "$unit"; else systemctl stop "$unit"; fi
for each in "$home"/versions/*; do [ "${each##*/}" = "$release" ] || rm -rf "$each"; done
rm -f "$before/pending"; rm -rf "$staging".*
"""
)
"""The release of before, its configuration and its unit are in force again."""

REMOVE = (
    PLACES
    + ALONE
    + r"""
if [ -e "$file" ] && [ "$(head -n 1 "$file")" != "$head" ]; then echo "$file is somebody else's" >&2; exit 77; fi
if [ -d "$home" ] && [ -n "$(ls -A "$home")" ] && [ ! -e "$mark" ]; then echo "$home is somebody else's" >&2; exit 77; fi
if [ -e "$file" ]; then
  systemctl disable --now -q "$unit" || systemctl stop "$unit" || exit 78
else  # somebody took its file away, and it may run
  systemctl stop "$unit" 2>/dev/null
  if systemctl is-active "$unit" >/dev/null 2>&1; then echo "$unit does not stop" >&2; exit 78; fi
fi
rm -f "$file" "$file.new" /etc/systemd/system/*.wants/"$unit"
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null
for each in "$home" "$config" "$config.new" "$config.old" "$state" "/var/lib/private/$name" "/run/$name" \
    "/run/private/$name" "/run/credentials/$unit" "$staging".*; do
  [ ! -e "$each" ] && [ ! -L "$each" ] || rm -rf "$each" || exit 79
done
rm -f "$lock"
"""
)
"""Nothing of it is left, also of one that was installed by half."""
