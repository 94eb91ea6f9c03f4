"""Forms: the hidden token, where a POST may come from, and reading a body of bounded size.

Applications live on sibling hosts, one site with ours, so SameSite alone keeps nobody out:
a POST must come from our own origin and hold a token that only our own page could read.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final
from urllib.parse import parse_qsl

from tport.engine.errors import InvalidRequest

MAX_FORM: Final = 16 * 1024  # bytes; a password of 512 bytes is 1.5 KiB encoded, `next` 8 KiB
MAX_FIELDS: Final = 16

FORM_TYPE: Final = "application/x-www-form-urlencoded"


class FormTooLarge(InvalidRequest):
    status = 413


def new_pre_session() -> str:
    """Return the random value of the cookie that binds forms before anybody is signed in."""
    return secrets.token_urlsafe(16)


def form_token(secret: bytes, purpose: str, binding: str) -> str:
    """Return the hidden token of one form: HMAC-SHA-256 hex over its purpose and its browser.

    `binding` is the pre-session cookie's value, or the web session's id once there is one;
    a token of another browser, another form or another key does not fit.
    """
    message = f"{purpose}\0{binding}".encode()
    return hmac.new(secret, message, "sha256").hexdigest()


def token_fits(token: str, *, secret: bytes, purpose: str, binding: str) -> bool:
    """Tell whether `token` was made for this form in this browser; constant time."""
    expected = form_token(secret, purpose, binding).encode()
    return bool(binding) and hmac.compare_digest(token.encode(), expected)


def comes_from(headers: Mapping[str, str], origins: frozenset[str]) -> bool:
    """Tell whether a POST may come from one of our own pages.

    Browsers that send Fetch Metadata say so themselves; others are judged by Origin; who sends
    neither is no browser, and the token decides alone. `none` (a restored tab that posts
    again) is judged by its Origin. Header names in `headers` are lower case.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site != "none":
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is None or origin in origins


async def read_form(
    content_type: str,
    chunks: AsyncGenerator[bytes, None],
    *,
    limit: int = MAX_FORM,
    max_fields: int = MAX_FIELDS,
) -> dict[str, str]:
    """Read an urlencoded body; of a field sent twice the last counts.

    Raises:
        InvalidRequest: another type, too many fields, no UTF-8.
        FormTooLarge: more than `limit` bytes; the rest is left unread.
    """
    if content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise InvalidRequest("This address takes forms only.")
    body = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise FormTooLarge(f"This form is larger than {limit} bytes.")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=max_fields,
        )
    except ValueError as error:  # UnicodeDecodeError among them
        raise InvalidRequest("This form cannot be read.") from error
    return dict(pairs)
