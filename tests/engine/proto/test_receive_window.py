"""How much a yamux stream may receive: credit comes back as it is read, and windows grow within a budget."""

from __future__ import annotations

from tport.engine.defaults import INITIAL_WINDOW, MAX_WINDOW
from tport.engine.proto.receive_window import (
    NEAR,
    NEAR_GROWTH,
    QUIET,
    ReceiveWindow,
    WindowBudget,
)


def read_half(window: ReceiveWindow, *, now: float, rtt: float | None = 0.1) -> int:
    """Let half the window arrive and be read piece by piece; return the credit granted."""
    granted = 0
    half = window.size // 2
    window.credit -= half
    for _ in range(8):
        window.arrived(half // 8)
        if window.consume(half // 8):
            granted += window.grant(now=now, rtt=rtt)
    return granted


def test_credit_comes_back_once_half_the_window_is_read() -> None:
    window = ReceiveWindow(WindowBudget(), now=0)
    window.credit -= INITIAL_WINDOW
    window.arrived(INITIAL_WINDOW)

    assert not window.consume(INITIAL_WINDOW // 2 - 1)
    assert window.consume(1)
    assert window.grant(now=9, rtt=0.1) == INITIAL_WINDOW // 2
    assert window.credit == INITIAL_WINDOW // 2


def test_a_window_doubles_up_to_16_mib_while_its_half_is_read_within_a_round_trip() -> None:
    budget = WindowBudget()
    window = ReceiveWindow(budget, now=0)

    sizes = []
    for step in range(1, 9):
        read_half(window, now=step * 0.09)
        sizes.append(window.size // INITIAL_WINDOW)

    assert sizes == [2, 4, 8, 16, 32, 64, 64, 64]
    assert window.size == window.credit == MAX_WINDOW
    full = budget.left
    window.release()
    window.release()
    assert budget.left == full + MAX_WINDOW - INITIAL_WINDOW


def test_a_window_does_not_grow_for_a_line_that_needs_no_larger_one() -> None:
    window = ReceiveWindow(WindowBudget(), now=0)

    read_half(window, now=0.2, rtt=0.1)
    read_half(window, now=0.21, rtt=None)
    read_half(window, now=0.2101, rtt=0.0005)
    read_half(window, now=9, rtt=0.0005)

    assert window.size == INITIAL_WINDOW


def test_on_a_short_line_a_window_grows_to_a_mib_while_nobody_else_asks() -> None:
    budget = WindowBudget()
    window, other = ReceiveWindow(budget, now=0), ReceiveWindow(budget, now=0)

    sizes = []
    for step in range(4):
        read_half(window, now=9 + step * NEAR, rtt=0.0001)
        sizes.append(window.size // INITIAL_WINDOW)
    assert sizes == [1, 2, 4, 4]
    assert window.size == window.credit

    read_half(other, now=9.1, rtt=0.0001)
    read_half(other, now=9.1 + NEAR, rtt=0.0001)
    assert other.size == INITIAL_WINDOW  # a process gives no more than that
    window.release()
    window.release()
    read_half(other, now=9.1 + 2 * NEAR, rtt=0.0001)
    assert other.size == 2 * INITIAL_WINDOW
    assert budget.near_left == NEAR_GROWTH - INITIAL_WINDOW


def test_it_shrinks_as_soon_as_somebody_does_who_would_wait_behind_it() -> None:
    budget = WindowBudget()
    window = ReceiveWindow(budget, now=0)
    for step in range(3):
        read_half(window, now=9 + step * NEAR, rtt=0.0001)
    ReceiveWindow(budget, now=9.01)

    granted = [read_half(window, now=9.01 + step * NEAR, rtt=0.0001) for step in range(3)]
    assert granted == [0, 0, INITIAL_WINDOW // 2]
    assert window.size == window.credit == INITIAL_WINDOW
    assert budget.near_left == NEAR_GROWTH

    for step in range(3):
        read_half(window, now=9.01 + QUIET + step * NEAR, rtt=0.0001)
    assert window.size == 4 * INITIAL_WINDOW


def test_a_window_does_not_grow_for_a_reader_that_lags() -> None:
    """It empties a full buffer in no time; but the line had to wait for it."""
    window = ReceiveWindow(WindowBudget(), now=0)
    window.credit -= INITIAL_WINDOW
    window.arrived(INITIAL_WINDOW)

    for now in (0.01, 0.02):
        window.consume(INITIAL_WINDOW // 2)
        window.grant(now=now, rtt=0.1)

    assert window.size == INITIAL_WINDOW


def test_all_windows_grow_by_no_more_than_the_budget_together() -> None:
    budget = WindowBudget(INITIAL_WINDOW)
    first, second = ReceiveWindow(budget, now=0), ReceiveWindow(budget, now=0)

    read_half(first, now=0.01)
    read_half(second, now=0.01)

    assert (first.size, second.size) == (2 * INITIAL_WINDOW, INITIAL_WINDOW)
    first.release()
    read_half(second, now=0.02)
    assert second.size == 2 * INITIAL_WINDOW
