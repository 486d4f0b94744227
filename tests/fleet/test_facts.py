"""What nodes tell of themselves: golden answers, real shells, and answers that are none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.core.fleet.facts.compound import Question, names
from appliance.core.fleet.facts.fact import found
from appliance.core.fleet.facts.look import Look, Moment, look_of, metrics_of
from appliance.core.fleet.model import NodeFacts
from appliance.errors import ShellError
from tests.fleet.record_golden import GOLDEN, MARK, parsed

KINDS = ("metrics", "host", "slow")
SHELLS = [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_a_golden_answer_is_read_as_it_was(path: Path) -> None:
    assert parsed(path) == msgspec.json.decode(path.with_suffix(".json").read_bytes())


def test_every_answer_fits_what_is_kept_of_it() -> None:
    kept = set(NodeFacts.__struct_fields__) | {"packages", "other_units"}
    for path in GOLDEN.glob("*.txt"):
        fields = Question.of(path.suffixes[-2][1:], MARK).read(path.read_bytes()).fields
        if path.suffixes[-2] == ".metrics":
            look_of(fields)
        else:
            assert set(fields) <= kept


def test_names_are_found_once_each() -> None:
    assert {"cpu", "disks", "units", "docker", "updates"} <= set(names())
    assert len(names()) == len(set(names()))


@pytest.mark.parametrize("kind", ["metrics", "host"])
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shutil.which(shell[0])], ids=" ".join)
def test_real_shells_answer(shell: list[str], kind: str) -> None:
    question = Question.of(kind)
    done = subprocess.run(shell, input=question.script, capture_output=True, check=True, timeout=60)
    answers = question.read(done.stdout, done.stderr)
    assert done.stderr == b""
    if kind == "metrics":
        look = look_of(answers.fields)
        assert look.cpu_ticks is not None
        assert look.memory is not None
        assert look.disks
        assert look.processes is not None
    else:
        assert answers.fields["hostname"] == os.uname().nodename
        assert answers.fields["kernel"] == os.uname().release
        assert "root" in answers.fields["users"]
        assert answers.fields["cores"] == os.cpu_count()


def test_a_machine_without_any_command_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "grep").symlink_to(shutil.which("grep") or "")
    question = Question.of("host")
    script = question.script.replace(b'PATH="$PATH:', b'PATH="' + str(tmp_path).encode() + b'"; : "')
    done = subprocess.run(["/bin/sh"], input=script, capture_output=True, check=True, timeout=60)
    missing = question.read(done.stdout).missing
    assert missing["addresses"] == "it has no ip"
    assert missing["python"] == "it has no python3"
    assert missing["docker"] == "it has neither docker nor podman"
    assert "service manager" in missing["units"]
    assert missing["uname"]
    assert "users" not in missing


def test_the_private_key_of_wireguard_does_not_leave_the_node(tmp_path: Path) -> None:
    """The shell there cuts keys off; a `wg` that prints them stands in for a node with two interfaces."""
    private, public, shared = "cHJpdmF0ZWtleQ=", "cHVibGlja2V5MQ=", "c2hhcmVkc2VjcmV0="
    dump = f"wg0\t{private}\t{public}\t51820\toff\nwg0\t{public}\t{shared}\t(none)\t10.0.0.2/32\t0\t5\t7\toff\n"
    wg = tmp_path / "wg"
    wg.write_text(f"#!/bin/sh\nprintf '{dump}'\n")
    wg.chmod(0o755)
    fact = next(each for each in found("host") if each.name == "wireguard")
    script = fact.script.replace("there=;", "there=1;").replace('"$(id -u)" != 0', "1 != 1")
    said = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ).stdout
    assert not any(key in said for key in (private, public, shared))
    assert "wg0\t51820" in said
    assert "10.0.0.2/32\t0\t5\t7" in said


def test_half_a_script_does_nothing(tmp_path: Path) -> None:
    script = Question.of("host").script
    for end in range(60, len(script) - 40, len(script) // 12):
        done = subprocess.run(["sh"], input=script[:end], capture_output=True, check=False, cwd=tmp_path)
        assert done.stdout == b""


def test_no_answer_at_all_says_what_came_instead() -> None:
    question = Question.of("metrics")
    with pytest.raises(ShellError, match="This account is currently not available"):
        question.read(b"This account is currently not available.\n")
    with pytest.raises(ShellError, match="does not run sh"):
        question.read(b"")


def test_an_answer_that_breaks_off_is_none() -> None:
    whole = (GOLDEN / "pi-os-pi5.metrics.txt").read_bytes()
    with pytest.raises(ShellError, match="ends after disks"):
        Question.of("metrics", MARK).read(whole[: whole.index(b"/dev/sda1")])


def test_ten_megabytes_in_one_line_cost_one_fact() -> None:
    whole = (GOLDEN / "pi-os-pi5.host.txt").read_bytes()
    flood = whole.replace(b"Python 3.11.2", b"x" * 10_000_000)
    answers = Question.of("host", MARK).read(flood)
    assert "characters; at most" in answers.missing["python"]
    assert answers.fields["hostname"] == "spark-agent"


def test_what_a_command_prints_is_no_section_and_steers_no_terminal() -> None:
    whole = (GOLDEN / "pi-os-pi5.host.txt").read_bytes()
    forged = b"0123456789abcdef01234567 uname\nevil 1 2\n\x1b]52;c;aGk=\x07"
    answers = Question.of("host", MARK).read(whole.replace(b"Europe/Berlin", b"Europe/\x1b[2JBerlin\n" + forged))
    assert answers.fields["hostname"] == "spark-agent"
    assert answers.fields["timezone"] == "Europe/\\x1b[2JBerlin"


# -- shares and rates ------------------------------------------------------------------------------------------------------

MOMENT = Moment(wall=1000.0, monotonic=50.0, took=0.2)


def look(**other: object) -> Look:
    known: dict[str, object] = {"cpu_ticks": (1000, 10_000), "uptime": 100.0, "boot": "a", "cards": {"eth0": (1000, 2000)}}
    return Look(**{**known, **other})  # type: ignore[arg-type]


def test_the_first_look_has_no_rates() -> None:
    told = metrics_of(look(clock=1000.9), None, MOMENT)
    assert (told.cpu, told.net_rx, told.net_tx) == (None, None, None)
    assert told.clock_offset == pytest.approx(1.0)
    assert told.took_ms == 200


def test_shares_and_rates_are_of_the_time_between_by_its_own_clock() -> None:
    told = metrics_of(look(cpu_ticks=(1500, 12_000), uptime=110.0, cards={"eth0": (6000, 2000)}), look(), MOMENT)
    assert (told.cpu, told.net_rx, told.net_tx) == (25.0, 500.0, 0.0)


@pytest.mark.parametrize(
    "now",
    [
        look(boot="b", uptime=5.0, cpu_ticks=(1, 10), cards={"eth0": (1, 1)}),
        look(boot="b", uptime=5000.0, cpu_ticks=(9000, 90_000), cards={"eth0": (10**12, 10**12)}),
        look(uptime=5.0),
        look(),
        look(uptime=110.0, cpu_ticks=(900, 9000), cards={"eth0": (10, 20)}),
        look(uptime=110.0, cpu_ticks=None, cards={"eth1": (10, 20)}),
        look(uptime=110.0, cpu_ticks=None, cards={"eth0": (10**15, 10**15)}),
    ],
    ids=["boot", "boot long ago", "uptime went back", "same instant", "counters set back", "other card", "absurd"],
)
def test_no_rate_is_better_than_a_wrong_one(now: Look) -> None:
    told = metrics_of(now, look(), MOMENT)
    assert (told.cpu, told.net_rx, told.net_tx) == (None, None, None)


def test_a_counter_of_32_bits_that_wrapped_goes_on() -> None:
    before = look(cards={"eth0": (2**32 - 1000, 5)})
    told = metrics_of(look(uptime=110.0, cards={"eth0": (4000, 15)}), before, MOMENT)
    assert (told.net_rx, told.net_tx) == (500.0, 1.0)


def test_a_container_has_what_its_limits_give_it() -> None:
    fields = Question.of("metrics", MARK).read((GOLDEN / "container.metrics.txt").read_bytes()).fields
    before = look_of(fields)
    now = msgspec.structs.replace(before, uptime=1010.0, quota_used=123_000_000 + 2_500_000)
    told = metrics_of(now, before, MOMENT)
    assert (told.memory, told.memory_total, told.cpu) == (50.0, 512 << 20, 50.0)


@pytest.mark.parametrize(("clock", "offset"), [(999.9, 0.0), (1060.5, 60.6), (400.5, -599.4)])
def test_a_clock_of_whole_seconds_is_off_by_what_it_can_tell(clock: float, offset: float) -> None:
    told = metrics_of(look(clock=clock, clock_step=0.5), None, MOMENT)
    assert told.clock_offset == pytest.approx(offset)


@pytest.mark.parametrize(
    ("name", "text", "files"),
    [
        ("memory", "", {"/proc/meminfo": ["MemTotal: 0 kB", "MemFree: 0 kB"]}),
        ("memory", "", {"/proc/meminfo": ["MemTotal: 99999999999999999999 kB", "MemFree: 0 kB"]}),
        ("load", "", {"/proc/loadavg": ["nan 1e999 0.1 1/2 3"], "/proc/uptime": ["inf 0"]}),
        ("disks", "Filesystem Type\n/dev/sda ext4 00 0 0 0% /", {}),
        ("temperature", f"/sys/class/hwmon/hwmon0/temp1_input:{'9' * 400}", {}),
        ("container", "/sys/fs/cgroup/cpu.max:5 0\n/sys/fs/cgroup/cpu.stat:usage_usec 9", {}),
        ("clock", "9" * 400, {}),
        ("cpu", f"cpu {'9' * 40} 0 0 0 0 0 0 0", {}),
        ("network", "", {"/proc/net/dev": [f"eth0: {'9' * 400} 0 0 0 0 0 0 0 1 0 0"]}),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_missing(name: str, text: str, files: dict[str, list[str]]) -> None:
    from appliance.core.fleet.facts.fact import Told

    fact = next(each for each in found("metrics") if each.name == name)
    fields, why = fact.answer(Told(text, files))
    assert fields == {}
    assert why.startswith("it said what cannot be read")


def test_parsers_survive_anything(random_text: Callable[[int], str]) -> None:
    from appliance.core.fleet.facts.fact import Told

    for seed in range(40):
        text = random_text(seed)
        for kind in KINDS:
            for fact in found(kind):
                files = dict.fromkeys((path.replace("*", "0") for path in fact.files), text.split("\n"))
                fields, why = fact.answer(Told(text, files))
                assert isinstance(why, str)
                assert why == "" or not fields


@pytest.fixture
def random_text() -> Callable[[int], str]:
    """Bits of real answers, mixed up."""
    import random

    words = " ".join(path.read_text(errors="replace") for path in sorted(GOLDEN.glob("*.txt"))).split(" ")

    def make(seed: int) -> str:
        chance = random.Random(seed)
        return chance.choice([" ", "\n", "\t", ""]).join(chance.choices(words, k=chance.randint(0, 60)))

    return make
