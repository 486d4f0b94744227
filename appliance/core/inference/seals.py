"""Files of models are held against their hashes each time that a device loads them, not only when they come."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from appliance.core.inference import manifest as manifests
from appliance.core.inference.manifest import Manifest
from appliance.core.inference.model import DeviceReading, ModelVersion
from appliance.core.model import Device
from appliance.core.ports import Accelerator, AcceleratorModel

KEPT = 256
"""Directories whose manifest is remembered; the manifest on the disk counts for the others."""


class Seals:
    """What the files in a directory must be. For any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Path, str], Manifest] = OrderedDict()
        self._lock = threading.Lock()

    def expect(self, version: ModelVersion) -> None:
        """From now on the version's files must be those of this manifest."""
        with self._lock:
            for kind in {file.kind for file in version.manifest.files}:
                place = (Path(version.directory), kind)
                self._known[place] = version.manifest
                self._known.move_to_end(place)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)

    def check(self, path: str, kind: str) -> None:
        """Hash a model's file and what goes with it; blocks. Raises ModelError where it is another one."""
        directory = Path(path).parent
        with self._lock:
            known = self._known.get((directory, kind))
        manifests.verify(known if known is not None else manifests.load(directory), directory, kind)


class Sealed:
    """An accelerator that loads nothing but what the manifest names (implements ports.Accelerator).

    Args:
        inner: The driver.
        seals: What files must be.
    """

    def __init__(self, inner: Accelerator, seals: Seals) -> None:
        self._inner = inner
        self._seals = seals
        self.name, self.backend, self.kind = inner.name, inner.backend, inner.kind

    def detect(self) -> Device:
        """See ports.Accelerator."""
        return self._inner.detect()

    def load(self, path: str) -> AcceleratorModel:
        """See ports.Accelerator; raises ModelError too where the file is another one than it was."""
        self._seals.check(path, self.kind)
        return self._inner.load(path)

    def reading(self) -> DeviceReading:
        """See ports.Accelerator."""
        return self._inner.reading()

    def reset(self) -> None:
        """See ports.Accelerator."""
        self._inner.reset()

    def close(self) -> None:
        """See ports.Accelerator."""
        self._inner.close()
