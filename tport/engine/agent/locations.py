"""Addresses in an application's answer: what names the application becomes its public address. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

# An absolute or scheme-relative URL without user name: what a browser follows elsewhere.
_ABSOLUTE = re.compile(
    rb"(?:(https?):)?//([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?((?:[/?#].*)?)",
    re.IGNORECASE,
)
# All before the URL, by HTML's "shared declarative refresh steps". It matches anything, so that
# no long value can make it try again and again.
_BEFORE_URL = re.compile(rb"[0-9.]*[;, \t]*(?:url[ \t]*=[ \t]*)?", re.IGNORECASE)
# What `Locations.header` may change.
ADDRESS_HEADERS: Final = frozenset({b"location", b"content-location", b"refresh"})
_DEFAULT_PORT: Final[Mapping[bytes, int]] = {b"http": 80, b"https": 443}

Authority = tuple[bytes, int]


def authority(netloc: str, scheme: str) -> Authority:
    """Return `host[:port]` as host and port, the scheme's own where none is given."""
    host, _, port = netloc.lower().encode().rpartition(b":")
    if host and port.isdigit():
        return host, int(port)
    return netloc.lower().encode(), _DEFAULT_PORT[scheme.encode()]


class Locations:
    """One application's names, and what becomes of them in Location and its kin."""

    def __init__(
        self, *, scheme: str, hosts: Collection[str], authorities: Collection[Authority]
    ) -> None:
        """
        Args:
            scheme: by which the application is called; of URLs that name none.
            hosts: any port of these is the application (`rewrite.redirect`).
            authorities: these are, at this very port.
        """
        self._scheme = scheme.encode()
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._authorities = frozenset(authorities)

    def header(self, status: int, name: bytes, value: bytes, public: bytes) -> bytes:
        """Return the value that a header of an answer with this status has for the browser.

        Location counts where it leads somewhere: 201 and 3xx without 304, which only repeats
        what a cache has already. Content-Location and Refresh count with any status.
        """
        match name:
            case b"location" if status == 201 or (300 <= status < 400 and status != 304):
                return self._url(value, public)
            case b"content-location":
                return self._url(value, public)
            case b"refresh":
                return self._refresh(value, public)
            case _:
                return value

    def _url(self, value: bytes, public: bytes) -> bytes:
        """Return `value` at the public address when it names the application itself.

        Relative references and all other hosts stay as they are (AG-08).
        """
        match = _ABSOLUTE.fullmatch(value)
        if match is None:
            return value
        scheme, host, port, rest = match.groups()
        host = host.lower()
        number = int(port) if port else _DEFAULT_PORT[(scheme or self._scheme).lower()]
        is_listed = not self._hosts.isdisjoint((host, host.strip(b"[]")))
        if is_listed or (host, number) in self._authorities:
            return b"https://%b%b" % (public, rest)
        return value

    def _refresh(self, value: bytes, public: bytes) -> bytes:
        """Rewrite the URL of `5; url=http://…`, quoted or not, and nothing else of it."""
        match = _BEFORE_URL.match(value)
        assert match is not None  # it matches the empty text too
        before, rest = value[: match.end()], value[match.end() :]
        if rest[:1] in (b'"', b"'"):
            quote = rest[:1]
            url, end, behind = rest[1:].partition(quote)
            return b"".join((before, quote, self._url(url, public), end, behind))
        return before + self._url(rest, public)
