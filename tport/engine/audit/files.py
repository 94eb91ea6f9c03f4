"""The files of a log, by their names and read line by line: forwards, or from the end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import BinaryIO, Final

MARK: Final = "last-line"  # the file that names the last line; see `chain`
BLOCK: Final = 64 * 1024  # bytes read at a time, from the end backwards

_MIXED: Final = ".mixed"  # what a file beside a day's ends in, when there are earlier days in it
_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.jsonl")


def name_of(day: date) -> str:
    return f"{day.isoformat()}.jsonl"


def day_of(name: str) -> date:
    """Return the day of a file; one that is none in the calendar counts as the first."""
    try:
        return date.fromisoformat(name.removesuffix(".jsonl"))
    except ValueError:
        return date.min


def list_days(directory: Path) -> list[str]:
    """Return the names of a log's files, the oldest first; they sort as their days do."""
    try:
        return sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []


def mark_mixed(directory: Path, name: str) -> None:
    """Write down that a file holds lines of days before its own, as after the clock was ahead."""
    with suppress(FileExistsError):
        (directory / name).with_suffix(_MIXED).touch(mode=0o600, exist_ok=False)


def is_mixed(directory: Path, name: str) -> bool:
    return (directory / name).with_suffix(_MIXED).exists()


def remove_day(directory: Path, name: str) -> None:
    for path in (directory / name, (directory / name).with_suffix(_MIXED)):
        path.unlink(missing_ok=True)


def lines_backwards(file: BinaryIO, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield each line before the byte `end` (None: all), the last first, with where it begins."""
    position, rest = file.seek(0, os.SEEK_END), b""
    position = position if end is None else min(end, position)
    while position > 0:
        start = max(0, position - BLOCK)
        file.seek(start)
        data = file.read(position - start) + rest
        stop = len(data)
        while (cut := data.rfind(b"\n", 0, stop)) >= 0:
            yield start + cut + 1, data[cut + 1 : stop]
            stop = cut
        rest, position = data[:stop], start
    yield 0, rest
