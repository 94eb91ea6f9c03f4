"""Figures that tests hold to a bar, gathered from all workers and told at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.figures import Figure, Hold, table

_KEY = "figure"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="write what was measured to this file, as JSON")


@pytest.fixture
def hold(record_property: Callable[[str, object], None]) -> Hold:
    def held(
        what: str,
        measured: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        figure = Figure(what, measured, unit, at_most, at_least)
        record_property(_KEY, msgspec.to_builtins(figure))
        assert figure.is_met, f"{what}: {measured:g} {unit}, held to {figure.bar}"

    return held


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = [
        msgspec.convert(value, Figure)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == _KEY
    ]
    if not figures:
        return
    terminalreporter.section("figures")
    terminalreporter.write_line(table(figures))
    path: Path | None = config.getoption("--figures")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
