"""For all tests: figures that are held to a bar, and no secret in whatever is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings

from tests.canary import LogWatch, SecretLeakedError
from tests.figures import BUSY, Figure, Hold, table
from tests.marked.sitecustomize import mark_randomness

_KEY = "figure"

mark_randomness()
# Time is not what properties promise: others use the machine, and the first text of a checkout has
# hypothesis tabulate all of Unicode, for seconds.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")
_LOGGED = LogWatch()
logging.getLogger("tport").addHandler(_LOGGED)
logging.getLogger("tport").setLevel(logging.DEBUG)


@pytest.fixture(autouse=True)
def no_secret_is_logged() -> Iterator[LogWatch]:
    """OPS-03: at every level, tracebacks too."""
    yield _LOGGED
    if found := _LOGGED.take():
        raise SecretLeakedError(found)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="write what was measured to this file, as JSON")


@pytest.fixture
def hold(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Hold:
    """Bars in seconds are those of an idle machine for `torture` alone: see BUSY."""
    is_alone = request.node.get_closest_marker("torture") is not None

    def held(
        what: str,
        measured: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        if at_most is not None and unit == "s" and not is_alone:
            at_most *= BUSY
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
