"""R-11, R-39: a disk that is slow, a database that is held, a log that takes nothing: who waits for it, and how long."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import date

import pytest
import trio

from tests.figures import BUSY, Hold
from tests.stack import Person, open_stack
from tport.engine.audit.log import AuditLog
from tport.engine.errors import Unavailable

LAG = 0.05  # s that anything in the loop may wait longer for a database that is slow
SLOW = 0.5  # s that the disk takes each time, where it is slow
STALL = 1.5  # s that each write to a log takes: less than what `record` waits
OFTEN = [pytest.mark.torture, pytest.mark.timeout(300)]


class Lags:
    """How late the loop is, looked at each 5 ms, by what was going on."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        self._now: list[float] = []

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        self._now = self._seen.setdefault(what, [])
        yield
        self._now = []

    def p90(self, what: str) -> float:
        return percentile(self._seen[what], 90)

    def p99(self, what: str) -> float:
        return percentile(self._seen[what], 99)

    async def look(self) -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            self._now.append(trio.current_time() - due)


@asynccontextmanager
async def looking() -> AsyncIterator[Lags]:
    lags = Lags()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lags.look)
        yield lags
        nursery.cancel_scope.cancel()


def percentile(values: Sequence[float], share: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


async def asked(person: Person, until: trio.Event) -> int:
    """Ask until told to stop; return how many requests were answered, all of them well."""
    number = 0
    while not until.is_set():
        assert (await person.get("echo", f"/{number}")).status == 200
        number += 1
    return number


@pytest.mark.parametrize("held", [5.0, pytest.param(30.0, marks=OFTEN)])
async def test_r_11_a_database_that_another_program_holds_refuses_changes_in_time_and_serves_reads(
    hold: Hold, held: float
) -> None:
    """R-11: writes wait 5 s at most, requests and lists not at all, and nothing waits for the loop."""
    async with open_stack() as stack, looking() as lags:
        alice = await stack.user("alice")
        await alice.get("echo")
        path = stack.running.config.data_dir / "auth" / "tport.db"
        with lags.during("well"):
            for number in range(50):
                await alice.get("echo", f"/well/{number}")
        waits: list[float] = []
        said = set[str]()
        over = trio.Event()
        answered = 0

        async def change() -> None:
            number = 0
            until = trio.current_time() + held
            while trio.current_time() < until:
                began = trio.current_time()
                with pytest.raises(Unavailable) as refused:
                    await stack.admin.create_user(name=f"u{number}", roles=("access",), traits={})
                waits.append(trio.current_time() - began)
                said.add(str(refused.value))
                number += 1
            over.set()

        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            await trio.to_thread.run_sync(other.execute, "BEGIN IMMEDIATE")
            with lags.during("held"):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(change)
                    answered = await asked(alice, over)
                    assert [u.user.name for u in await stack.admin.list_users()] == ["alice"]
            other.execute("ROLLBACK")
        await stack.admin.create_user(name="later", roles=("access",), traits={})

    assert answered > 10
    # Where the machine halts, storage may have waited its 5 s before SQLite gives up after 4.
    assert all("held by another program" in why or "didn't confirm" in why for why in said)
    if held > 10:
        assert any("held by another program" in why for why in said)
        hold("R-11 change refused while the database is held", max(waits), "s", at_most=6)
        more = lags.p99("held") - lags.p99("well")
        hold("R-11 loop lag p99, more while it is held", max(0, more), "s", at_most=LAG)
    assert max(waits) < 5 + BUSY


async def test_r_11_a_disk_that_takes_half_a_second_slows_changes_alone(
    hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-11: 500 ms for each time that data must be durable. What waits for it is not the loop.

    The bar is half of what a loop that waited would be late by, nine times of ten: on a busy machine
    it is late by itself, now and then.
    """
    durable = os.fdatasync
    loop, where = threading.get_ident(), set[int]()

    def slow(fd: int) -> None:
        where.add(threading.get_ident())
        time.sleep(SLOW)
        durable(fd)

    async with open_stack() as stack, looking() as lags:
        alice = await stack.user("alice")
        await alice.get("echo")
        with lags.during("well"):
            for number in range(50):
                await alice.get("echo", f"/well/{number}")
        monkeypatch.setattr(os, "fdatasync", slow)
        over = trio.Event()

        async def change() -> None:
            for number in range(3):
                await stack.admin.create_user(name=f"u{number}", roles=("access",), traits={})
            over.set()

        with lags.during("slow"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(change)
                assert await asked(alice, over) > 10
        monkeypatch.setattr(os, "fdatasync", durable)

    assert where
    assert loop not in where
    more = lags.p90("slow") - lags.p90("well")
    at_most = SLOW / 2 / BUSY  # half of it on a busy machine too: no more than that can be seen
    hold("R-11 loop lag p90, more with a disk of 500 ms", max(0, more), "s", at_most=at_most)


class SlowLog:
    """Has every write to a log take STALL seconds, in its thread, while `is_slow`; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_slow = False
        self.stalled = 0
        self._over = threading.Event()
        append = AuditLog._append

        def slow(log: AuditLog, day: date, lines: Sequence[bytes]) -> None:
            if self.is_slow:
                self.stalled += 1
                self._over.wait(STALL)
            append(log, day, lines)

        monkeypatch.setattr(AuditLog, "_append", slow)

    def end(self) -> None:
        self._over.set()


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=OFTEN)])
async def test_ops_02_a_log_that_stalls_holds_up_no_request(
    hold: Hold, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """R-39: requests by turns with logs that take 1.5 s a write, and with quick ones."""
    slow = SlowLog(monkeypatch)
    times: dict[bool, list[float]] = {False: [], True: []}
    async with open_stack() as stack:
        alice = await stack.user("alice")
        await alice.get("echo")
        for turn in range(2 * rounds):
            slow.is_slow = bool(turn % 2)
            stalled, number = slow.stalled, 0
            # On a quick machine all of them would come within a stall of the turn before.
            while number < 50 or (slow.is_slow and slow.stalled == stalled):
                began = trio.current_time()
                assert (await alice.get("echo", f"/{turn}/{number}")).status == 200
                times[slow.is_slow].append(trio.current_time() - began)
                if number % 10 == 0:
                    await stack.auth.cluster.emit("tunnel.up")
                number += 1
        slow.is_slow = False
        slow.end()
        await stack.requests(path=f"/{2 * rounds - 1}/49")

    assert slow.stalled >= rounds
    if rounds > 2:
        ratio = percentile(times[True], 99) / percentile(times[False], 99)
        hold("R-39 p99 of requests while logs stall, by that without", ratio, "x", at_most=1.5)
    else:  # a few requests on a busy machine: all that can be said is that they don't wait for a log
        slowest = percentile(times[True], 90)
        hold("R-39 p90 of requests while logs stall", slowest, "s", at_most=STALL / 2 / BUSY)
