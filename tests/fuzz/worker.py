"""One target for so many seconds; or one input, to see what it does.

    python -m tests.fuzz.worker TARGET SECONDS FOLDER
    python -m tests.fuzz.worker TARGET merge FOLDER
    python -m tests.fuzz.worker TARGET FILE

With atheris, inputs that reach new code are kept in FOLDER and made into others. Without it (it
has no wheel for every Python) hypothesis draws them, and nothing is learnt from one for the next.
`merge`: FOLDER/few becomes the few of them that reach all that was reached.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

LONGEST_RUN = 10  # s for one input; all of them should take less than a thousandth
AGAIN = """#!/bin/sh
exec '{python}' -m tests.fuzz.worker '{name}' again '{folder}' "$@"
"""


def main(name: str, what: str, folder: str = "", *flags: str) -> None:
    if not folder:
        from tests.fuzz.targets import TARGETS

        TARGETS[name].run(Path(what).read_bytes())
        return
    try:
        import atheris
    except ImportError:
        if what == "merge":
            sys.exit("without atheris nothing is found that could be kept")
        draw(name, float(what))
        return
    with atheris.instrument_imports(include=["tport", "h11", "tests"]):
        from tests.fuzz.targets import LONGEST, TARGETS
    target, place = TARGETS[name], Path(folder)
    inputs, words, again = place / "inputs", place / "words", place / "again"
    if what != "again":
        inputs.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(target.inputs(name)):
            inputs.joinpath(f"given-{number}").write_bytes(data)
        quoted = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words]
        words.write_text("".join(f'"{word}"\n' for word in quoted))
        # libFuzzer calls itself to merge, as a program without arguments of its own.
        again.write_text(AGAIN.format(python=sys.executable, name=name, folder=folder))
        again.chmod(0o755)
        folders = [str(place / "few")] if what == "merge" else []
        flags = (
            "-merge=1" if what == "merge" else f"-max_total_time={what}",
            f"-max_len={LONGEST}",
            f"-timeout={LONGEST_RUN}",
            f"-dict={words}",
            f"-artifact_prefix={place}/",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            *folders,
            str(inputs),
        )
    atheris.Setup([str(again), *flags], target.run)
    atheris.Fuzz()  # which ends the process


def draw(name: str, seconds: float) -> None:
    """Let hypothesis draw inputs until the time is over."""
    from hypothesis import given, settings

    from tests.fuzz.targets import TARGETS
    from tests.fuzz.test_targets import like

    target, until, count = TARGETS[name], time.monotonic() + seconds, 0

    @settings(max_examples=1000, deadline=None, database=None)
    @given(like(target, name))
    def hold(data: bytes) -> None:
        nonlocal count
        count += 1
        target.run(data)

    while time.monotonic() < until:
        hold()
    sys.stderr.write(f"stat::number_of_executed_units: {count}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
