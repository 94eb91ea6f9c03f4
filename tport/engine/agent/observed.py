"""What was seen while an application was tried: answers as values, and what their pages say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from ipaddress import ip_address
from typing import Final
from urllib.parse import urljoin, urlsplit

from tport.engine.proto.fields import Headers, values

MAX_TITLE: Final = 80  # characters of a page's title that are shown


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An answer.

    Attributes:
        target: what was asked for, a path with its query.
        body: its beginning.
        is_whole: that is all of it.
        seconds: from the request to the head.
        first_byte: seconds from the request to the first byte of the body; None: none came.
    """

    target: str
    status: int
    headers: Headers
    body: bytes = b""
    is_whole: bool = True
    seconds: float = 0.0
    first_byte: float | None = None

    def header(self, name: bytes) -> str:
        """Return the first value of a header, lower-case name; "": it has none."""
        return next((v.decode("latin-1") for v in values(self.headers, name)), "")

    @property
    def media_type(self) -> str:
        return self.header(b"content-type").partition(";")[0].strip().lower()

    @property
    def is_welcome(self) -> bool:
        """Whether whoever asked may go on from here, maybe after a sign-in."""
        return self.status < 400 or self.status in (401, 407)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """No answer: why, and what to do, in words.

    `is_silence`: nothing was heard, or nothing asked for want of time, so that it means nothing.
    """

    problem: str
    hint: str = ""
    is_silence: bool = False

    is_welcome = False


Reply = Seen | Failed


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything that was tried of one application.

    The maps are by the header Host that was sent: that of the URI, and the public one.

    Attributes:
        uri: that it answers at; the configured one when it doesn't answer.
        first: the answer to the first request, by the configuration as it is.
        pages: GET, as a person's browser asks.
        posts: POST of nothing to a path nobody serves, with the public Origin.
        sockets: a WebSocket handshake with the public Origin.
        post_at_home, socket_at_home: the same with Host and Origin of the URI, as without tport.
        landing: the page where redirects within the application end.
        events: GET that accepts an event stream.
        heads: bytes added to the head of a request → the answer.
        known_path: where an application of its kind lives, tried when there is nothing at /.
        icon: None: no page to have one.
    """

    uri: str
    first: Reply
    pages: Mapping[str, Reply] = field(default_factory=dict)
    posts: Mapping[str, Reply] = field(default_factory=dict)
    sockets: Mapping[str, Reply] = field(default_factory=dict)
    post_at_home: Reply | None = None
    socket_at_home: Reply | None = None
    landing: Seen | None = None
    events: Reply | None = None
    heads: Mapping[int, Reply] = field(default_factory=dict)
    known_path: Reply | None = None
    icon: Reply | None = None


class Page(HTMLParser):
    """What a page says of itself.

    Attributes:
        title: as shown, cut to MAX_TITLE; "": it has none.
        icons: paths of the icons that it names on its own host, in its order.
        icon: the path of the first, else where browsers look for one that isn't named.
    """

    def __init__(self, seen: Seen, hosts: frozenset[str] = frozenset()) -> None:
        """`hosts`: host[:port], lower case, by which the application calls itself."""
        super().__init__()
        self.title = ""
        self._base = ""
        self._icons: list[str] = []
        self._in_title = False
        if seen.media_type in ("text/html", "application/xhtml+xml"):
            # What no browser stumbles over it may: `<![x[`, a reference of 5000 digits.
            with suppress(AssertionError, ValueError):
                self.feed(seen.body.decode("utf-8", "replace"))
        self.title = "".join(c for c in " ".join(self.title.split()) if c.isprintable())[:MAX_TITLE]
        base = own_target(self._base, seen.target, hosts) or seen.target
        found = (own_target(icon, base, hosts) for icon in self._icons)
        self.icons = [icon for icon in found if icon]
        self.icon = self.icons[0] if self.icons else "/favicon.ico"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title" and not self.title
        if tag == "link":
            found = dict(attrs)
            if "icon" in (found.get("rel") or "").lower().split():
                self._icons.append(found.get("href") or "")
        elif tag == "base" and not self._base:
            self._base = dict(attrs).get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def uri_host(uri: str) -> str:
    """Return host[:port] of a URI, lower case: the Host that agents send by themselves."""
    return urlsplit(uri).netloc.lower()


def is_here(uri: str) -> bool:
    """Tell whether a URI names the machine itself, so that nobody can stand in between."""
    host = (urlsplit(uri).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def own_target(reference: str, base: str, hosts: frozenset[str] = frozenset()) -> str:
    """Return the path and query that a reference in an answer leads to within the application.

    Args:
        reference: of a Location or a link.
        base: path and query of the answer.
        hosts: host[:port], lower case, by which the application calls itself.

    Returns:
        "" when it leads elsewhere, or nowhere that a request could ask for.
    """
    if not reference or not (reference.isascii() and reference.isprintable()):
        return ""
    try:
        joined = urlsplit(urljoin(f"http://own.invalid{base}", reference))
    except ValueError:
        return ""
    if joined.scheme not in ("http", "https") or " " in reference:
        return ""
    if joined.netloc.lower() not in hosts | {"own.invalid"}:
        return ""
    return (joined.path or "/") + (f"?{joined.query}" if joined.query else "")
