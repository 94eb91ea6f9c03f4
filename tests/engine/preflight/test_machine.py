from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.fakes import START
from tport.engine.preflight.machine import Folder, judge_clock, judge_folder

GOOD = Folder(path="/srv/tport", owner="tport", me="tport", free=2**40, filesystem="ext4")


@pytest.mark.parametrize(
    ("off", "verdict", "words"),
    [
        (0, "ok", "agrees with that of ca.test"),
        (29, "ok", "agrees"),
        (-31, "problem", "31 s behind that of ca.test"),
        (3600, "problem", "3600 s ahead of that of ca.test"),
    ],
)
def test_a_clock_that_is_off_by_more_than_a_code_lives_is_wrong(
    off: int, verdict: str, words: str
) -> None:
    row = judge_clock(START, START + timedelta(seconds=off), "ca.test")

    assert row.verdict == verdict
    assert words in row.found
    assert ("timedatectl" in row.advice) == (verdict == "problem")


def test_a_clock_that_nobody_confirms_is_not_called_right() -> None:
    assert judge_clock(None, START, "").verdict == "unknown"


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ({}, "ok", "/srv/tport, of tport"),
        ({"parent": "/srv"}, "ok", "/srv/tport will be made"),
        ({"parent": "/srv", "closed": "/srv"}, "problem", "tport may not make it in /srv"),
        ({"parent": "/srv/tport", "is_folder": False}, "problem", "/srv/tport is a file"),
        (
            {"closed": "/srv/tport/auth", "closed_by": "root"},
            "problem",
            "/srv/tport/auth belongs to root, and tport may not",
        ),
        ({"refused": "it is alice's", "advice": "chown"}, "problem", "it is alice's"),
        ({"note": "its group may write"}, "unknown", "its group may write"),
        ({"owner": "root"}, "ok", "of root"),
        ({"me": "root"}, "ok", "of tport"),
    ],
)
def test_a_folder_must_be_ones_own(change: dict[str, object], verdict: str, words: str) -> None:
    place = judge_folder(replace(GOOD, **change))[0]

    assert place.verdict == verdict
    assert words in place.found
    assert bool(place.advice) == (verdict == "problem")


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (  # as root somebody ran tport there once
            {"closed": "/srv/tport/auth", "closed_by": "root"},
            "sudo chown -R tport /srv/tport/auth",
        ),
        (
            {"me": "alice", "closed": "/srv/tport/auth", "closed_by": "root"},
            "sudo chown -R tport /srv/tport/auth",
        ),
        (
            {"me": "alice", "closed": "/srv/tport", "closed_by": "tport"},
            "run this as tport: sudo -u tport tport …; or sudo chown -R alice /srv/tport",
        ),
        (  # never that one folder of a service alone: it would refuse to start
            {"me": "alice", "closed": "/srv/tport/auth", "closed_by": "tport"},
            "run this as tport: sudo -u tport tport …; or sudo chown -R alice /srv/tport",
        ),
        (
            {"closed": "/srv/tport", "closed_by": "tport"},
            "chmod u+rwx /srv/tport; if its disk is mounted read-only, name another folder: data_dir",
        ),
    ],
)
def test_who_may_not_write_is_told_who_may(change: dict[str, object], advice: str) -> None:
    assert judge_folder(replace(GOOD, **change))[0].advice == advice


@pytest.mark.parametrize(
    ("free", "verdict"), [(2**40, "ok"), (500 * 2**20, "unknown"), (50 * 2**20, "problem")]
)
def test_there_must_be_room(free: int, verdict: str) -> None:
    assert judge_folder(replace(GOOD, free=free))[-1].verdict == verdict


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_database_does_not_belong_on_a_network(kind: str) -> None:
    rows = {row.check: row for row in judge_folder(replace(GOOD, filesystem=kind))}

    assert rows["data filesystem"].verdict == "problem"
    assert "data filesystem" not in {row.check for row in judge_folder(GOOD)}
