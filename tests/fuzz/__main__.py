"""Fuzz every target for its share of some minutes: what `make fuzz` runs.

    python -m tests.fuzz --minutes=10 [--keep] [TARGET ...]

Status 1, and a file to try again with, when a target broke a promise. What reached new code stays
in build/fuzz and is begun with next time. `--keep` puts the shortest of it into the corpus, from
where every run of the tests tries it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS, read_corpus

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz"
KEPT = 60  # inputs of a target in the corpus
LONGEST_KEPT = 300  # bytes of each
BROKEN = ("crash-*", "timeout-*", "oom-*", "slow-unit-*")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keep", action="store_true", help="take what was found into the corpus")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args()
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = options.targets or list(TARGETS)
    seconds = max(1, round(options.minutes * 60 / len(names)))
    broken = [name for name in names if not fuzz(name, seconds)]
    if options.keep:
        for name in names:
            keep(name)
    return 1 if broken else 0


def fuzz(name: str, seconds: int) -> bool:
    """Run one target, say what came of it, and tell whether it held."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    before = found(folder)
    log = folder / "log"
    with log.open("wb") as out:
        status = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.worker", name, str(seconds), str(folder)],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            check=False,
        ).returncode
    text = log.read_text("utf-8", "replace")
    runs = re.search(r"number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    say(
        f"{name}: {int(runs[1]) if runs else 0:,} inputs in {seconds} s"
        f"{f', {covered[-1]} places reached' if covered else ''}"
        f"{'' if status == 0 else f'; BROKEN, see {log.relative_to(ROOT)}'}"
    )
    for path in sorted(found(folder) - before):
        say(f"  try again: python -m tests.fuzz.worker {name} {path.relative_to(ROOT)}")
    return status == 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def found(folder: Path) -> set[Path]:
    return {path for pattern in BROKEN for path in folder.glob(pattern)}


def keep(name: str) -> None:
    """Fill the corpus up with the shortest of the inputs that together reach all that was reached."""
    folder = BUILD / name
    few = folder / "few"
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir()
    argv = [sys.executable, "-m", "tests.fuzz.worker", name, "merge", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        say(f"{name}: nothing kept: {done.stderr[-300:]}")
        return
    corpus = read_corpus(name)  # stays: some of it stands for what was broken once
    known = {*TARGETS[name].seeds, *corpus}
    found_now = {path.read_bytes() for path in few.iterdir()} - known
    shortest = sorted(found_now, key=lambda data: (len(data), data))
    corpus += [data for data in shortest if len(data) <= LONGEST_KEPT]
    lines = [data.hex() for data in corpus[:KEPT]]
    CORPUS.joinpath(f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
