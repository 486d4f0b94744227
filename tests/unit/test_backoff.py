"""Waiting longer after each failure, however many there were."""

from __future__ import annotations

import pytest

from appliance.core.backoff import backoff


@pytest.mark.parametrize(("failures", "reached"), [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (6, 10.0), (5000, 10.0)])
def test_doubles_up_to_its_bound(failures: int, reached: float) -> None:
    waits = [backoff(failures, 0.5, 10.0) for _ in range(200)]
    assert all(reached / 2 <= wait <= reached for wait in waits)
    assert len(set(waits)) > 100, "spread, so that many do not come back at once"
