"""Which tests go to one worker together, and which begin first.

A module stays together: its own servers and appliances are started once, not once for each worker. So do all tests that want
Kafka, for each idle broker takes 4 % of a processor, and three of them three times that.
"""

from __future__ import annotations

import re

import pytest

KAFKA = ("kafka_and_proxy", "running_cluster")
"""The brokers that tests share, by their fixtures; the worker ends each as soon as the last test that wants it is over."""
FIRST = (
    "lab", "kafka", "screens_test_pages", "vpn_test_service", "screens_test_memory", "serial", "deploy_test_faults",
    "chaos_test_chaos", "screens_test_fleet", "vpn_test_explain", "deploy_test_rollback", "fleet_test_monitor",
    "deploy_test_strategies", "fleet_test_jump", "screens_test_streams", "vpn_test_faults", "screens_test_conflicts",
    "fleet_test_links", "backup", "llm_test_verbs", "screens_test_sources", "fleet_test_files", "screens_test_analytics",
    "deploy_test_identity", "screens_test_power", "vpn_test_tunnel", "inference_test_tasks_sound", "deploy_test_leftover",
    "screens_test_models", "vpn_test_otherside", "deploy_test_neighbours",
)  # fmt: skip
"""What takes longest, so that nothing long is left for the end: by turns what mostly waits and what keeps a processor busy."""


def arrange(items: list[pytest.Item], *, sort: bool) -> None:
    """Give each test its group, and let those of FIRST begin where workers share the run."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))
    if sort:
        items.sort(key=_rank)


def last_users(items: list[pytest.Item]) -> dict[str, pytest.Item]:
    """The last test that wants each of KAFKA."""
    return {name: item for item in items for name in KAFKA if name in _wanted(item)}


def _group(item: pytest.Item) -> str:
    if item.get_closest_marker("serial") is not None:
        return "serial"
    if item.nodeid.startswith("tests/lab/"):
        return "lab"
    if any(name in _wanted(item) for name in KAFKA):
        return "kafka"
    return re.sub(r"\W", "_", item.nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py"))


def _wanted(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def _rank(item: pytest.Item) -> tuple[int, bool]:
    mark = item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark is not None else ""
    return FIRST.index(group) if group in FIRST else len(FIRST), "running_cluster" not in _wanted(item)
