"""Connections never take the last file descriptors of a process."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tport.engine.defaults import RESERVED_DESCRIPTORS
from tport.engine.net.descriptors import FEWEST, connections_within_descriptors, fitting


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """Put the soft limit of this process back as it was."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("limit", "each", "most"),
    [(20_000, 1, 1000), (256, 1, 156), (256, 2, 78), (110, 1, FEWEST), (64, 2, FEWEST)],
)
def test_there_are_as_many_as_files_are_left(limit: int, each: int, most: int) -> None:
    """DOS-08."""
    assert fitting(1000, each=each, taken=100, limit=limit) == most


def test_a_limit_that_may_be_raised_is_raised_as_far_as_needed() -> None:
    """DOS-08."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))

    assert connections_within_descriptors(400) == 400

    soft, still = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 400 + RESERVED_DESCRIPTORS < soft < 1000
    assert still == hard
