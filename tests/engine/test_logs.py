"""A log line is one line of ours, whoever chose its words."""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.config.model import Log
from tport.engine.defaults import LOG_LINES
from tport.engine.errors import ConfigError
from tport.engine.logs import JsonLines, LogFile, Repeats, TextLines, set_up_logging


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("tport")
    before = root.handlers[:], root.level, ours.level
    yield
    for handler in root.handlers[:]:
        if handler not in before[0]:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def record(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("tport.engine.proxy.service", level, "", 0, message, args, None)


def test_information_is_plain_and_more_says_its_level() -> None:
    assert TextLines().format(record("%s is up", "grafana")) == "tport: grafana is up"
    warning = TextLines().format(record("hm", level=logging.WARNING))
    assert warning == "tport: warning: hm"


def test_a_worker_says_which_it_is() -> None:
    told = record("hm", level=logging.WARNING)

    assert TextLines(worker=2).format(told) == "tport: warning: worker 2: hm"
    assert json.loads(JsonLines(worker=2).format(told))["worker"] == 2
    assert "worker" not in json.loads(JsonLines().format(told))


@given(st.text())
def test_nothing_in_a_message_begins_a_line_of_ours_or_moves_the_cursor(text: str) -> None:
    first, *rest = TextLines().format(record("%s", text)).split("\n")

    assert first.startswith("tport: ")
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in first
    assert "\r" not in "".join(rest) + first


@given(st.text())
def test_json_is_one_line_of_ascii_that_says_the_same(text: str) -> None:
    line = JsonLines().format(record("%s", text, level=logging.ERROR))
    entry = json.loads(line)

    assert line.isascii()
    assert line.isprintable()
    assert (entry["message"], entry["level"], entry["component"]) == (
        text,
        "error",
        "proxy.service",
    )
    assert entry["time"].endswith("+00:00")


def test_a_traceback_follows_its_line() -> None:
    entry = record("it failed", level=logging.ERROR)
    try:
        raise ValueError("why")
    except ValueError:
        entry.exc_info = sys.exc_info()

    assert "\nValueError: why" in TextLines().format(entry)
    assert "ValueError: why" in json.loads(JsonLines().format(entry))["traceback"]


def test_a_file_gets_lines_with_the_time_and_survives_its_rotation(tmp_path: Path) -> None:
    file = tmp_path / "tport.log"
    set_up_logging(Log(output=str(file), severity="info"))
    logging.getLogger("tport.engine").info("one")
    file.rename(tmp_path / "tport.log.1")
    logging.getLogger("tport.engine").info("two")

    assert file.read_text().endswith("+00:00 tport: two\n")
    assert (tmp_path / "tport.log.1").read_text().endswith("tport: one\n")


def test_a_file_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"log\.output"):
        set_up_logging(Log(output=str(tmp_path / "missing" / "tport.log")))


def test_others_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(Log(severity="debug"))
    logging.getLogger("httpx").info("a request")
    logging.getLogger("httpx").warning("a problem")
    logging.getLogger("tport.engine").debug("a detail")

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "tport: warning: a problem\ntport: a detail\n"


def test_a_severity_leaves_out_what_is_less(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(Log(severity="warning", output="stdout", format="json"))
    logging.getLogger("tport.engine").info("no")
    logging.getLogger("tport.engine").warning("yes")

    out, err = capsys.readouterr()
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["yes"]
    assert err == ""


def test_r_16_a_file_that_takes_no_more_costs_lines_that_are_counted_and_told(
    tmp_path: Path,
) -> None:
    """R-16, and nobody who logs hears of it; also when the file can't be begun anew."""
    lost = LogFile.lost
    folder = tmp_path / "logs"
    folder.mkdir()
    file = folder / "tport.log"
    set_up_logging(Log(output=str(file), severity="info"))
    said = logging.getLogger("tport.engine")
    said.info("one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, limits[1]))
    try:
        said.info("two")
        said.info("three")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert LogFile.lost == lost + 2
    said.info("four")
    folder.rename(tmp_path / "moved")
    said.info("five")
    folder.mkdir()
    said.info("six")

    assert LogFile.lost == lost + 3
    first = (tmp_path / "moved" / "tport.log").read_text()
    assert first.count("\n") == 3
    assert "warning: 2 lines of the log could not be written\n" in first
    assert first.endswith("four\n")
    assert "1 lines of the log" in file.read_text()
    assert file.read_text().endswith("six\n")


# --- Repeats ---------------------------------------------------------------------------------------


class Lines:
    """A handler's lines, by the words of their templates filled in; time is the test's."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.now = 1000.0
        self.filter = Repeats(self._add)

    def _add(self, entry: logging.LogRecord) -> None:
        self.written.append(entry.getMessage())

    def log(self, message: str, *args: object, level: int = logging.WARNING) -> None:
        entry = record(message, *args, level=level)
        entry.created = self.now
        if self.filter.filter(entry):
            self._add(entry)


def test_of_the_same_line_the_first_are_written_and_the_rest_is_counted() -> None:
    """DOS-10: whatever it is about, and told when the minute is over."""
    lines = Lines()
    for number in range(1000):
        lines.log("%s could not be served", f"192.0.2.{number}")
    assert len(lines.written) == LOG_LINES

    lines.log("all is well")
    lines.now += 61
    lines.log("%s could not be served", "192.0.2.1")

    left_out = f"{1000 - LOG_LINES} more lines in a minute like this were left out"
    assert lines.written[LOG_LINES:] == [
        "all is well",
        f"{left_out}: %s could not be served",
        "192.0.2.1 could not be served",
    ]


def test_who_debugs_sees_all_and_a_clock_set_back_begins_a_new_minute() -> None:
    lines = Lines()
    for _ in range(200):
        lines.log("a detail", level=logging.DEBUG)
    assert len(lines.written) == 200

    for _ in range(LOG_LINES):
        lines.log("again")
    lines.now -= 3600
    lines.log("again")
    assert lines.written[-1] == "again"
    assert len(lines.written) == 200 + LOG_LINES + 1


def test_the_log_as_it_is_set_up_leaves_repeats_out(tmp_path: Path) -> None:
    path = tmp_path / "tport.log"
    set_up_logging(Log(output=str(path)))

    for _ in range(500):
        logging.getLogger("tport.engine.x").warning("the same")

    assert len(path.read_text().splitlines()) in range(LOG_LINES, 2 * LOG_LINES + 2)
