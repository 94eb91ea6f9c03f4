"""What the program says while it runs: one line for each thing that happened, as text or JSON.

Text is for people and begins with `tport: `; it carries the time only where nobody else adds
it: in a file. No secret is ever handed to a logger, so none needs to be taken out here.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import BinaryIO, ClassVar, Final, TextIO, cast

from tport.engine.config.model import Log
from tport.engine.defaults import LOG_LINES
from tport.engine.errors import ConfigError

MINUTE: Final = 60.0  # s in which lines are counted together

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class TextLines(logging.Formatter):
    """`tport: warning: message`; a traceback follows on lines of its own.

    Some of a message may have been chosen by others: each further line of it is indented, so
    that none looks like one of ours, and what isn't printable becomes `?`, in a traceback as well.
    """

    def __init__(self, *, with_time: bool = False, worker: int = 0) -> None:
        super().__init__()
        self._with_time = with_time
        self._who = f"worker {worker}: " if worker else ""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        message = _printable(record.getMessage()).replace("\n", "\n    ")
        about = _printable(_request_id(record))
        message += f" (request {about})" if about else ""
        text = f"tport: {level}{self._who}{message}"
        if self._with_time:
            text = f"{_time(record)} {text}"
        if record.exc_info:
            text = f"{text}\n{_printable(self.formatException(record.exc_info))}"
        return text


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339 UTC), level, component, message; worker, request id if any."""

    def __init__(self, *, worker: int = 0) -> None:
        super().__init__()
        self._who = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("tport.engine."),
            **self._who,
            "message": record.getMessage(),
        }
        if about := _request_id(record):
            entry["request_id"] = about
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _printable(text: str) -> str:
    """Return a text without what moves a terminal's cursor or begins a line, but for its line breaks."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _request_id(record: logging.LogRecord) -> str:
    """Return which request a line is about, the same in the proxy's line and the agent's; "": none."""
    about = getattr(record, "request_id", "")
    return about if isinstance(about, str) else ""


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class LogFile(WatchedFileHandler):
    """A file of lines that costs nobody anything when it can't be written.

    What a full disk refuses is dropped and counted, and the count is the first line that is written when
    the disk takes lines again. Nobody who logs ever sees an error of it: the standard handler raises one
    when a file that was moved away can't be begun anew.
    """

    lost: ClassVar[int] = 0  # lines, of all files of this process

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8")
        self._unreported = 0
        self._failed = False

    def _open(self) -> TextIOWrapper:
        """Open it without a buffer, which would keep what was refused, and write it some time."""
        raw = open(self.baseFilename, "ab", buffering=0)  # noqa: SIM115 - the handler closes it
        return TextIOWrapper(cast("BinaryIO", raw), self.encoding, write_through=True)

    def emit(self, record: logging.LogRecord) -> None:
        if self._unreported and self._write(_lost_lines(self._unreported)):
            self._unreported = 0
        if not self._write(record):
            LogFile.lost += 1
            self._unreported += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        self._failed = True

    def _write(self, record: logging.LogRecord) -> bool:
        """Write a line, and tell whether it is in the file."""
        self._failed = False
        try:
            super().emit(record)
        except OSError:
            return False
        return not self._failed


def _lost_lines(count: int) -> logging.LogRecord:
    text = "%d lines of the log could not be written"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (count,), None)


class Repeats(logging.Filter):
    """Lets the same line through so often a minute, counts the rest, and has the count written after it.

    The same is what comes from one place in the source, whatever it is about: what somebody can make
    happen a thousand times a second writes no more than LOG_LINES of it. Debugging leaves nothing out.

    Attributes:
        left_out: lines that were not written, since the start.
    """

    left_out: ClassVar[int] = 0  # of all handlers of this process

    def __init__(self, write: Callable[[logging.LogRecord], object]) -> None:
        """`write`: takes the lines that say how many were left out."""
        super().__init__()
        self._write = write
        self._began = -math.inf  # of this minute, as records have it
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO or record.msg == _LEFT_OUT:
            return True
        if not self._began <= record.created < self._began + MINUTE:
            seen, self._seen, self._began = self._seen, Counter(), record.created
            for (name, text, _), count in seen.items():
                if count > LOG_LINES:
                    self._write(_left_out(name, count - LOG_LINES, text))
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        key = (record.name, str(record.msg), kind)
        self._seen[key] += 1
        if self._seen[key] <= LOG_LINES:
            return True
        Repeats.left_out += 1
        return False


_LEFT_OUT: Final = "%d more lines in a minute like this were left out: %s"


def _left_out(name: str, count: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, __file__, 0, _LEFT_OUT, (count, text), None)


def set_up_logging(log: Log, *, worker: int = 0) -> None:
    """Send tport's log lines where the configuration says; others' only from warnings on.

    A file that was moved away, as logrotate does, is begun anew.

    Args:
        worker: which of the proxy's processes this is; 0: the main one.

    Raises:
        ConfigError: the file can't be written.
    """
    handler: logging.Handler
    to_file = log.output not in ("stderr", "stdout")
    if to_file:
        try:
            handler = LogFile(log.output)
        except OSError as problem:
            why = str(problem.strerror).lower()
            raise ConfigError(f"log.output can't be written: {why}", where=log.output) from None
    else:
        stream: TextIO = sys.stderr if log.output == "stderr" else sys.stdout
        handler = logging.StreamHandler(stream)
    formatter: logging.Formatter
    if log.format == "json":
        formatter = JsonLines(worker=worker)
    else:
        formatter = TextLines(with_time=to_file, worker=worker)
    handler.setFormatter(formatter)
    handler.addFilter(Repeats(handler.handle))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tport").setLevel(_LEVELS[log.severity])
