"""Which answers count against the API, and which against what it was asked about."""

from __future__ import annotations

import pytest

from appliance.api.problems import status_of
from appliance.core.lifecycle.backup.faults import DamagedBackupError, TargetAwayError, WrongKeyError
from appliance.errors import ApplianceError, BackupError, DamagedError, UpdateError


@pytest.mark.parametrize("kind", [BackupError, DamagedBackupError, TargetAwayError, WrongKeyError, UpdateError])
def test_a_backup_or_a_bundle_that_is_no_good_is_no_fault_of_the_api(kind: type[ApplianceError]) -> None:
    assert status_of(kind("It is no good.", "use another one.")) == 424


def test_a_damaged_store_of_its_own_is() -> None:
    assert status_of(DamagedError("The database is damaged.", "restore a backup.")) >= 500
