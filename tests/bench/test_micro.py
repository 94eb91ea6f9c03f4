"""The micro-benchmarks do what they say they measure."""

from __future__ import annotations

import pytest

from bench.micro import cases, microseconds


@pytest.mark.parametrize("name", cases())
def test_each_can_be_called_again_and_again(name: str) -> None:
    work = cases()[name]
    assert microseconds(work, tries=2, least=1e-4) > 0
