"""The locks as values: which release of which package, and the hashes of its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
LOCKS: Final = ROOT / "locks"

_HASH: Final = re.compile(r"--hash=(\S+)")


class Pin(msgspec.Struct, frozen=True):
    """Attributes:
    name: normalized as indexes do, "ruamel-yaml".
    marker: where it is installed, "" for everywhere.
    hashes: of each of its files, "sha256:…".
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def is_for_this_python(self) -> bool:
        requirement = Requirement(f"{self.name}; {self.marker}" if self.marker else self.name)
        return requirement.marker is None or requirement.marker.evaluate()


def read_lock(path: Path) -> Sequence[Pin]:
    """Return the pins of a lock, in its order.

    Raises:
        ValueError: a line names no single release.
    """
    text = re.sub(r"(?m)^\s*#.*\n?", "", path.read_text("utf-8")).replace("\\\n", " ")
    return [_pin(line) for line in text.splitlines() if line.strip()]


def _pin(line: str) -> Pin:
    requirement = Requirement(line.partition(" --hash=")[0])
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==":
        raise ValueError(f"no pin: {line}")
    return Pin(
        name=canonicalize_name(requirement.name),
        version=specifiers[0].version,
        marker=str(requirement.marker or ""),
        hashes=tuple(_HASH.findall(line)),
    )
