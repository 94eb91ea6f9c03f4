"""A session has so many requests under way and no more, whatever others have."""

from __future__ import annotations

import pytest

from tport.engine.proxy.shares import Shares


def test_a_session_has_its_share_and_others_theirs() -> None:
    shares = Shares(2)

    assert [shares.enter("a") for _ in range(3)] == [True, True, False]
    assert shares.enter("b")
    shares.leave("a")
    assert [shares.enter("a"), shares.enter("a")] == [True, False]


def test_of_a_session_that_has_nothing_under_way_nothing_is_kept() -> None:
    shares = Shares(2)
    for session in ("a", "a", "b"):
        assert shares.enter(session)
    for session in ("a", "b", "a"):
        shares.leave(session)

    assert len(shares) == 0
    with pytest.raises(KeyError):
        shares.leave("a")
