"""The fleet's answers as text, all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.verbs import fleet_files, fleet_follow, fleet_status, render

FORMS: Mapping[str, render.Form] = MappingProxyType({**fleet_files.FORMS, **fleet_status.FORMS, **fleet_follow.FORMS})
NOTHING: Mapping[str, str] = MappingProxyType({**fleet_files.NOTHING})
