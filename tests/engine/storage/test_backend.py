"""What every backend promises. Each test runs against each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.engine.storage.queued import receive_all
from tests.fakes import START, WallClock
from tport.engine.errors import (
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    TportError,
)
from tport.engine.storage.backend import (
    BATCH_LIMIT,
    KEY_LIMIT,
    VALUE_LIMIT,
    Backend,
    Check,
    CompareAndSwap,
    Create,
    Delete,
    Deleted,
    Item,
    Operation,
    Put,
    WatchLost,
)
from tport.engine.storage.watch import QUEUE

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


async def test_what_was_written_is_read_back_with_its_revision(backend: Backend) -> None:
    item = Item("/tokens/a", b"\0\xff", expires=START + MINUTE)

    written = await backend.create(item)

    assert written == replace(item, revision=written.revision)
    assert written.revision > 0
    assert await backend.get("/tokens/a") == written


async def test_what_was_never_written_or_is_deleted_is_not_found(backend: Backend) -> None:
    await backend.create(Item("/a", b"1"))
    await backend.delete("/a")

    for key in ("/a", "/b"):
        with pytest.raises(NotFound):
            await backend.get(key)
        with pytest.raises(NotFound):
            await backend.delete(key)
        with pytest.raises(NotFound):
            await backend.delete(key, revision=1)


async def test_create_never_overwrites_and_put_always_does(backend: Backend) -> None:
    await backend.create(Item("/a", b"1"))

    with pytest.raises(AlreadyExists):
        await backend.create(Item("/a", b"2"))
    assert (await backend.get("/a")).value == b"1"

    await backend.put(Item("/a", b"3"))
    assert (await backend.get("/a")).value == b"3"


async def test_of_two_writers_of_one_revision_the_second_fails(backend: Backend) -> None:
    read = await backend.create(Item("/tokens/a", b"1"))

    await backend.compare_and_swap(replace(read, value=b"2"))
    with pytest.raises(CompareFailed):
        await backend.compare_and_swap(replace(read, value=b"3"))

    assert (await backend.get("/tokens/a")).value == b"2"


async def test_of_fifty_writers_at_once_of_one_revision_one_wins(backend: Backend) -> None:
    """Also when they share a transaction: each learns its own outcome."""
    read = await backend.create(Item("/counter", b"start"))
    won: list[int] = []
    lost: list[int] = []

    async def swap(number: int) -> None:
        try:
            await backend.compare_and_swap(replace(read, value=b"%d" % number))
            won.append(number)
        except CompareFailed:
            lost.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(swap, number)

    assert (len(won), len(lost)) == (1, 49)
    assert (await backend.get("/counter")).value == b"%d" % won[0]


async def test_what_is_gone_cannot_be_swapped(backend: Backend) -> None:
    read = await backend.create(Item("/a", b"1"))
    await backend.delete("/a", revision=read.revision)

    with pytest.raises(CompareFailed):
        await backend.compare_and_swap(replace(read, value=b"2"))


async def test_delete_with_a_revision_spares_what_changed(backend: Backend) -> None:
    read = await backend.create(Item("/a", b"1"))
    await backend.put(Item("/a", b"2"))

    with pytest.raises(CompareFailed):
        await backend.delete("/a", revision=read.revision)

    assert (await backend.get("/a")).value == b"2"


async def test_revisions_only_rise_over_all_keys_and_deletions(backend: Backend) -> None:
    async with backend.watch("/") as changes:
        first = await backend.create(Item("/b", b""))
        second = await backend.put(Item("/a", b""))
        await backend.delete("/b")
        third = await backend.create(Item("/b", b""))
        received = await receive_all(changes)

    assert isinstance(received[2], Deleted)
    assert first.revision < second.revision < received[2].revision < third.revision


async def test_a_range_is_what_starts_with_the_prefix_in_key_order(backend: Backend) -> None:
    for key in (
        "/apps/b",
        "/apps/é",
        "/apps/a/x",
        "/apps/a",
        "/apps",
        "/appstore",
        "/apps/\U0001f600",
    ):
        await backend.put(Item(key, b""))

    keys = [item.key for item in await backend.range("/apps/")]

    assert keys == ["/apps/a", "/apps/a/x", "/apps/b", "/apps/é", "/apps/\U0001f600"]
    assert [item.key for item in await backend.range("/apps/", limit=2)] == keys[:2]
    assert await backend.range("/nothing/") == []


async def test_percent_underscore_and_nul_in_a_prefix_mean_themselves(backend: Backend) -> None:
    for key in ("/%a", "/_a", "/xa", "/\0a"):
        await backend.put(Item(key, b""))

    for prefix in ("/%", "/_", "/\0"):
        assert [item.key for item in await backend.range(prefix)] == [f"{prefix}a"]


async def test_an_item_is_gone_the_moment_it_expires(backend: Backend, clock: WallClock) -> None:
    item = await backend.create(Item("/tokens/a", b"1", expires=START + MINUTE))

    clock.now = START + MINUTE - timedelta(microseconds=1)
    assert await backend.get("/tokens/a") == item
    clock.now = START + MINUTE

    with pytest.raises(NotFound):
        await backend.get("/tokens/a")
    with pytest.raises(NotFound):
        await backend.delete("/tokens/a")
    with pytest.raises(CompareFailed):
        await backend.compare_and_swap(replace(item, value=b"2"))
    with pytest.raises(CompareFailed):
        await backend.batch([Check("/tokens/a", item.revision)])
    assert await backend.range("/tokens/") == []


async def test_expired_items_take_no_place_in_a_limit(backend: Backend, clock: WallClock) -> None:
    await backend.create(Item("/a", b"", expires=START + MINUTE))
    await backend.create(Item("/b", b""))

    clock.now += MINUTE

    assert [item.key for item in await backend.range("/", limit=1)] == ["/b"]


async def test_an_expired_key_is_free_again(backend: Backend, clock: WallClock) -> None:
    await backend.create(Item("/a", b"1", expires=START + MINUTE))
    clock.now += MINUTE

    await backend.create(Item("/a", b"2", expires=START + 2 * MINUTE))

    assert (await backend.get("/a")).value == b"2"


async def test_a_sweep_deletes_what_expired_and_tells_watchers(
    backend: Backend, clock: WallClock
) -> None:
    for number in range(BATCH_LIMIT + 1):  # more than one batch
        await backend.create(Item(f"/short/{number}", b"", expires=START + MINUTE))
    kept = await backend.create(Item("/short/kept", b"", expires=START + 2 * MINUTE))
    clock.now += MINUTE

    async with backend.watch("/short/") as changes:
        assert await backend.sweep() == BATCH_LIMIT + 1
        received = await receive_all(changes)

    assert {type(change) for change in received} == {Deleted}
    assert {change.key for change in received} == {f"/short/{n}" for n in range(BATCH_LIMIT + 1)}
    assert await backend.sweep() == 0

    clock.now = START  # a clock that is set back finds nothing of it again
    assert await backend.range("/") == [kept]


async def test_a_batch_happens_whole(backend: Backend) -> None:
    old = await backend.create(Item("/old", b"1"))
    seen = await backend.create(Item("/seen", b"1"))

    created, put, swapped, deleted, checked, absent = await backend.batch(
        [
            Create(Item("/new", b"2")),
            Put(Item("/put", b"2")),
            CompareAndSwap(replace(old, value=b"2")),
            Delete("/seen", seen.revision),
            Check("/nothing", 0),
            Check("/nothing/either", 0),
        ]
    )

    assert (deleted, checked, absent) == (None, None, None)
    assert await backend.range("/") == [created, swapped, put]
    assert {item.revision for item in (created, put, swapped) if item} == {seen.revision + 1}


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (Create(Item("/taken", b"")), AlreadyExists),
        (CompareAndSwap(Item("/taken", b"", revision=99)), CompareFailed),
        (Delete("/missing"), NotFound),
        (Delete("/taken", revision=99), CompareFailed),
        (Check("/taken", 99), CompareFailed),
        (Check("/taken", 0), CompareFailed),
        (Check("/missing", 1), CompareFailed),
    ],
)
async def test_a_batch_that_fails_at_its_end_did_nothing(
    backend: Backend, last: Operation, error: type[TportError]
) -> None:
    taken = await backend.create(Item("/taken", b"1"))
    doomed = await backend.create(Item("/doomed", b"1"))

    async with backend.watch("/") as changes:
        with pytest.raises(error):
            await backend.batch([Create(Item("/new", b"")), Delete("/doomed"), last])
        assert await receive_all(changes) == []

    assert await backend.range("/") == [doomed, taken]
    assert (await backend.create(Item("/next", b""))).revision == doomed.revision + 1


@pytest.mark.parametrize(
    "operations",
    [
        [Create(Item("no-slash", b""))],
        [Create(Item("", b""))],
        [Create(Item("/\ud800", b""))],
        [Create(Item("/" + "k" * KEY_LIMIT, b""))],
        [Create(Item("/" + "é" * (KEY_LIMIT // 2), b""))],
        [Create(Item("/a", bytes(VALUE_LIMIT + 1)))],
        [Create(Item("/a", b"", expires=datetime(2026, 1, 1)))],
        [Put(Item("/a", b"", expires=datetime(9999, 12, 31, tzinfo=timezone(-HOUR))))],
        [Put(Item("/a", b"", expires=datetime(1, 1, 1, tzinfo=timezone(HOUR))))],
        [Put(Item("/a", b"")), Delete("/a")],
        [Put(Item(f"/{number}", b"")) for number in range(BATCH_LIMIT + 1)],
    ],
    ids=[
        "no slash",
        "empty",
        "surrogate",
        "long",
        "long in bytes",
        "value",
        "naive",
        "late",
        "early",
        "twice",
        "many",
    ],
)
async def test_what_is_outside_the_limits_is_refused(
    backend: Backend, operations: Sequence[Operation]
) -> None:
    with pytest.raises(InvalidRequest):
        await backend.batch(operations)

    assert await backend.range("/") == []


async def test_what_is_just_within_the_limits_is_taken(backend: Backend) -> None:
    long = Item("/" + "k" * (KEY_LIMIT - 1), bytes(VALUE_LIMIT))

    await backend.batch(
        [Put(long), *(Put(Item(f"/{number}", b"")) for number in range(BATCH_LIMIT - 1))]
    )

    assert (await backend.get(long.key)).value == long.value
    assert await backend.batch([]) == []


async def test_a_watcher_hears_every_change_under_its_prefix_in_order(backend: Backend) -> None:
    await backend.create(Item("/apps/before", b""))

    async with backend.watch("/apps/") as changes:
        first = await backend.create(Item("/apps/a", b"1"))
        await backend.create(Item("/users/a", b""))
        second = await backend.put(Item("/apps/a", b"2"))
        await backend.delete("/apps/a")

        assert await receive_all(changes) == [
            Put(first),
            Put(second),
            Deleted("/apps/a", second.revision + 1),
        ]


async def test_a_watcher_that_lags_too_far_is_told_and_holds_nobody_up(backend: Backend) -> None:
    async with backend.watch("/") as slow, backend.watch("/") as quick:
        for start in range(0, QUEUE + BATCH_LIMIT, BATCH_LIMIT):
            puts = [Put(Item(f"/{start + number}", b"")) for number in range(BATCH_LIMIT)]
            await backend.batch(puts)
            assert len(await receive_all(quick)) == BATCH_LIMIT

        for _ in range(QUEUE):
            await slow.receive()
        with pytest.raises(WatchLost, match="fell behind"):
            await slow.receive()

        await backend.put(Item("/after", b""))
        assert len(await receive_all(quick)) == 1


async def test_a_reader_that_left_its_watch_disturbs_nobody(backend: Backend) -> None:
    async with backend.watch("/") as changes:
        await changes.aclose()
        await backend.put(Item("/a", b""))


async def test_a_write_cancelled_before_its_turn_leaves_the_queue_working(
    backend: Backend,
) -> None:
    """Whatever the moment of the cancellation, a batch is done whole or not at all."""
    for number in range(20):
        operations = [Put(Item(f"/{number}/{part}", b"")) for part in ("a", "b")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.batch, operations)
            if number % 2:
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert len(await backend.range(f"/{number}/")) in (0, 2)

    await backend.create(Item("/after", b""))
