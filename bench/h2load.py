"""Requests at a pace, by h2load: what each took."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.door import Door, Failed
from bench.parts import program


@dataclass(frozen=True)
class Waits:
    """How long each answer took, in ms, sorted; from the sending of its request to its last byte."""

    each: tuple[float, ...]

    def percentile(self, part: float) -> float:
        """Return the time within which `part` of 100 had their answer: the nearest rank."""
        rank = max(1, -(-len(self.each) * part // 100))  # rounded up
        return self.each[int(rank) - 1]


def run(door: Door, *, rate: float, connections: int, seconds: float, folder: Path) -> Waits:
    """Ask for the page `rate` times a second, evenly: connections begin one after the other.

    Raises:
        Failed: not every answer was the page.
    """
    log = folder / "paced.log"
    log.unlink(missing_ok=True)
    each = rate / connections  # requests a second of one connection
    count = connections * max(1, round(each * seconds))
    done = subprocess.run(
        [
            program("h2load"),
            "--h1",
            "--threads=1",
            f"--clients={connections}",
            f"--requests={count}",
            f"--rps={each:g}",
            "--rate=1",
            f"--rate-period={max(1, round(1000 / rate))}ms",
            f"--log-file={log}",
            f"--connect-to=127.0.0.1:{door.port}",
            *(f"--header={header}" for header in door.headers),
            door.url(),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    lines = log.read_text().splitlines() if log.exists() else []
    waits = read_log(lines)
    if done.returncode or len(waits.each) != count:
        raise Failed(f"h2load: {len(waits.each)} of {count} answers\n{done.stdout}{done.stderr}")
    return waits


def read_log(lines: Sequence[str]) -> Waits:
    """Read h2load's log: start in us, status, time in us, parted by tabs; only 200 counts."""
    rows = (line.split("\t") for line in lines)
    return Waits(tuple(sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")))
