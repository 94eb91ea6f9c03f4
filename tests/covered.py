"""How much of what decides about security the tests reach, by packages: the end of `make coverage`.

    python -m tests.covered build/coverage/report.json

Counted are branches: each way out of each condition and loop. Status 1 when a package has less than BAR.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

BAR: Final = 95.0  # percent of the branches of each
PACKAGES: Final = ("proto", "access", "pki", "auth", "proxy", "agent")


class _Summary(msgspec.Struct):
    num_branches: int
    covered_branches: int


class _File(msgspec.Struct):
    summary: _Summary
    missing_branches: list[tuple[int, int]]


class _Report(msgspec.Struct):
    files: Mapping[str, _File]


class Reached(msgspec.Struct):
    """Attributes:
    missed: file → branches that no test takes, as "from->to" by lines; to the end of a function: "from->exit".
    """

    branches: int
    covered: int
    missed: dict[str, list[str]]

    @property
    def percent(self) -> float:
        return 100 * self.covered / self.branches if self.branches else 100.0


def by_package(report: bytes) -> Mapping[str, Reached]:
    """Read coverage.py's JSON report.

    Raises:
        ValueError: a package isn't in it, so nothing was measured.
    """
    found: dict[str, Reached] = defaultdict(lambda: Reached(0, 0, {}))
    for name, file in msgspec.json.decode(report, type=_Report).files.items():
        match Path(name).parts:
            case ("tport", "engine", package, *_) if package in PACKAGES:
                reached = found[package]
                reached.branches += file.summary.num_branches
                reached.covered += file.summary.covered_branches
                if file.missing_branches:
                    reached.missed[name] = [_way(*each) for each in file.missing_branches]
            case _:
                pass
    if lacking := set(PACKAGES) - found.keys():
        raise ValueError(f"nothing was measured of {', '.join(sorted(lacking))}")
    return {package: found[package] for package in PACKAGES}


def _way(line: int, to: int) -> str:
    return f"{line}->{to if to > 0 else 'exit'}"


def table(found: Mapping[str, Reached]) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| package | branches | reached by tests |", "|---|---:|---:|"]
    lines += [
        f"| `engine/{package}` | {each.branches:,} | {each.percent:.1f} % |"
        for package, each in found.items()
    ]
    return "\n".join(lines)


def main() -> int:
    found = by_package(Path(sys.argv[1]).read_bytes())
    missed = [item for each in found.values() for item in sorted(each.missed.items())]
    sys.stdout.writelines(f"{name}: {' '.join(ways)}\n" for name, ways in missed)
    sys.stdout.write(f"\n{table(found)}\n\n")
    below = [package for package, each in found.items() if each.percent < BAR]
    for package in below:
        sys.stderr.write(f"tport: coverage: engine/{package} is below {BAR:g} %\n")
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
