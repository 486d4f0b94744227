"""The list of the software in an image (SBOM, CycloneDX): packages of Debian by debsbom; Python packages and models added."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import sys
import tomllib
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from imagekit import layout
from imagekit.errors import BuildError
from imagekit.plan import Plan
from imagekit.shell import run, step

SITE_PACKAGES = "opt/prime-spark/lib/python3*/site-packages"
MODELS = "usr/share/prime-spark/models"


def write(plan: Plan, root: Path) -> Path:
    """Write the list for a root into the release directory. Raises BuildError."""
    if importlib.util.find_spec("debsbom") is None:
        raise BuildError("debsbom is not installed.", "scripts/setup.sh image, or: pip install -r requirements/image.txt")
    target = plan.out / f"{plan.name}.cdx.json"
    at = dt.datetime.fromtimestamp(plan.epoch, dt.UTC).isoformat()
    with step(f"listing the software ({target})"):
        run(
            sys.executable, "-m", "debsbom", "generate", "-t", "cdx", "-r", root, "-o",
            target.with_suffix("").with_suffix(""), "--timestamp", at,
            "--cdx-serialnumber", str(layout.identity(plan.name)), "--distro-name", "prime-spark", "--distro-version",
            plan.version,
            "--distro-arch", plan.arch, "--cdx-schema-version", "1.6",
        )  # fmt: skip
        found = json.loads(target.read_text())
        found["components"] += python_packages(root) + models(root)
        target.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return target


def python_packages(root: Path) -> list[dict[str, Any]]:
    """The Python packages that the appliance brings, as components."""
    heads = [
        HeaderParser().parsestr(file.read_text(errors="replace")) for file in root.glob(f"{SITE_PACKAGES}/*.dist-info/METADATA")
    ]
    return sorted((component(head) for head in heads), key=lambda each: str(each["bom-ref"]))


def component(head: Message) -> dict[str, Any]:
    """One Python package as a component, from its metadata."""
    name, version = head["Name"], head["Version"]
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    found: dict[str, Any] = {"bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl}
    said = head.get("License-Expression")
    if said:
        return {**found, "licenses": [{"expression": said}]}
    names = sorted({each.rpartition(" :: ")[2] for each in head.get_all("Classifier", []) if each.startswith("License ::")})
    return {**found, "licenses": [{"license": {"name": each}} for each in names]} if names else found


def models(root: Path) -> list[dict[str, Any]]:
    """The models that come with the appliance, as components with the hashes that their manifests name."""
    found = []
    for file in sorted([*(root / MODELS).rglob("manifest.toml"), *(root / MODELS).rglob("voice.toml")]):
        said = tomllib.loads(file.read_text())
        name, version = file.parent.name, str(said.get("version", ""))
        one: dict[str, Any] = {"bom-ref": f"model:{name}", "type": "machine-learning-model", "name": name}
        if version:
            one["version"] = version
        if "licence" in said:
            one["licenses"] = [{"license": {"name": str(said["licence"])}}]
        if "source" in said:
            one["description"] = str(said["source"])
        found.append(one)
    return found
