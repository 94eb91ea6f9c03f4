"""Checking a log's chain, part by part: each part takes a moment, and says where the next begins.

For a thread: it reads files. What is judged, and how, is `chain`'s.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from tport.engine.audit.chain import check_end, check_line, read_mark
from tport.engine.audit.files import MARK, list_days
from tport.engine.types.chain import ChainReport, ChainState, Finding, Link

PART_TIME: Final = 2.0  # s of reading in one part
LOOK_AT_CLOCK: Final = 256  # lines between two looks at the clock
MAX_FINDINGS: Final = 500  # of one part, after which it ends


def check_files(directory: Path, state: ChainState) -> tuple[list[Finding], bool]:
    """Check on from where `state` stands, and move it; return what was found, and whether all was read."""
    findings: list[Finding] = []
    until = time.monotonic() + PART_TIME
    for name in list_days(directory):
        if name < state.file:
            continue
        if name > state.file:
            state.file, state.offset, state.line = name, 0, 0
        try:
            file = (directory / name).open("rb")
        except FileNotFoundError:
            continue  # retention was quicker
        with file:
            file.seek(state.offset)
            for line in file:
                state.offset += len(line)
                state.line += 1
                findings += check_line(state, line.rstrip(b"\n"), f"{name}:{state.line}")
                if len(findings) >= MAX_FINDINGS:
                    return findings, False
                if state.line % LOOK_AT_CLOCK == 0 and time.monotonic() > until:
                    return findings, False
    return findings, True


def finish(directory: Path, state: ChainState, mark: Link | None) -> ChainReport:
    """Read what came meanwhile, and judge the end by the writer's own knowledge of it."""
    findings, is_all = check_files(directory, state)
    if is_all:
        findings += check_end(state, mark, MARK, is_live=True)
    return ChainReport(findings=tuple(findings), state=state, is_done=is_all)


def check_directory(directory: Path, state: ChainState) -> ChainReport:
    """Check a part of a copy, or of a log that nobody writes now, by the mark beside its files.

    Raises:
        OSError: it can't be read.
    """
    findings, is_all = check_files(directory, state)
    if is_all:
        mark = None
        if (directory / MARK).exists():
            mark = read_mark((directory / MARK).read_bytes())
        findings += check_end(state, mark, MARK, is_live=False)
    return ChainReport(findings=tuple(findings), state=state, is_done=is_all)
