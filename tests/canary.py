"""Secrets that are known again wherever they turn up: in a log, a command line, an application's request.

What is made at random in a test has a mark in its middle (tests/marked/sitecustomize.py): cookies, codes,
links, tokens, recovery codes, keys. The password that people choose is known anyhow. So one expression finds
them, as they are and as they are usually written: percent-encoded, in Base64, in hex. Private keys and JWTs
are known by their form.

Who looks: tests/conftest.py (all that is logged), tests/stack.py (files, error pages, what applications are
sent), tests/e2e/harness.py (files, output, arguments and environments of processes).
"""

from __future__ import annotations

import base64
import logging
import re
import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec

from tests.marked.sitecustomize import MARK

PASSWORD: Final = "a walrus paints nine doors"

# Where secrets may lie: each is its owner's alone (0600), and what it holds is hashed or sealed or has to
# be there.
KEPT: Final = frozenset({"admin.pem", "agent.json", "factors.key"})
_DATABASE: Final = ".db"  # and what SQLite puts beside it


class Found(msgspec.Struct, frozen=True):
    """Attributes:
    where: a file, or whose command line, environment or request.
    line: of it, from 1.
    """

    kind: str
    where: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: {self.kind}: {self.text.strip()[:300]}"


class SecretLeakedError(AssertionError):
    def __init__(self, found: Sequence[Found]) -> None:
        super().__init__("\n".join(map(str, found)))
        self.found = found


def found_in(text: str, where: str) -> Iterator[Found]:
    """Yield each line in which a secret stands."""
    if _ANY.search(text) is None:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if match := _ANY.search(line):
            yield Found(str(match.lastgroup), where, number, line)


def found_in_files(folder: Path, *, but: Collection[str] = ()) -> Iterator[Found]:
    """Yield what stands in the files below a folder, but for those that are there to keep secrets.

    Args:
        but: names of further files that a test knows to hold some.
    """
    for path in sorted(folder.rglob("*")):
        if path.name in KEPT or path.name in but or _DATABASE in path.name:
            continue
        try:
            text = path.read_bytes().decode("latin-1") if path.is_file() else ""
        except OSError:
            continue  # gone since
        yield from found_in(text, str(path))


def found_in_processes(pids: Iterable[int]) -> Iterator[Found]:
    """Yield what stands in command lines and environments of these, where /proc tells them.

    A shell stands for somebody's terminal: what is pasted there is in nobody's command line.
    """
    for pid in pids:
        for what in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{pid}/{what}").read_bytes().decode("latin-1")
            except OSError:
                continue  # ended, or another system
            if what == "cmdline" and Path(text.partition("\0")[0]).name in ("sh", "bash", "dash"):
                continue
            yield from found_in(text.replace("\0", "\n"), f"{what} of process {pid}")


class LogWatch(logging.Handler):
    """Looks at each record, and remembers where in the source one with a secret came from."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[Found] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            text += "".join(traceback.format_exception(*record.exc_info))
        if match := _ANY.search(text):
            found = Found(str(match.lastgroup), record.pathname, record.lineno, text)
            self.found.append(found)

    def take(self) -> list[Found]:
        """Return what was found since the last call."""
        found, self.found = self.found, []
        return found


# How a secret is written.


def _in_base64(secret: bytes) -> Iterator[str]:
    """Yield what Base64 makes of it for certain, wherever in a text it begins."""
    for before in range(3):
        low, high = (
            base64.b64encode(bytes([filler]) * before + secret + bytes([filler]) * 3).decode()
            for filler in (0, 255)
        )
        certain = "".join(a for a, b in zip(low, high, strict=True) if a == b).rstrip("=")
        yield certain
        yield certain.translate(str.maketrans("+/", "-_"))


def _spelled(text: str) -> Iterator[str]:
    """Yield a text, and what becomes of it in addresses, headers and dumps."""
    yield from (text, quote(text), quote_plus(text), text.encode().hex())
    yield from _in_base64(text.encode())


def _marks() -> Iterator[str]:
    """Yield how random bytes with the mark are written; the shortest of them have 5 bytes of it."""
    yield from _spelled(base64.b64encode(MARK[:9]).decode())
    yield from _spelled(MARK[:9].hex())
    yield from _spelled(base64.b32encode(MARK[:10]).decode())
    yield from (MARK[:9].decode("latin-1"), repr(MARK[:9])[2:-1])


_SHORT = base64.b32encode(MARK[:5]).decode()  # as recovery codes end: xxxx-xxxx
_ANY: Final = re.compile(
    "|".join(
        f"(?P<{kind}>{expression})"
        for kind, expression in {
            "password": "|".join(map(re.escape, dict.fromkeys(_spelled(PASSWORD)))),
            "secret": "|".join(map(re.escape, dict.fromkeys(_marks()))),
            "recovery_code": f"(?i:{_SHORT[:4]}[- ]?{_SHORT[4:]})",
            "private_key": "PRIVATE KEY-----",
            "jwt": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{20,}",
        }.items()
    )
)
