"""What a request is in the eyes of the browser that sent it: a person going somewhere, or a program.

Source: Fetch Metadata (`Sec-Fetch-*`), which browsers set and pages can't. Without it: Accept.
Header names are lower case throughout.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

Headers = Iterable[tuple[bytes, bytes]]

_FRAMES = frozenset({b"iframe", b"frame", b"embed", b"object"})
_DOCUMENTS = _FRAMES | {b"document"}


class Intent(Enum):
    """Why a request was sent."""

    NAVIGATE = auto()  # a person goes there: can be sent on to sign in
    SUBMIT = auto()  # a person sends a form there: can't be repeated for them
    FRAME = auto()  # part of another page
    OTHER = auto()  # a script, a resource, a prefetch, a program


def intent(method: bytes, headers: Headers) -> Intent:
    """Tell why a request was sent."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _TELLING:
            found[name] = found.get(name, b"") + value.lower() + b","
    mode, destination = found.get(b"sec-fetch-mode"), found.get(b"sec-fetch-dest")
    if mode is not None or destination is not None:
        if mode != b"navigate," or b"prefetch" in found.get(b"sec-purpose", b""):
            return Intent.OTHER
        if (destination or b"").rstrip(b",") in _FRAMES:
            return Intent.FRAME
        if destination != b"document,":
            return Intent.OTHER
    elif not _accepts_html(found.get(b"accept", b"")):
        return Intent.OTHER
    return Intent.NAVIGATE if method in (b"GET", b"HEAD") else Intent.SUBMIT


def wants_html(headers: Headers) -> bool:
    """Tell whether the sender would show a page to a person.

    Browsers say what they will do with the answer; of others those that name `text/html` in
    Accept: curl and libraries send `*/*`.
    """
    accept = b""
    for name, value in headers:
        if name == b"sec-fetch-dest":
            return value.strip().lower() in _DOCUMENTS
        if name == b"accept":
            accept += value.lower() + b","
    return _accepts_html(accept)


def is_browser(headers: Headers) -> bool:
    """Tell whether a browser sent this, as all do that know Fetch Metadata, or name themselves."""
    return any(
        name.startswith(b"sec-fetch-") or (name == b"user-agent" and value[:8] == b"Mozilla/")
        for name, value in headers
    )


def is_cross_site(headers: Headers) -> bool:
    """Tell whether a page of another site began this, as far as the browser says."""
    return [value for name, value in headers if name == b"sec-fetch-site"] == [b"cross-site"]


def is_asked_elsewhere(headers: Headers) -> bool:
    """Tell whether a page of another origin had a browser send this.

    Sec-Fetch-Site says so where there is one: a page that hides where requests come from sends
    `Origin: null` to its own origin, too. Without either a program sent it, or a person.
    """
    host, sites, origins = b"", [], []
    for name, value in headers:
        if name == b"sec-fetch-site":
            sites.append(value)
        elif name == b"origin":
            origins.append(value)
        elif name == b"host":
            host = value
    if sites:
        return any(site not in (b"same-origin", b"none") for site in sites)
    return any(origin.lower() != b"https://" + host.lower() for origin in origins)


_TELLING = frozenset({b"sec-fetch-mode", b"sec-fetch-dest", b"sec-purpose", b"accept"})


def _accepts_html(accept: bytes) -> bool:
    """Tell whether text/html is named: browsers do, curl and libraries send `*/*`."""
    return any(
        part.partition(b";")[0].strip() == b"text/html" and not _is_refused(part)
        for part in accept.split(b",")
    )


def _is_refused(part: bytes) -> bool:
    quality = part.replace(b" ", b"").partition(b";q=")[2].partition(b";")[0]
    return quality != b"" and quality.strip(b"0.") == b""
