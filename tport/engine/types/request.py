"""Access requests: somebody asks to open an application for a time; somebody who may, decides."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from tport.engine.errors import InvalidRequest

RequestState = Literal["pending", "approved", "denied"]

MAX_REASON = 500  # characters of what people write to each other here


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. It says nothing of whether the host exists: that is for who decides.

    Attributes:
        id: random; shown, no secret.
        host: at which the application was to be opened; normal, without port.
        reason: in the words of who asks.
        role: that an approval gave; "" until then.
        until: when that role is taken back.
        by: who decided.
        answer: in the words of who decided.
    """

    id: str
    user: str
    user_id: str
    host: str
    reason: str
    created: datetime
    state: RequestState = "pending"
    role: str = ""
    until: datetime | None = None
    by: str = ""
    answer: str = ""


def check_words(text: str) -> str:
    """Return what somebody wrote, in one line.

    Raises:
        InvalidRequest: it is too long, or nothing can be read in it.
    """
    words = " ".join(text.split())
    if len(words) > MAX_REASON:
        raise InvalidRequest(f"that is longer than {MAX_REASON} characters")
    if not words.isprintable():
        raise InvalidRequest("that has characters nobody can read")
    return words
