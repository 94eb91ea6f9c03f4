"""Our cookies, taken and left byte for byte. Sans-IO.

Every application shares a site with the proxy, so a hostile one can plant cookies beside ours
(WEB-01). A lenient parser turns such a plant into ours or trips over it; here a pair counts if
its bytes are exactly ours, and all other bytes are nobody's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Literal

PREFIX = b"__Host-tport_"  # browsers take it only Secure, Path=/ and without Domain

SameSite = Literal["Lax", "None", "Strict"]

_SPACE = b" \t"  # all that may stand around a pair; U+2000 and its kin may not
_PLAIN = re.compile(rb"[A-Za-z0-9_-]+")
_CONTROLS = bytes(range(0x21)) + b"\x7f"
_UNSEEN = bytes(range(0x21)) + bytes(range(0x7F, 0x100)) + b"="


def find_cookie(values: Iterable[bytes], name: bytes) -> bytes | None:
    """Return the value of our cookie, from the values of all Cookie headers.

    None when it is missing, when its value can't be ours (only `[A-Za-z0-9_-]+` can), and
    when the name occurs twice: one of them is planted, and no one can tell which.
    """
    found = _occurrences(values, name)
    return found[0] if len(found) == 1 and _PLAIN.fullmatch(found[0]) else None


def is_ambiguous(values: Iterable[bytes], name: bytes) -> bool:
    """Tell whether the name occurs more than once: for the audit log."""
    return len(_occurrences(values, name)) > 1


def named(values: Iterable[bytes], prefix: bytes) -> list[tuple[bytes, int]]:
    """Return our cookies whose names begin so and go on, in the order in which they came.

    Returns: of each the name, and how many bytes it takes.
    """
    pattern = re.compile(rb"(?:\A|;)[ \t]*(%b[A-Za-z0-9_-]+)=[^;]*" % re.escape(prefix))
    return [(each[1], len(each[0])) for value in values for each in pattern.finditer(value)]


def strip_cookies(value: bytes) -> bytes:
    """Return a Cookie header's value without our pairs, all others byte for byte as they were.

    b"" means: drop the header.
    """
    return _known_rest(value) if len(value) <= _MAX_KEPT else _rest(value)


_MAX_KEPT = 2048  # bytes of a value whose rest is kept: 1 MiB in all, of what browsers send again


@lru_cache(maxsize=256)
def _known_rest(value: bytes) -> bytes:
    return _rest(value)


def _rest(value: bytes) -> bytes:
    if PREFIX.lower() not in value.lower():
        return value
    pairs = value.split(b";")
    kept = [pair for pair in pairs if not is_ours(pair.partition(b"=")[0].strip(_SPACE))]
    if len(kept) == len(pairs):
        return value
    if kept and kept[0] is not pairs[0]:
        kept[0] = kept[0].lstrip(_SPACE)  # the space was there to part it from ours
    return b";".join(kept)


def is_ours(name: bytes) -> bool:
    """Tell whether some browser or server might take `name` for one of our cookies.

    Lenient where `find_cookie` is strict: in any case, behind any white space in any encoding,
    and behind the `=` that makes a cookie nameless but is not sent back (WEB-04).
    """
    return name.strip(_UNSEEN).lower().startswith(PREFIX.lower())


def allowed_set_cookie(value: bytes) -> bool:
    """Tell whether an application may set this cookie: whether it isn't one of ours."""
    return not is_ours(value.partition(b";")[0])


def host_only(value: bytes) -> bytes:
    """Return a Set-Cookie value without its Domain attributes, all else byte for byte.

    The cookie then is for the host that sets it, and no other (RFC 6265 §5.3 step 6).
    """
    parts = value.split(b";")
    kept = [part for part in parts[1:] if not _is_domain(part)]
    if len(kept) == len(parts) - 1:
        return value
    return b";".join((parts[0], *kept))


def _is_domain(attribute: bytes) -> bool:
    return attribute.partition(b"=")[0].strip(_CONTROLS).lower() == b"domain"


def set_cookie(
    name: bytes, value: bytes, *, max_age: timedelta | None = None, same_site: SameSite = "Lax"
) -> bytes:
    """Return a Set-Cookie header's value; without `max_age` it lives as long as the browser.

    Always Secure, HttpOnly, Path=/ and without Domain: what `__Host-` demands.
    """
    if not name.startswith(b"__Host-") or not _PLAIN.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a cookie of ours")
    if value and not _PLAIN.fullmatch(value):
        raise ValueError(f"the value of {name!r} holds more than A-Z a-z 0-9 _ -")
    age = b"" if max_age is None else b"; Max-Age=%d" % max_age.total_seconds()
    return b"%b=%b%b; Path=/; Secure; HttpOnly; SameSite=%b" % (
        name,
        value,
        age,
        same_site.encode(),
    )


def clear_cookie(name: bytes, *, same_site: SameSite = "Lax") -> bytes:
    """Return the Set-Cookie value that makes a browser forget the cookie."""
    return set_cookie(name, b"", max_age=timedelta(0), same_site=same_site)


def _occurrences(values: Iterable[bytes], name: bytes) -> list[bytes]:
    pair = _pair(name)
    return [content.rstrip(_SPACE) for value in values for content in pair.findall(value)]


@lru_cache(maxsize=64)
def _pair(name: bytes) -> re.Pattern[bytes]:
    """Return what finds the values of a cookie, between semicolons and blanks."""
    return re.compile(rb"(?:\A|;)[ \t]*%b=([^;]*)" % re.escape(name))
