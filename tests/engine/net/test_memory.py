"""When memory runs short, strangers wait their turn and idle connections go, before the kernel kills."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tport.engine.net.memory import keep_within_memory, memory_usage
from tport.engine.net.seats import Room, Seats, closed_by

MIB = 1024 * 1024
ROOM = Room(connections=500, per_address=500, strangers=500, strangers_per_address=500)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_it_is_told_by_the_group_of_this_process_without_what_the_kernel_can_drop(
    tmp_path: Path,
) -> None:
    """R-30, by cgroup v2."""
    own = tmp_path / "own"
    own.write_text("0::/system.slice/tport.service\n")
    folder = tmp_path / "system.slice" / "tport.service"
    write(folder, memory_max=f"{512 * MIB}\n", memory_current=f"{500 * MIB}\n")
    write(folder, memory_stat=f"anon 1\ninactive_file {244 * MIB}\nactive_file 7\n")

    usage = memory_usage(tmp_path, own)

    assert usage is not None
    assert usage() == 0.5


def test_a_container_may_see_its_own_group_as_the_root(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:cpu:/x\n4:memory:/docker/1234\n0::/\n")
    folder = tmp_path / "memory"
    write(folder, memory_stat="total_inactive_file 0\n")
    (folder / "memory.limit_in_bytes").write_text(f"{100 * MIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{90 * MIB}\n")

    usage = memory_usage(tmp_path, own)

    assert usage is not None
    assert usage() == 0.9


@pytest.mark.parametrize("limit", ["max\n", f"{2**63 - 4096}\n", "0\n", ""])
def test_where_there_is_no_limit_nobody_tells(tmp_path: Path, limit: str) -> None:
    own = tmp_path / "own"
    own.write_text("0::/\n4:memory:/\n")
    write(tmp_path, memory_max=limit)

    assert memory_usage(tmp_path, own) is None
    assert memory_usage(tmp_path, tmp_path / "nothing") is None


async def test_tight_memory_takes_no_more_strangers_and_full_memory_ends_who_rests(
    autojump_clock: MockClock,
) -> None:
    """R-30: at 85 and at 95 %."""
    part = 0.5
    ended = 0

    def end() -> None:
        nonlocal ended
        ended += 1

    def come(*, known: bool = False) -> bool:
        if (seat := seats.take("192.0.2.1")) is None:
            return False
        seat.end_if_resting = closed_by(end)
        if known:
            seat.recognise()
        return True

    seats = Seats(ROOM)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_within_memory, seats, lambda: part)
        await trio.sleep(1.5)
        assert come()
        assert all(come(known=True) for _ in range(20))

        part = 0.9
        await trio.sleep(2)
        assert come()
        assert (ended, len(seats)) == (1, 21)

        part = 0.96
        await trio.sleep(2)
        assert (ended, len(seats)) == (22, 0)
        assert not come()
        assert seats.shed == {"resting": 22, "memory": 1}

        part = 0.5
        await trio.sleep(2)
        assert come()
        nursery.cancel_scope.cancel()
