"""The chain finds whatever was done to a log, and blames nobody for a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.audit import check as check_module
from tport.engine.audit.chain import (
    START,
    check_end,
    check_line,
    link_line,
    read_link,
    read_mark,
    write_mark,
)
from tport.engine.audit.check import check_directory
from tport.engine.audit.files import MARK
from tport.engine.types.chain import ChainState, Finding, Link

Files = list[list[bytes]]  # of each day its lines, without their newlines
LINES = [
    b'{"time":"2026-01-01T12:00:00.000Z","n":%d,"pad":"%s"}\n' % (n, b"x" * n) for n in range(9)
]


def write(lines: Sequence[bytes] = LINES) -> tuple[Files, Link]:
    """Return three days of a log, and its last link."""
    last, linked = START, []
    for line in lines:
        whole, last = link_line(line, last)
        linked.append(whole[:-1])
    return [linked[:4], linked[4:5], linked[5:]], last


def check(files: Files, mark: Link | None) -> list[Finding]:
    state = ChainState()
    found: list[Finding] = []
    for day, lines in enumerate(files, 1):
        for number, line in enumerate(lines, 1):
            found += check_line(state, line, f"2026-01-0{day}.jsonl:{number}")
    return found + check_end(state, mark, MARK, is_live=False)


def check_all(folder: Path) -> list[Finding]:
    state = ChainState()
    found: list[Finding] = []
    while True:
        report = check_directory(folder, state)
        found += report.findings
        if report.is_done:
            return found
        state = report.state


def faults(found: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(each.kind, each.where) for each in found if each.is_fault]


def where(number: int) -> str:
    """Return the place of the line of this number, from 0."""
    day, first = (1, 0) if number < 4 else (2, 4) if number < 5 else (3, 5)
    return f"2026-01-0{day}.jsonl:{number - first + 1}"


places = st.integers(0, len(LINES) - 1)


def pick(files: Files, number: int) -> tuple[list[bytes], int]:
    """Return the day that holds the line of this number, and its index there."""
    for lines in files:
        if number < len(lines):
            return lines, number
        number -= len(lines)
    raise IndexError(number)


def test_a_log_as_it_was_written_is_whole() -> None:
    files, last = write()

    assert check(files, last) == []
    assert json.loads(files[0][1])["seq"] == 2


def test_a_line_names_the_one_before_and_its_own_place() -> None:
    files, _ = write()
    first, second = files[0][:2]

    found, named = read_link(second) or (None, None)
    assert found is not None
    assert found.number == 2
    assert named == (read_link(first) or (Link(0, ""), ""))[0].hash
    assert read_link(first.replace(b'"seq":1', b'"seq":0')) is None


@given(number=places, data=st.data())
def test_any_byte_that_is_changed_is_found_at_its_line(number: int, data: st.DataObject) -> None:
    files, last = write()
    lines, index = pick(files, number)
    line = bytearray(lines[index])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255).filter(lambda flip: line[at] ^ flip != 10))
    lines[index] = bytes(line)

    found = faults(check(files, last))
    assert where(number) in [place for _, place in found] or ("missing", where(number)) in found


@given(number=places, data=st.data())
def test_a_line_broken_in_two_is_found(number: int, data: st.DataObject) -> None:
    files, last = write()
    lines, index = pick(files, number)
    at = data.draw(st.integers(1, len(lines[index]) - 1))
    lines[index : index + 1] = [lines[index][:at], lines[index][at:]]

    assert faults(check(files, last))


@given(number=places)
def test_a_line_that_is_dropped_is_missed(number: int) -> None:
    files, last = write()
    lines, index = pick(files, number)
    del lines[index]

    [(kind, _)] = faults(check(files, last))
    assert kind == "missing"


@given(number=places, to=places)
def test_a_line_that_is_written_twice_is_found(number: int, to: int) -> None:
    files, last = write()
    copy = pick(files, number)[0][pick(files, number)[1]]
    lines, index = pick(files, to)
    lines.insert(index + 1, copy)

    assert faults(check(files, last))


@given(order=st.permutations(range(len(LINES))))
def test_lines_in_another_order_are_found(order: list[int]) -> None:
    files, last = write()
    flat = [line for lines in files for line in lines]
    moved = [flat[n] for n in order]
    found = faults(check([moved[:4], moved[4:5], moved[5:]], last))

    assert bool(found) == (order != list(range(len(LINES))))


def test_the_end_cut_off_is_missed_by_the_mark_alone() -> None:
    files, last = write()
    del files[2][1:]

    assert faults(check(files, last)) == [("missing", f"the end ({MARK})")]

    [note] = check(files, None)
    assert (note.kind, note.is_fault) == ("unmarked", False)


def test_a_day_that_is_gone_is_missed_wherever_it_was() -> None:
    for day in range(3):
        files, last = write()
        files[day] = []
        assert [kind for kind, _ in faults(check(files, last))] == ["missing"], day


@pytest.mark.parametrize("at", [0, 3, 9])
def test_a_line_made_up_is_found(at: int) -> None:
    for made_up in (b'{"time":"2026-01-01T12:00:00.000Z","n":7}', b"{}", write()[0][0][0]):
        files, last = write()
        flat = [line for lines in files for line in lines]
        flat.insert(at, made_up)
        found = check([flat[:4], flat[4:5], flat[5:]], last)
        assert [each.kind for each in found if each.is_fault] == ["added"] or (
            at == 0 and [each.kind for each in found] in (["unchained"], ["added"])
        ), "before the first line of the chain anything may have stood: it is said so"


def test_a_line_with_its_number_made_to_fit_is_found() -> None:
    """Somebody takes a line's place, and knows how the chain is made."""
    files, last = write()
    previous = read_link(files[0][1])
    assert previous is not None
    files[0].insert(2, link_line(LINES[8], previous[0])[0][:-1])

    assert {place for _, place in faults(check(files, last))} >= {where(2)}


