"""The chain of an audit log: each line holds the hash of the line before it. Pure.

    {"time":…,"event":…,"seq":41,"prev":"<SHA-256 of line 40, without its newline>"}

A mark beside the files names the last line. Whoever changes, removes, adds or moves a line would
have to write every later line anew, and the mark; copies kept elsewhere then still differ.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from tport.engine.types.chain import ChainState, Finding, Link

START: Final = Link(0, "0" * 64)  # what the first line names
NAMES: Final = frozenset({"seq", "prev"})  # fields that no event may bring itself
MAX_LOOSE: Final = 1000  # lines without a link that wait for the next with one
REMOVED: Final = "audit.removed"  # the event that tells what retention removed

# At the very end, behind a comma and closed at once: no value of another field can look like it.
_LINK = re.compile(rb',"seq":([1-9][0-9]{0,17}),"prev":"([0-9a-f]{64})"\}')
_LINK_SIZE: Final = len(b',"seq":,"prev":""}') + 18 + 64
_MARK = re.compile(r"([0-9]{20}) ([0-9a-f]{64})\n")


def link_line(line: bytes, last: Link) -> tuple[bytes, Link]:
    """Return a line of JSON (an object, with its newline) with its place in the chain, and its link."""
    body = b'%s,"seq":%d,"prev":"%s"}' % (line[:-2], last.number + 1, last.hash.encode())
    return body + b"\n", Link(last.number + 1, hashlib.sha256(body).hexdigest())


def read_link(line: bytes) -> tuple[Link, str] | None:
    """Return a line's own link and the hash it names; None: it has no place in a chain."""
    found = _LINK.search(line, max(0, len(line) - _LINK_SIZE))
    if found is None or found.end() != len(line):
        return None
    return Link(int(found[1]), hashlib.sha256(line).hexdigest()), found[2].decode()


def write_mark(link: Link) -> bytes:
    """Return the mark's file: always of one size, so that a new one lies exactly over the old."""
    return f"{link.number:020d} {link.hash}\n".encode()


def read_mark(data: bytes) -> Link | None:
    found = _MARK.fullmatch(data.decode("ascii", "replace"))
    return Link(int(found[1]), found[2]) if found else None


def check_line(state: ChainState, line: bytes, where: str) -> list[Finding]:
    """Take the next line, without its newline, and return what is to be said now."""
    found = read_link(line)
    if found is None:
        return _loose(state, line, where)
    link, named = found
    last = state.last
    if REMOVED.encode() in line:
        state.removed = max(state.removed, _through(line))
    if last is None:
        return _first(state, link, named, where)
    if link.number <= last.number:
        text = f"line {link.number} of the chain stands behind line {last.number}"
        return [Finding(kind="added", where=where, text=f"{text}: moved, copied or made up")]
    findings = _between(state, link.number - last.number - 1, where)
    if link.number == last.number + 1 and named != last.hash:
        findings.append(
            Finding(
                kind="changed",
                where=state.last_where,
                text=f"is not the line that was written: the next one ({where}) knows another",
            )
        )
    _accept(state, link, where)
    return findings


def check_end(state: ChainState, mark: Link | None, where: str, *, is_live: bool) -> list[Finding]:
    """Say what the end of the log is to be blamed for.

    Args:
        mark: the last line that was written; None: nobody knows.
        where: the mark's place.
        is_live: the mark is the writer's own: nothing may stand behind it.
    """
    if mark is None or mark.number == 0:
        findings = _settle(state, 0)
        if state.last is not None:
            text = "there is no mark: lines missing at the end would not be noticed"
            findings.append(Finding(kind="unmarked", where=where, text=text))
        return findings + _beginning(state)
    last = state.last or START
    findings = _between(state, max(0, mark.number - last.number), f"the end ({where})")
    if mark.number == last.number and mark.hash != last.hash:
        text = f"is not the line that was written: the mark ({where}) knows another"
        findings.append(Finding(kind="changed", where=state.last_where, text=text))
    if mark.number < last.number:
        text = f"{last.number - mark.number} lines stand behind the last that was marked"
        more = "" if is_live else ", as after a crash; if there was none, they were added"
        findings.append(
            Finding(kind="added" if is_live else "ahead", where=state.last_where, text=text + more)
        )
    return findings + _beginning(state)


