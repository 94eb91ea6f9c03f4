"""How it stands with a host's certificate: where it is from, until when, and what went wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

SOON: Final = timedelta(days=7)  # before its end: then it was not renewed when it should have been

Source = Literal[
    "file",  # of the operator's, in https_keypairs
    "acme",  # fetched from an authority by ACME
    "own CA",  # a leaf of the cluster's own web authority
    "none",  # there is none, and none can be made: browsers are shown another host's
]


class CertState(msgspec.Struct, frozen=True, kw_only=True):
    """What one source has for one host, or hasn't yet.

    Attributes:
        host: the host served here; for a file that serves none, the first name in it.
        names: that the certificate is good for.
        issuer: who signed it, as people read it; "" before there is one.
        not_after: until when it is good; None: there is no certificate yet.
        last_attempt: when one was last asked for, or a file last read.
        problem: what is wrong, in the words of who said so (an authority's own, on failure).
        advice: what to do about it.
        next_try: when it is tried again, or renewed; None: nobody will.
        path: of the certificate's file, as configured.
        key: kind of key, "ECDSA P-256" or "RSA 2048".
    """

    host: str
    source: Source
    names: tuple[str, ...] = ()
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    last_attempt: datetime | None = None
    problem: str = ""
    advice: str = ""
    next_try: datetime | None = None
    path: str = ""
    key: str = ""


def standing(state: CertState, now: datetime) -> tuple[str, Literal["good", "bad", ""]]:
    """Return how it stands, in a word or three, and whether that is good."""
    if state.source == "none":
        return "needs a certificate", "bad"
    if state.not_after is None:
        return ("none yet", "bad") if state.problem else ("made when first asked for", "")
    if now >= state.not_after:
        return "expired", "bad"
    if state.not_before is not None and now < state.not_before:
        return "not valid yet", "bad"
    if state.problem:
        return "good, with a problem", "bad"
    return ("ends soon", "bad") if state.not_after - now < SOON else ("good", "good")
