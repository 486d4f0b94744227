#!/usr/bin/env bash
# Sets up what is missing: setup.sh run [test] [image]. Idempotent; a stamp of the inputs makes a second run quick.
set -euo pipefail
cd "$(dirname "$0")/.."

RUN_PACKAGES=(ca-certificates libportaudio2 libasound2-plugins libusb-1.0-0 espeak-ng redis-server restic)
TEST_PACKAGES=(strace openssh-client tmux librsvg2-bin fonts-dejavu-core umockdev gir1.2-umockdev-1.0 python3-gi
    postgresql bindfs fuse3
    openssh-server nut-server nut-client wireguard-go wireguard-tools nftables iproute2 iputils-ping iperf3
    procps python3 podman runc netavark iptables busybox-static docker-compose haproxy
    prometheus prometheus-node-exporter flite sox pulseaudio pulseaudio-utils alsa-utils age zstd dbus-daemon)
# Building an image (any Debian; programs of the other processor run in emulation), and starting it.
IMAGE_PACKAGES=(mmdebstrap debian-archive-keyring squashfs-tools fdisk e2fsprogs dosfstools mtools rauc grub-common grub-efi-amd64-bin
    device-tree-compiler minisign xz-utils git qemu-user-static)
TEST_PACKAGES+=(wpasupplicant whois)
TEST_PACKAGES+=(qemu-system-x86 qemu-utils ovmf nbdkit nbdkit-plugin-python shellcheck console-setup)
MACHINE_PACKAGES=(qemu-system-arm)
# Containers run by podman, behind Docker's command line: its own where the machine has it, else podman's.
if ! command -v docker >/dev/null; then TEST_PACKAGES+=(podman-docker); fi

# Debian starts servers when it installs them. The appliance and the tests start their own: a server that comes in here
# must not run or start at boot. Both files exist only while packages are installed.
POLICY=/usr/sbin/policy-rc.d
NO_CLUSTER=/etc/postgresql-common/createcluster.d/prime-spark.conf
MARK="# Written by Prime Spark's setup.sh for the time of an installation"

on_pi() { grep -qs "Raspberry Pi" /proc/device-tree/model; }

# evdev has no wheel for these processors: pip builds it.
if [[ "$(uname -m)" == aarch64 ]]; then RUN_PACKAGES+=(gcc libc6-dev linux-libc-dev python3-dev); fi

say() { printf 'setup: %s\n' "$*" >&2; }

without() { printf 'the tests %s are skipped, and fail under CI=true' "$1"; }

missing_packages() {
    local name
    for name in "$@"; do
        [[ "$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null || true)" == "install ok installed" ]] || printf '%s ' "$name"
    done
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; elif sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

new_services() {
    # Of the packages in $@, the services that this machine does not have yet. Those that it has are not touched.
    local name
    for name in "$@"; do
        case "$name" in
        wpasupplicant) [[ -e /usr/sbin/wpa_supplicant ]] || printf 'wpa_supplicant ' ;;
        redis-server) [[ -e /usr/bin/redis-server ]] || printf 'redis-server ' ;;
        openssh-server) [[ -e /usr/sbin/sshd ]] || printf 'ssh ' ;;
        nut-server) [[ -e /lib/nut/upsd ]] || printf 'nut-server nut-driver ' ;;
        haproxy) [[ -e /usr/sbin/haproxy ]] || printf 'haproxy ' ;;
        podman) [[ -e /usr/bin/podman ]] || printf 'podman ' ;;
        prometheus) [[ -e /usr/bin/prometheus ]] || printf 'prometheus ' ;;
        prometheus-node-exporter) [[ -e /usr/bin/prometheus-node-exporter ]] || printf 'prometheus-node-exporter ' ;;
        nut-client) [[ -e /lib/nut/upsmon ]] || printf 'nut-client nut-monitor ' ;;
        postgresql) compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || printf 'postgresql ' ;;
        esac
    done
}

allow_services() {
    # Removes what hold_services left, also after a run that was killed.
    local file
    for file in "$POLICY" "$NO_CLUSTER"; do
        if grep -qsF "$MARK" "$file"; then as_root rm -f "$file" || say "remove it yourself: $file"; fi
    done
}

write_as_root() {
    # $1: a file, executable, in a directory that is made; $2: its text
    as_root sh -c 'mkdir -p "${1%/*}" && printf "%s\n" "$2" >"$1" && chmod 755 "$1"' sh "$1" "$2"
}

hold_services() {
    # Keeps the services in $@ from being started, and PostgreSQL from making a cluster, until allow_services.
    local names file text
    names="$(printf '%s*|' "$@")"
    trap allow_services EXIT
    for file in "$POLICY" "$NO_CLUSTER"; do
        case "$file" in
        "$POLICY") text="$(printf '#!/bin/sh\n%s\ncase "$1" in %s) exit 101 ;; esac\nexit 0' "$MARK" "${names%|}")" ;;
        "$NO_CLUSTER") text="$(printf '%s\ncreate_main_cluster = false' "$MARK")" ;;
        esac
        if [[ ! -e "$file" ]]; then write_as_root "$file" "$text" || true; fi
    done
}

install_packages() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