def _loose(state: ChainState, line: bytes, where: str) -> list[Finding]:
    is_json = _is_json(line)
    if len(state.loose) >= MAX_LOOSE:
        return [Finding(kind="added", where=where, text="has no place in the chain")]
    if state.last is None and is_json:
        state.unchained += 1
    state.loose.append((where, is_json))
    if state.last is None and len(state.loose) == MAX_LOOSE:
        state.loose.clear()  # all of them from before there was a chain
    return []


def _first(state: ChainState, link: Link, named: str, where: str) -> list[Finding]:
    findings = []
    if state.unchained:
        text = (
            f"{state.unchained} lines before this one are older than the chain: none can be judged"
        )
        findings.append(Finding(kind="unchained", where=where, text=text))
    if link.number == 1 and named != START.hash:
        text = "is the first line and names another before it"
        findings.append(Finding(kind="changed", where=where, text=text))
    gap = link.number - 1
    state.first = link.number
    if gap and state.is_whole and state.loose:  # the last of these are lines that were spoilt
        state.loose = state.loose[-gap:]
        findings += _between(state, gap, where)
        state.first = 1
    state.loose.clear()
    _accept(state, link, where)
    return findings


def _accept(state: ChainState, link: Link, where: str) -> None:
    state.last, state.last_where = link, where
    state.lines += 1


def _between(state: ChainState, gap: int, where: str) -> list[Finding]:
    """Judge what stands where `gap` lines of the chain should be, before `where`."""
    findings = _settle(state, gap)
    gap -= sum(finding.kind == "changed" for finding in findings)
    if gap > 0:
        first = (state.last or START).number + 1
        which = "a line is" if gap == 1 else f"{gap} lines are"
        text = f"{which} missing before here: number {first} of the chain and what follows"
        findings.append(Finding(kind="missing", where=where, text=text))
    return findings


def _settle(state: ChainState, gap: int) -> list[Finding]:
    """Judge lines that hold no link: `gap` of them may be lines of the chain that were spoilt."""
    findings = []
    for where, is_json in state.loose:
        if state.last is None and not gap:
            continue  # older than the chain
        if gap > 0:
            gap -= 1
            text = "is not the line that was written: it does not name the one before it"
            findings.append(Finding(kind="changed", where=where, text=text))
        elif is_json:
            text = "has no place in the chain: it was added"
            findings.append(Finding(kind="added", where=where, text=text))
        else:
            text = "ends in the middle, as after a crash; no line of the chain is missing by it"
            findings.append(Finding(kind="torn", where=where, text=text))
    state.loose.clear()
    return findings


def _beginning(state: ChainState) -> list[Finding]:
    """Say whether the chain begins where it may: with line 1, or behind what retention removed."""
    if state.first <= 1:
        return []
    where = f"before number {state.first} of the chain"
    if not state.is_whole:
        text = "earlier lines were not asked for"
        return [Finding(kind="begins", where=where, text=text)]
    if state.removed >= state.first - 1:
        text = "earlier lines were removed by retention, as the log says"
        return [Finding(kind="begins", where=where, text=text)]
    text = f"{state.first - 1} lines are missing at the beginning, and no retention removed them"
    return [Finding(kind="missing", where=where, text=text)]


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _through(line: bytes) -> int:
    """Return up to which line of the chain an event says that retention removed; 0: it says nothing."""
    try:
        event = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    if not isinstance(event, dict) or event.get("event") != REMOVED:
        return 0
    through = event.get("through")
    return through if isinstance(through, int) else 0
