"""What the program says while it runs: one line for each thing that happened, as text or JSON.

Text is for people and begins with `tport: `; it carries the time only where nobody else adds
it (a terminal). No secret is ever handed to a logger, so none needs to be taken out here.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from tport.engine.config.model import Log

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class TextLines(logging.Formatter):
    """`tport: warning: message`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = f"tport: {level}{record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339 UTC), level, component, message."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("tport.engine."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up_logging(log: Log) -> None:
    """Send tport's log lines where the configuration says; others' only from warnings on."""
    handler: logging.Handler
    if log.output in ("stderr", "stdout"):
        stream: TextIO = sys.stderr if log.output == "stderr" else sys.stdout
        handler = logging.StreamHandler(stream)
    else:
        handler = logging.FileHandler(log.output, encoding="utf-8")
    handler.setFormatter(JsonLines() if log.format == "json" else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tport").setLevel(_LEVELS[log.severity])
