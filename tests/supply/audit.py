"""Ask what is known against the releases that the locks name: `make audit`.

    python -m tests.supply.audit [--strict] [LOCK ...]

pip-audit asks OSV, and PyPI where OSV can't be had. A service that knows nothing looks like one that
has nothing against us: a mirror of PyPI answers "not found", and pip-audit passes over that in peace.
So each is asked about a release with a known hole first, and believed only if it names that.

Status 1 when something is known; 0 when nothing is, or when no service can be had, which is said on
stderr. With --strict, for a release, that is status 2.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

import msgspec

from tests.supply.pins import LOCKS, Pin, read_lock

# CVE-2025-43859, of 2025: no service that keeps up has forgotten it.
PROBE: Final = Pin(name="h11", version="0.14.0", marker="", hashes=())
OSV: Final = ("--vulnerability-service=osv",)
PYPI: Final = ("--vulnerability-service=pypi",)

# What reaches people or makes what they get. Applications that tests open see nobody but tests.
AUDITED: Final = (LOCKS / "tport.txt", LOCKS / "build.txt", LOCKS / "dev.txt", LOCKS / "fuzz.txt")

PATIENCE: Final = 15  # s for an answer; pip-audit's own default, said here since CI waits for it
LONGEST: Final = 600  # s for all answers: some 120 at one a time


class Known(msgspec.Struct, frozen=True):
    """Something known against a release.

    Attributes:
    fixed: the releases that mend it; none: not mended yet.
    """

    name: str
    version: str
    id: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}: {self.id}, mended in {', '.join(self.fixed) or 'none'}"


class NoAnswer(Exception):
    """The service can't be had, or doesn't know what it should."""


class _Vulnerability(msgspec.Struct):
    id: str
    fix_versions: tuple[str, ...]


class _Dependency(msgspec.Struct):
    name: str
    version: str = ""
    vulns: tuple[_Vulnerability, ...] = ()
    skip_reason: str = ""


class _Report(msgspec.Struct):
    dependencies: tuple[_Dependency, ...]


def ask(service: Sequence[str], pins: Sequence[Pin]) -> Sequence[Known]:
    """Return what this service knows against these releases.

    Args:
        service: pip-audit's flags that choose it.

    Raises:
        NoAnswer: for one of them, at least.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "requirements.txt"
        asked.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in pins))
        flags = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
        command = [sys.executable, "-m", "pip_audit", *service, *flags, f"--timeout={PATIENCE}"]
        # A cache of its own: no answer of yesterday's.
        command += [f"--cache-dir={folder}/cache", f"--requirement={asked}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LONGEST, check=False
            )
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"no answer within {LONGEST} s") from None
    return read_report(done.stdout, done.stderr)


def read_report(stdout: str, stderr: str) -> Sequence[Known]:
    """Return what a run of pip-audit knows.

    Raises:
        NoAnswer: it broke off, or passed over a release.
    """
    try:
        report = msgspec.json.decode(stdout, type=_Report)
    except msgspec.DecodeError:
        raise NoAnswer((stderr.strip() or "no answer").splitlines()[-1]) from None
    for each in report.dependencies:
        if each.skip_reason:
            raise NoAnswer(each.skip_reason)
    return [
        Known(each.name, each.version, vulnerability.id, vulnerability.fix_versions)
        for each in report.dependencies
        for vulnerability in each.vulns
    ]


def audit(services: Sequence[Sequence[str]], pins: Sequence[Pin], say: TextIO) -> bool | None:
    """Ask the first service that can be believed; say what it knows.

    Returns:
        Whether nothing is known against these releases; None: nobody could be asked.
    """
    for service in services:
        try:
            if not ask(service, [PROBE]):
                raise NoAnswer(f"it doesn't know that {PROBE.name} {PROBE.version} has a hole")
            known = ask(service, pins)
        except NoAnswer as problem:
            print(f"tport: audit: no use of {' '.join(service)}: {problem}", file=say)
            continue
        for each in known:
            print(f"tport: audit: {each}", file=say)
        print(f"tport: audit: {len(pins)} releases, {len(known)} advisories", file=say)
        return not known
    line = "*" * 78
    print(
        f"{line}\ntport: audit: NOT DONE: no service of advisories can be had from here."
        f"\nWhat the locks name was not looked at. `make audit` where there is one.\n{line}",
        file=say,
    )
    return None


def every_pin(locks: Sequence[Path]) -> Sequence[Pin]:
    """Return the releases that the locks name, each once, whatever machine they are for."""
    pins = {(pin.name, pin.version): pin for lock in locks for pin in read_lock(lock)}
    return [pins[key] for key in sorted(pins)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.supply.audit")
    parser.add_argument("--strict", action="store_true", help="fail when nobody can be asked")
    parser.add_argument("--osv-url", help="ask this OSV service alone")
    parser.add_argument("locks", nargs="*", type=Path, metavar="LOCK", default=AUDITED)
    options = parser.parse_args()
    own = (*OSV, f"--osv-url={options.osv_url}")
    services = [own] if options.osv_url else [OSV, PYPI]
    is_clean = audit(services, every_pin(options.locks), sys.stderr)
    if is_clean is None:
        return 2 if options.strict else 0
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
