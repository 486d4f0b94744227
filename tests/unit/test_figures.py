"""Percentiles."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from appliance.core.figures import percentile


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
