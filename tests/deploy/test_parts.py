"""The small pure parts: health with hysteresis, places, scaling, weights, statistics, specifications, quoting."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.deploy import scaling
from appliance.core.deploy.hands import plain_lines, unit_words
from appliance.core.deploy.haproxy import Front, ServerLine, config_text, parse_stats, weights
from appliance.core.deploy.model import Fitness, Replica
from appliance.core.deploy.placing import Site, place, room
from appliance.core.deploy.probes import judged
from appliance.core.deploy.pulse import Pulse, beat, started
from appliance.core.deploy.scaling import Memory
from appliance.core.deploy.spec import Health, Ports, Scaling, parse
from appliance.core.deploy.units import unit_file
from appliance.errors import DeployError, InvalidArgumentsError
from tests.support import needs_program

HEALTH = Health(retries=3, rise=2, start_period=10.0, flaps=4)
NOON = dt.datetime(2030, 1, 2, 12, 0, tzinfo=dt.UTC)  # a Wednesday


def beats(pulse: Pulse, pattern: str, health: Health = HEALTH, now: float = 100.0) -> Pulse:
    """ "+" for a success, "-" for a failure, a second apart."""
    for sign in pattern:
        now += 1
        pulse = beat(pulse, "" if sign == "+" else "refused", now, health)
    return pulse


@pytest.mark.parametrize(
    ("pattern", "fitness"),
    [
        ("+", Fitness.healthy),
        ("+--", Fitness.healthy),
        ("+---", Fitness.unhealthy),
        ("+---+", Fitness.unhealthy),
        ("+---++", Fitness.healthy),
        ("+" + "-+" * 4, Fitness.healthy),
        ("+" + "-+" * 6, Fitness.unhealthy),  # never three in a row, and yet every other one fails
    ],
)
def test_one_check_means_little(pattern: str, fitness: Fitness) -> None:
    assert beats(Pulse(), pattern).fitness is fitness


def test_failures_are_forgiven_while_it_starts_and_not_later() -> None:
    assert beats(started(100.0), "-" * 9).fitness is Fitness.starting
    assert beats(started(100.0), "-" * 13).fitness is Fitness.unhealthy


def test_what_flaps_stays_unhealthy_until_it_is_calm() -> None:
    flapping = beats(Pulse(), "+" + "---++++++++" * 2 + "---" + "+" * 20)
    assert flapping.fitness is Fitness.unhealthy
    assert "flaps" in flapping.reason
    assert beat(flapping, "", 900.0, HEALTH).fitness is Fitness.healthy


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 12), nodes=st.integers(1, 5), ports=st.integers(1, 4))
def test_places_are_free_spread_and_never_given_twice(count: int, nodes: int, ports: int) -> None:
    sites = [Site(f"n{each}", "127.0.0.1", usable=each != 0 or nodes == 1) for each in range(nodes)]
    span = Ports(first=8000, count=ports)
    taken = {("n1", 8000)} if nodes > 1 else set()
    found = place(count, sites, span, taken, ())
    assert len(found) == min(count, room(sites, span, taken))
    assert len(set(found) | taken) == len(found) + len(taken)
    assert nodes == 1 or all(node != "n0" for node, _ in found)
    if ports == 4 and len(found) < 4:
        counts = [sum(node == site.node for node, _ in found) for site in sites if site.usable]
        assert max(counts) - min(counts) <= 1


RULES = msgspec.convert(
    {"least": 2, "most": 10, "up_cooldown": 60, "down_cooldown": 300, "target": [{"metric": "cpu", "value": 50}]}, Scaling
)


@settings(max_examples=80, deadline=None)
@given(loads=st.lists(st.one_of(st.none(), st.floats(0, 500)), min_size=1, max_size=60))
def test_scaling_keeps_bounds_and_cooldowns_whatever_the_load(loads: list[float | None]) -> None:
    current, memory, now, changes = 4, Memory(), 0.0, []
    for load in loads:
        verdict = scaling.decide(RULES, {"cpu": load}, current, memory, now, NOON)
        assert 2 <= verdict.replicas <= 10
        assert verdict.reason
        if verdict.replicas != current:
            assert load is not None
            changes.append((now, verdict.replicas - current))
        current, memory, now = verdict.replicas, verdict.memory, now + 15
    for (before, _), (after, by) in itertools.pairwise(changes):
        assert after - before >= (60 if by > 0 else 300)


def test_a_load_that_swings_does_not_make_it_flap() -> None:
    current, memory, changes = 4, Memory(), 0
    for turn in range(400):
        load = 90.0 if turn % 2 else 20.0
        verdict = scaling.decide(RULES, {"cpu": load}, current, memory, turn * 15.0, NOON)
        changes += verdict.replicas != current
        current, memory = verdict.replicas, verdict.memory
    assert current == 10  # it follows the peaks
    assert changes <= 3


def test_steps_schedules_and_what_is_not_known() -> None:
    rules = msgspec.convert(
        {
            "least": 1, "most": 5, "up_cooldown": 0, "down_cooldown": 0,
            "step": [{"metric": "cpu", "above": 80, "change": 1}, {"metric": "cpu", "above": 95, "change": 3},
                     {"metric": "cpu", "below": 30, "change": -1}],
            "schedule": [{"days": ["wed"], "start": dt.time(11), "end": dt.time(13), "least": 3}],
        }, Scaling,
    )  # fmt: skip
    evening = NOON.replace(hour=20)

    def decided(load: float | None, current: int, moment: dt.datetime = evening) -> int:
        return scaling.decide(rules, {"cpu": load}, current, Memory(), 0.0, moment).replicas

    assert [decided(load, 2) for load in (50, 85, 99, 20, None)] == [2, 3, 5, 1, 2]
    assert decided(20, 1) == 1
    assert decided(50, 1, NOON) == 3  # the schedule lifts it, whatever the load
    assert decided(20, 3, NOON) == 3


def test_a_schedule_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    rules = msgspec.convert(
        {"most": 5, "schedule": [{"days": ["wed"], "start": dt.time(22), "end": dt.time(6), "least": 3}]}, Scaling
    )
    assert [
        scaling.bounds(rules, moment)[0]
        for moment in (
            NOON, NOON.replace(hour=23), NOON.replace(hour=3), NOON.replace(hour=3) + dt.timedelta(days=1),
            NOON.replace(hour=7) + dt.timedelta(days=1),
        )
    ] == [1, 3, 1, 3, 1]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(shares=st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_weights_are_in_the_ratio_of_the_shares(shares: list[float]) -> None:
    servers = [ServerLine(str(number), "127.0.0.1", 1, share) for number, share in enumerate(shares)]
    given_ = weights(servers)
    most = max(shares)
    for server in servers:
        weight = given_[server.name]
        assert (weight == 0) == (server.share == 0)
        if server.share > 0:
            assert abs(weight - 256 * server.share / most) <= 1


def test_haproxy_takes_every_configuration_that_is_written(tmp_path: Path) -> None:
    servers = (
        ServerLine("r1.n-1.8000.abcdef", "127.0.0.1", 8000, 90),
        ServerLine("r2.n.8001.abcdef", "::1", 8001, 0, draining=True),
    )
    fronts = [
        Front("web", 18080, "127.0.0.1", "http", servers),
        Front("db", 18081, "*", "tcp", ()),
        Front("v6", 18082, "::1", "http"),
    ]
    path = tmp_path / "haproxy.cfg"
    path.write_text(config_text(fronts, path.with_name("s")))
    checked = subprocess.run([needs_program("haproxy"), "-c", "-f", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr.lower()


def test_statistics_of_servers_are_read_and_nothing_else() -> None:
    names = "pxname,svname,scur,stot,econ,eresp,status,weight,type,rtime,"
    names += "hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,mode,uweight"
    text = f"# {names}\nweb,FRONTEND,1,9,,,OPEN,,0,,0,9,0,0,0,0,http,\nweb,r2.n.1.x,3,9,4,1,UP,256,2,12,0,5,0,1,2,0,http,256\n"
    found = parse_stats(text)
    assert list(found) == [("web", "r2.n.1.x")]
    stat = found["web", "r2.n.1.x"]
    assert (stat.requests, stat.errors, stat.sessions, stat.latency_ms) == (8, 3, 3, 12.0)


@pytest.mark.parametrize(
    ("health", "status", "body", "fault"),
    [
        (Health(), 200, b"", ""),
        (Health(), 503, b"", "status 503 instead of 200"),
        (Health(status=(200, 204)), 204, b"", ""),
        (Health(body="ready"), 200, b"booting", "does not hold 'ready'"),
        (Health(json={"db.0.up": True}), 200, b'{"db": [{"up": true}]}', ""),
        (Health(json={"db.0.up": True}), 200, b'{"db": [{"up": 1}]}', "db.0.up is 1 instead of True"),
        (Health(json={"up": 1}), 200, b"<html>", "no JSON"),
    ],
)
def test_an_answer_is_judged_by_what_it_says(health: Health, status: int, body: bytes, fault: str) -> None:
    told = judged(health, status, body)
    assert (told == "") if not fault else (fault in told)


GOOD = """name = "web"
version = "1"
kind = "unit"
nodes = ["all"]
ports = { first = 18000 }
[unit]
command = "/bin/web {port} 100% $HOME 'two words'"
"""


@pytest.mark.parametrize(
    ("change", "told", "step"),
    [
        ("[health]\nintervall = 3", "health: Object contains unknown field `intervall`", "did you mean interval?"),
        ("[rollout]\nstrategy = 'canari'", "rollout.strategy", "it takes: rolling, blue-green, canary, recreate."),
        ("[health]\npath = 3", "health.path: Expected `str`", "in quotes"),
        ("[rollout]\nstrategy = 'canary'", "canary needs traffic that can be directed", "[front]"),
        ("[rollout]\nsurge = 0", "can change nothing", "set one of them to 1"),
        ("[front]\nlisten = 18003", "lies in the replicas' range", "choose another"),
        ("[compose]\nfile = 'x'", "a unit and a compose project at once", "leave one"),
        ("[secrets]\nA = 'kafka.password'", "secrets", "docs/deploy.md"),
        ('[environment]\nA = "x\\ny"', "more than one line", "file"),
        ("[scaling]\nmost = 3", "scaling has no rule", "[[scaling.target]]"),
        (
            "[scaling]\nmost = 3\n[[scaling.target]]\nmetric = 'latency_ms'\nvalue = 3",
            "counted by the balancer only",
            "[front]",
        ),
        ("[health]\nkind = 'command'", "needs the command", "health.command"),
        ("[front", "is no TOML", "mend"),
        ('UNIT command = "/bin/web \'x"', "unit.command cannot be read: no closing quotation", "script"),
        ("UNIT command = '  '", "unit.command is empty", "shell"),
        ('UNIT command = "/bin/web"\nfolder = "/srv\\nExecStartPre=/bin/x"', "unit.folder", "docs/deploy.md"),
    ],
)
def test_a_wrong_specification_is_told_with_the_place_and_the_way(change: str, told: str, step: str) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        parse(
            GOOD + change if not change.startswith("UNIT ") else GOOD.partition("command =")[0] + change.removeprefix("UNIT ")
        )
    assert told in caught.value.message
    assert step in caught.value.next_step


def test_a_unit_has_its_command_quoted_and_its_instance_for_the_port() -> None:
    text = unit_file(parse(GOOD), Replica("id", "web", 7, "1", "n", 18000), "/srv/web/r7")
    assert 'ExecStart="/bin/web" "%i" "100%%" "$$HOME" "two words"\n' in text
    assert "EnvironmentFile=/srv/web/r7/env" in text
    assert "18000" not in text
    assert unit_words("a 'b c' \"d'e\"") == '"a" "b c" "d\'e"'


def test_variables_of_compose_are_lines_and_nothing_else() -> None:
    assert plain_lines({"B": 'it\'s $HOME \\ "x"', "A": "1"}) == 'A=1\nB=it\'s $HOME \\ "x"\n'
    with pytest.raises(DeployError, match="KEY has more than one line"):
        plain_lines({"KEY": "-----BEGIN\n-----END"})


def test_the_examples_of_the_documentation_are_taken() -> None:
    text = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
    whole, compose, scaled = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert parse(whole).front is not None
    assert parse(whole + scaled).scaling is not None
    plain = re.sub(r"\[unit\].*?(?=\[front\])", "", whole, flags=re.DOTALL)
    made = parse(plain.replace('kind = "unit"', 'kind = "compose"', 1) + compose.partition("\n")[2])
    assert made.compose is not None
    assert "${PORT}:8080" in made.compose.file
