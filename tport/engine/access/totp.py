"""Codes of authenticator apps: TOTP, RFC 6238, by HMAC-SHA-1 with 6 digits each 30 seconds.

Those are the parameters that every authenticator app knows; others are ignored by many.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b32decode, b32encode
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

SECRET_BYTES: Final = 20  # RFC 4226 §4: 160 bits recommended
PERIOD: Final = 30  # s of one step. RFC 6238 §5.2
DIGITS: Final = 6
WINDOW: Final = 1  # steps that a clock may be off, either way. RFC 6238 §5.2: at most one

_CODE = re.compile(rf"[0-9]{{{DIGITS}}}")


def new_totp_secret() -> bytes:
    return os.urandom(SECRET_BYTES)


def time_step(now: datetime) -> int:
    """Return the number of the step that `now` (aware) is in."""
    return int(now.timestamp()) // PERIOD


def totp_code(secret: bytes, step: int) -> str:
    """Return the code of one step."""
    # SHA-1 is sound here: HMAC needs no collision resistance. RFC 6238 §1.2
    hotp = HOTP(secret, DIGITS, SHA1())  # noqa: S303
    return hotp.generate(step).decode()


def matching_step(secret: bytes, code: str, *, now: datetime, after: int) -> int | None:
    """Return the step whose code this is, None when it is none that counts.

    Args:
        code: as typed; spaces and hyphens in it mean nothing.
        after: the last step whose code was taken. Only later ones count: a code works once.
    """
    digits = re.sub(r"[\s-]", "", code)
    if not _CODE.fullmatch(digits):
        return None
    today = time_step(now)
    found = None
    for step in range(max(0, today - WINDOW), today + WINDOW + 1):
        # All are computed and compared: the time taken says nothing of which it was.
        is_it = hmac.compare_digest(totp_code(secret, step), digits)
        if is_it and step > after:
            found = step
    return found


def secret_text(secret: bytes) -> str:
    """Return a secret as people type it into an app: base32 without padding."""
    return b32encode(secret).decode().rstrip("=")


def parse_secret_text(text: str) -> bytes:
    """Read what `secret_text` wrote; spaces and small letters are fine.

    Raises:
        ValueError: it is no base32.
    """
    plain = re.sub(r"\s", "", text).upper()
    return b32decode(plain + "=" * (-len(plain) % 8))


def otpauth_uri(secret: bytes, *, user: str, issuer: str) -> str:
    """Return what the QR code says. Source: Google Authenticator's "Key Uri Format"."""
    label = quote(f"{issuer}:{user}", safe="")
    values = {
        "secret": secret_text(secret),
        "issuer": issuer,
        "algorithm": "SHA1",
        "digits": DIGITS,
        "period": PERIOD,
    }
    return f"otpauth://totp/{label}?{urlencode(values, quote_via=quote)}"
