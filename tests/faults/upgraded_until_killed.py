"""A database that is brought to a newer format by a process that is killed at a given point of it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any, Final

from tests.engine.storage.made_up_formats import NEW
from tests.fakes import START
from tport.engine.backup.cluster import keep_backup
from tport.engine.storage import migration
from tport.engine.storage.database import Database
from tport.engine.storage.formats import Changes, Formats, Records, Step
from tport.engine.storage.mark import MarkFile

POINTS: Final = ("at the backup", "in a step", "rows written", "head written", "committed")


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def upgrade(path: Path, point: str, after: float) -> None:
    """Bring it forward; be killed at `point`, or, where that is "", `after` so many seconds."""
    keep, formats = (lambda: keep_backup(path.parent, START, NEW)), NEW
    match point:
        case "at the backup":
            keep = die
        case "in a step":
            formats = Formats(NEW.first, (NEW.steps[0], Step("dies", _dies)))
        case "rows written":
            # The sum is asked for when the database is looked at, too: of this module's own name alone.
            vars(migration)["content"] = _Dying
        case "head written":
            migration.note_format = die
        case "committed":
            MarkFile.write = die  # type: ignore[method-assign]
        case _:
            threading.Timer(after, die).start()
    Database(path, keep, formats).close()


def _dies(_: Records) -> Changes:
    die()
    return {}


class _Dying:
    sum_of = staticmethod(die)
