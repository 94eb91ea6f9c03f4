"""What the end-to-end tests share. A module's tests share one cluster where they can: starts cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Cluster, Tport, start_cluster, tport_home


@pytest.fixture
def tport(tmp_path: Path) -> Iterator[Tport]:
    """The program in a fresh home."""
    with tport_home(tmp_path) as tport:
        yield tport


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Auth and proxy, shared by a module's tests; each makes its own users and applications."""
    with start_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
