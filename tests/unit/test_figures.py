"""Percentiles, and numbers of things in words."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from appliance.core.catalog.services import brief_status
from appliance.core.figures import counted, percentile
from appliance.core.model import AlertState, AlertStatus, Severity


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ([52, 214], 0.5, 52),
        ([214, 52], 0.95, 214),
        ([7], 0.99, 7),
        (list(range(1, 101)), 0.95, 95),
        ([3, 1, 2], 0, 1),
        ([3, 1, 2], 1, 3),
    ],
)
def test_percentiles_are_values_that_were_seen(values: Collection[float], share: float, found: float) -> None:
    assert percentile(values, share) == found


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1)])
def test_there_is_none_of_nothing(values: Collection[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_one_thing_is_not_told_as_many() -> None:
    assert [counted(count, "alert") for count in (0, 1, 2)] == ["0 alerts", "1 alert", "2 alerts"]
    alert = AlertStatus("cpu:host", "cpu", "host", Severity.warning, AlertState.firing, "")
    status = {"alerts": {"value": (alert,)}, "services": {"value": ()}, "host": {"value": None}}
    assert brief_status(status).split(" | ")[1] == "1 alert"
