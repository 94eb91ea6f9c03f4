"""Why a person may, or may not, open an application: which role decided, and what is missing."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal[
    "opens",
    "denies",
    "falls-short",  # it opens applications, not one with these labels
    "opens-nothing",  # it has no app_labels, or none that can be judged
    "unknown",  # the person has it, and there is no such role any more
]


class Unmet(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a role's `app_labels` that the application's labels don't fit.

    Attributes:
        wanted: the values as the role has them.
        has: the application's label; None: it has none of this key.
        missing_traits: that a template among `wanted` needs and the person doesn't have.
    """

    key: str
    wanted: tuple[str, ...]
    has: str | None = None
    missing_traits: tuple[str, ...] = ()


class RoleView(msgspec.Struct, frozen=True, kw_only=True):
    """What one of a person's roles says of the application."""

    role: str
    outcome: Outcome
    unmet: tuple[Unmet, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The decision on one person and one application.

    Attributes:
        decided: a sentence: which rule decided, and how.
        changes: what would allow it, the smallest first, sentences in the imperative; empty when
            it is allowed.
    """

    user: str
    app: str
    allowed: bool
    decided: str
    roles: tuple[RoleView, ...] = ()
    changes: tuple[str, ...] = ()
    would_open: tuple[str, ...] = ()  # roles the person lacks that open it, the narrowest first
