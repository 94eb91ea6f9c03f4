"""Settings as they are in force: each with its value, where that comes from, and what it means."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

OriginKind = Literal["default", "file", "flag", "environment", "command", "resource"]


class Origin(msgspec.Struct, frozen=True):
    """Where a value comes from.

    Attributes:
        where: `/etc/tport.yaml:12`, `--data-dir`, `$TPORT_DATA_DIR`, the command that decides it
            (`tport up`), or the kind of the resource that was edited; "": it is the default.
    """

    kind: OriginKind = "default"
    where: str = ""

    def __str__(self) -> str:
        return self.where or "default"


DEFAULT: Final = Origin()


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a running process. No secret is in it: of those it says whether they are set.

    Attributes:
        path: as in `auth_service.web_idle_timeout`.
        value: as the file would say it, with its unit; "": there is none.
        meaning: a sentence, Markdown of `code` alone.
    """

    path: str
    value: str
    origin: Origin = DEFAULT
    meaning: str = ""

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The path within its section."""
        return self.path.partition(".")[2]