system_packages() {
    command -v dpkg-query >/dev/null || { say "no dpkg here: install yourself what corresponds to: $*"; return; }
    allow_services
    local wanted services name
    read -ra wanted <<<"$(missing_packages "$@")"
    [[ ${#wanted[@]} -gt 0 ]] || return 0
    read -ra services <<<"$(new_services "${wanted[@]}")"
    say "installing ${wanted[*]}"
    if [[ ${#services[@]} -gt 0 ]]; then hold_services "${services[@]}"; fi
    if ! install_packages "${wanted[@]}" 2>/dev/null; then
        if ! { as_root apt-get update -q >/dev/null && install_packages "${wanted[@]}"; }; then
            say "not installed (root or passwordless sudo is needed): ${wanted[*]}"
            say "next: sudo apt-get install ${wanted[*]}"
        fi
    fi
    for name in "${services[@]}"; do
        if [[ -e "/etc/init.d/$name" ]]; then as_root update-rc.d "$name" disable || say "it starts at boot; next: sudo systemctl disable $name"; fi
    done
    allow_services
}

usable_python() {
    # A Python 3.11 to 3.13 that can make virtual environments.
    local name
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$name" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            printf '%s' "$name"
            return
        fi
    done
    return 1
}

virtual_environment() {
    # $1: name of the stamp, further ones: requirement files
    local stamp=".venv/.stamp-$1" sum
    shift
    sum="$(cat "$@" pyproject.toml | sha256sum)"
    [[ -x .venv/bin/prime-spark && -f "$stamp" && "$(<"$stamp")" == "$sum" ]] && return 0
    if [[ ! -x .venv/bin/python ]]; then
        local python
        python="$(usable_python)" || { system_packages python3-venv; python="$(usable_python)"; } ||
            { say "no Python 3.11 to 3.13 with venv here; next: sudo apt-get install python3-venv"; exit 1; }
        say "making .venv with $python"
        local site=()
        # The accelerator's library, and the camera's of a Pi, come with the system's Python: its environment must see them.
        if on_pi || [[ -e /dev/hailo0 ]]; then site=(--system-site-packages); fi
        "$python" -m venv "${site[@]}" .venv
    fi
    say "installing Python packages"
    local files=() file
    for file in "$@"; do files+=(-r "$file"); done
    .venv/bin/python -m pip install -q --disable-pip-version-check "${files[@]}"
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --config-settings editable_mode=compat -e .
    printf '%s' "$sum" >"$stamp"
}

kafka() {
    # Apache Kafka for the tests, with an archive of the classes that it loads: it starts a second sooner.
    local program sum said
    command -v java >/dev/null || system_packages default-jre-headless
    sum="$({ cat tests/kafka/pom.xml; readlink -f "$(command -v java)" || true; } | sha256sum)"
    [[ -f .kafka/.stamp && "$(<.kafka/.stamp)" == "$sum" ]] && return 0
    command -v mvn >/dev/null || system_packages maven
    for program in java mvn; do
        command -v "$program" >/dev/null || { say "no $program: $(without "that want Kafka")"; return 0; }
    done
    say "copying Kafka's jars"
    rm -rf .kafka
    if ! said="$(mvn -B -q -Dstyle.color=never -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.kafka" 2>&1 &&
        .venv/bin/python -m tests.servers.kafka_archive 2>&1)"; then
        rm -rf .kafka
        say "$said"
        say "Kafka is not to be had: $(without "that want it")"
        return 0
    fi
    printf '%s' "$sum" >.kafka/.stamp
}

pebble() {
    # Pebble, an ACME authority for tests, built from its Go module.
    local version=v2.10.1
    [[ -x .pebble/pebble && -f .pebble/.stamp && "$(<.pebble/.stamp)" == "$version" ]] && return 0
    command -v go >/dev/null || { say "no go: $(without "that want an ACME authority")"; return 0; }
    say "building Pebble"
    if ! GOBIN="$PWD/.pebble" GOFLAGS=-p=2 go install "github.com/letsencrypt/pebble/v2/cmd/pebble@$version" >/dev/null 2>&1; then
        say "Pebble is not to be had: $(without "that want an ACME authority")"
        return 0
    fi
    printf '%s' "$version" >.pebble/.stamp
}

give_back() {
    # By sudo in somebody's checkout: what was made here stays theirs.
    local made=() name
    if [[ $EUID -ne 0 || "$(stat -c %u .)" == 0 ]]; then return 0; fi
    for name in .venv .models .kafka .pebble prime_spark.egg-info; do if [[ -e "$name" ]]; then made+=("$name"); fi; done
    if [[ ${#made[@]} -gt 0 ]]; then find "${made[@]}" -user 0 -exec chown -h --reference=. {} +; fi
}

for part in "$@"; do
    case "$part" in
    run)
        system_packages "${RUN_PACKAGES[@]}"
        virtual_environment run requirements/run.txt requirements/models.txt
        .venv/bin/python scripts/fetch_models.py .models
        ;;
    test)
        system_packages "${TEST_PACKAGES[@]}" "${IMAGE_PACKAGES[@]}"
        virtual_environment test requirements/run.txt requirements/dev.txt requirements/models.txt
        .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/windows.txt
        .venv/bin/python scripts/fetch_samples.py .models/samples
        kafka
        pebble
        ;;
    image)
        system_packages "${IMAGE_PACKAGES[@]}" "${MACHINE_PACKAGES[@]}"
        .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/image.txt
        ;;
    *)
        say "unknown part $part; use run, test or image"
        exit 2
        ;;
    esac
done
give_back