@given(data=st.data(), number=places)
def test_a_line_torn_by_a_crash_is_no_fault(data: st.DataObject, number: int) -> None:
    """The writer goes on behind it, from the last whole line; whether it was the last of all or not."""
    files, last = write()
    lines, index = pick(files, number)
    torn = lines[index][: data.draw(st.integers(1, len(lines[index]) - 1))]
    lines.insert(index, torn)

    found = check(files, last)
    assert faults(found) == []
    kinds = {each.kind for each in found}
    assert kinds == ({"torn"} if number else set()), (
        "before the first line of all it is as old files are"
    )


def test_a_crash_between_a_line_and_its_mark_is_no_fault() -> None:
    files, _ = write()
    behind = read_link(files[2][1])
    assert behind is not None

    [note] = check(files, behind[0])
    assert (note.kind, note.is_fault) == ("ahead", False)


def test_lines_older_than_the_chain_are_said_to_be_so() -> None:
    files, last = write()
    files[0][:0] = [line[:-1] for line in LINES[:3]] + [b'{"torn":']

    [note] = check(files, last)
    assert (note.kind, note.where) == ("unchained", "2026-01-01.jsonl:5")
    assert note.text.startswith("3 lines")


def test_what_retention_removed_is_no_fault_and_what_it_did_not_is() -> None:
    told = b'{"time":"2026-01-01T12:00:00.000Z","event":"audit.removed","through":4}\n'
    files, last = write([*LINES, told])
    files[0] = []

    [note] = check(files, last)
    assert (note.kind, note.is_fault) == ("begins", False)

    files[1] = []
    assert [kind for kind, _ in faults(check(files, last))] == ["missing"]


def test_a_check_in_parts_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, last = write()
    files[0][2] = files[0][2].replace(b"xx", b"xy")
    files[2][1] = files[2][1].replace(b"xx", b"xy")
    whole = check(files, last)
    for day, lines in enumerate(files, 1):
        data = b"".join(line + b"\n" for line in lines)
        (tmp_path / f"2026-01-0{day}.jsonl").write_bytes(data)
    (tmp_path / MARK).write_bytes(write_mark(last))
    assert check_all(tmp_path) == whole
    monkeypatch.setattr(check_module, "LOOK_AT_CLOCK", 1)
    monkeypatch.setattr(check_module, "PART_TIME", -1.0)

    assert check_all(tmp_path) == whole
    assert [place for _, place in faults(whole)] == [where(2), where(6)]


def test_a_mark_is_read_back_and_garbage_is_none() -> None:
    last = write()[1]
    assert read_mark(write_mark(last)) == last
    assert read_mark(b"garbage") is None
    assert read_mark(b"\xff" * 86) is None
