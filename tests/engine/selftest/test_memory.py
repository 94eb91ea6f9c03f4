"""The peak memory of a process counts from when one begins to watch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tport.engine.selftest.figures import MIB
from tport.engine.selftest.memory import MemoryWatch

# Takes 200 MiB and gives it back, and says so; once before a line is read, and once after.
GREEDY = """
import sys
for _ in range(2):
    taken = b"x" * (200 << 20)
    del taken
    print("done", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def greedy() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", GREEDY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells it in /proc")
def test_a_peak_is_seen_though_it_is_over_and_an_earlier_one_is_not(
    greedy: subprocess.Popen[str],
) -> None:
    assert greedy.stdin is not None
    next_line(greedy)

    watch = MemoryWatch(greedy.pid)
    before = watch.grown()
    greedy.stdin.write("\n")
    greedy.stdin.flush()
    next_line(greedy)
    after = watch.grown()

    assert before is not None
    assert before < 50 * MIB
    assert after is not None
    assert 190 * MIB < after < 260 * MIB


def test_of_a_process_that_is_none_nothing_is_known(greedy: subprocess.Popen[str]) -> None:
    next_line(greedy)
    watch = MemoryWatch(greedy.pid)
    greedy.kill()
    greedy.wait()

    assert watch.grown() is None
    assert MemoryWatch(2**22 + os.getpid()).grown() is None  # above the largest process id
