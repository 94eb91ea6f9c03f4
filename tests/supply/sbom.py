"""The list of parts of tport, as CycloneDX 1.6 in JSON: `make sbom`.

    python -m tests.supply.sbom OUTPUT

cyclonedx-py reads what is installed here: versions, licenses, and who needs what. Kept is what tport's own
lock names, without the tools of its tests; added are the hashes of each release's files. The same commit gives the same bytes: SOURCE_DATE_EPOCH is its time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from tests.supply.pins import LOCKS, ROOT, Pin, read_lock
from tport import __version__

_INDEX: Final = "https://pypi.org/project"


def installed() -> dict[str, Any]:
    """Return cyclonedx-py's document about this environment, with tport as its root."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
    flags = [
        f"--pyproject={ROOT / 'pyproject.toml'}",
        "--output-reproducible",
        "--spec-version=1.6",
    ]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def parts_of_tport(found: Mapping[str, Any], pins: Sequence[Pin], version: str) -> dict[str, Any]:
    """Return the document with what the lock names alone, and with hashes.

    Raises:
        ValueError: what is installed isn't what the lock names.
    """
    root = {**found["metadata"]["component"], "version": version}
    root["purl"] = f"pkg:pypi/{root['name']}@{version}"
    by_name = {str(canonicalize_name(each["name"])): each for each in found["components"]}
    components = [
        _with_hashes(by_name.get(pin.name, {}), pin) for pin in pins if pin.is_for_this_python
    ]
    kept = {root["bom-ref"], *(each["bom-ref"] for each in components)}
    return {
        **found,
        "metadata": {**found["metadata"], "component": root},
        "components": components,
        "dependencies": [
            _among(kept, each) for each in found["dependencies"] if each["ref"] in kept
        ],
    }


def _among(kept: Set[str], dependency: Mapping[str, Any]) -> dict[str, Any]:
    """Without what would serve options of a part that nobody chose."""
    needs = [ref for ref in dependency.get("dependsOn", ()) if ref in kept]
    return {"ref": dependency["ref"], **({"dependsOn": needs} if needs else {})}


def _with_hashes(component: Mapping[str, Any], pin: Pin) -> dict[str, Any]:
    if (here := component.get("version")) != pin.version:
        raise ValueError(f"{pin.name} {pin.version} is locked, and {here or 'none'} installed")
    files = {
        "type": "distribution",
        "url": f"{_INDEX}/{pin.name}/{pin.version}/",
        "comment": "SHA-256 of each file of this release",
        "hashes": [
            {"alg": "SHA-256", "content": each.removeprefix("sha256:")} for each in pin.hashes
        ],
    }
    return {**component, "externalReferences": [*component.get("externalReferences", ()), files]}


def main() -> None:
    parts = parts_of_tport(installed(), read_lock(LOCKS / "tport.txt"), __version__)
    Path(sys.argv[1]).write_text(json.dumps(parts, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
