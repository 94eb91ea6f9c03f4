"""What is sent through: exactly so many bytes, never the same piece twice."""

from __future__ import annotations

import pytest

from tport.engine.selftest.payload import BLOCK, checksum, pieces


@pytest.mark.parametrize("size", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3])
def test_there_are_exactly_so_many_bytes_and_each_time_the_same(size: int) -> None:
    found = list(pieces(size))

    assert sum(map(len, found)) == size
    assert max(map(len, found)) <= BLOCK
    assert checksum(found) == checksum(pieces(size))


def test_no_two_pieces_are_the_same_so_that_one_lost_or_doubled_is_noticed() -> None:
    found = list(pieces(100 * BLOCK))

    assert len(set(found)) == 100
    assert checksum([*found[:5], *found[6:]]) != checksum(found)
    assert checksum([found[1], found[0], *found[2:]]) != checksum(found)
