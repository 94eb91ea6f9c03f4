"""A device token among a request's headers: found, and told from what is the application's. Sans-IO.

    Authorization: Bearer tport_…
    Authorization: Basic base64(anything:tport_…), or base64(tport_…:)
    Tport-Authorization: Bearer tport_…     for applications that need Authorization themselves

A secret in any other place of Authorization (`Token tport_…`, and what else people try) was meant for
us: it counts for nothing, and no application sees it. Any other Authorization is the application's own
business and passes. A browser can't be made to send the first and the third. It may remember a Basic
secret, and send it along when another site's page asks for something: from there it doesn't count.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from tport.engine.proto.fetch import is_asked_elsewhere
from tport.engine.types.device_token import PREFIX, SECRET

Headers = Sequence[tuple[bytes, bytes]]  # names lower case

UNUSABLE: Final = ""  # what is meant as a device token, and can't be one

_OURS: Final = PREFIX.encode()
_LOST: Final = re.compile(SECRET.pattern.encode())  # wherever it stands
_NAMES: Final = frozenset({b"authorization", b"tport-authorization"})


def presented_secret(headers: Headers) -> str | None:
    """Return the device token that a request shows; None: none.

    UNUSABLE: it is no token's form, there are two that differ, or a page of another site had a
    browser send it.
    """
    shown = [field for field in headers if field[0] in _NAMES]
    if not shown:
        return None
    secrets: set[str] = set()
    for name, value in shown:
        secret = _bearer(value)
        if secret is None and name == b"authorization":
            secret = _basic(value)
            if secret is None:
                secret = b"" if _LOST.search(value) else None
            elif is_asked_elsewhere(headers):
                secret = b""
        if name == b"tport-authorization" or secret is not None:
            secrets.add(_usable(secret or b""))
    if not secrets:
        return None
    return secrets.pop() if len(secrets) == 1 else UNUSABLE


def is_device_token(authorization: bytes) -> bool:
    """Tell whether an Authorization's value is ours, so that no application may see it."""
    return (
        _bearer(authorization) is not None
        or _basic(authorization) is not None
        or _LOST.search(authorization) is not None
    )


def _bearer(value: bytes) -> bytes | None:
    scheme, secret = _parted(value)
    return secret if scheme == b"bearer" and secret.startswith(_OURS) else None


def _basic(value: bytes) -> bytes | None:
    """Return the password, or else the user, where it begins as our secrets do. Source: RFC 7617 §2.

    Services that take a token by Basic disagree about which of the two it is.
    """
    scheme, encoded = _parted(value)
    if scheme != b"basic":
        return None
    encoded = encoded.rstrip(b"=")
    try:
        decoded = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        return None
    user, colon, password = decoded.partition(b":")
    if colon and password.startswith(_OURS):
        return password
    return user if user.startswith(_OURS) else None


def _parted(value: bytes) -> tuple[bytes, bytes]:
    """Return the scheme in lower case, and what follows it."""
    parts = value.split(None, 1)
    return (parts[0].lower(), parts[1].rstrip()) if len(parts) == 2 else (b"", b"")


def _usable(secret: bytes) -> str:
    text = secret.decode("ascii", "replace")
    return text if SECRET.fullmatch(text) else UNUSABLE
