"""Which versions of tport work together. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal

_VERSION: Final = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})(?:[.+a-z-].*)?")  # PEP 440, its beginning

Fit = Literal["same", "older", "newer", "too old", "too new", "unknown"]


def fit(version: str, *, beside: str) -> Fit:
    """Tell how a program of `version` does beside one of `beside`.

    Those of one minor version, and of the ones next to it, work together; while they differ, the
    newer one does without what the older doesn't know. A major version apart they do not.
    """
    one, other = _VERSION.fullmatch(version), _VERSION.fullmatch(beside)
    if one is None or other is None:
        return "unknown"
    (major, minor), (their_major, their_minor) = map(int, one.groups()), map(int, other.groups())
    if (major, minor) == (their_major, their_minor):
        return "same"
    is_older = (major, minor) < (their_major, their_minor)
    if major == their_major and abs(minor - their_minor) == 1:
        return "older" if is_older else "newer"
    return "too old" if is_older else "too new"
