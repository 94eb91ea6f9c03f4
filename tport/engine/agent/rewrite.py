"""What an application is sent, and what it may say back: headers, targets, Location. Pure.

Host is the host of the application's own URI, as in Teleport; the public name is in
X-Forwarded-Host, and `rewrite.headers` may set another. Origin is left as the browser sent it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from tport.engine.access.templates import Template, internal_values, parse_template
from tport.engine.agent.locations import ADDRESS_HEADERS, Locations, authority
from tport.engine.defaults import READY_SESSIONS
from tport.engine.errors import InvalidRequest
from tport.engine.proto.cookies import allowed_set_cookie, host_only
from tport.engine.proto.fields import (
    HOP_BY_HOP,
    NOT_FROM_APPS,
    Field,
    Headers,
    Lines,
    fold,
    is_reserved,
)
from tport.engine.proto.known_lines import MAX_ANSWERED
from tport.engine.proto.memory import keep_latest
from tport.engine.proto.sieve import FieldSieve, LineSieve, write_lines
from tport.engine.types.app import App, Header
from tport.engine.types.session import SessionCredential

ASSERTION: Final = b"teleport-jwt-assertion"  # the JWT that says who is calling

MAX_NAMES: Final = 1024  # of headers, whose verdict is kept

# By session: its credential, whose rules it was made by, and the lines.
Sessions = OrderedDict[str, tuple[SessionCredential, object, Lines]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_HOST_VALUE = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Rewritten(NamedTuple):
    """The headers for the application.

    Attributes:
        skipped: why configured headers are missing or cut short, "<name>: <reason>" each;
            told with the first request of a credential and not again.
    """

    lines: Lines
    skipped: tuple[str, ...]


class Redirect(NamedTuple):
    """Answer 302 with this Location; the application isn't asked."""

    location: bytes


class Rewriter:
    """The rules of one application, made ready."""

    def __init__(self, app: App, *, hostname: str, sessions: Sessions | None = None) -> None:
        """Read the definition; `hostname` is what the agent's machine calls itself.

        Args:
            sessions: in which is kept what was made, for all applications of an agent together.

        Raises:
            InvalidRequest: the URI or a header is none that can be served.
        """
        uri = _split_uri(app.uri)
        self._host = uri.netloc.lower()
        self._server = _ascii(hostname)
        self._templates = tuple((header, _template(header)) for header in app.rewrite.headers)
        for header, template in self._templates:
            if header.name.lower() == "host":
                self._host = "".join(map(str, template.parts))
        self._own = frozenset(fold(h.name.encode()) for h, _ in self._templates)
        self._carries_jwt = frozenset(
            fold(header.name.encode())
            for header, template in self._templates
            if template.uses("internal", "jwt")
        )
        # Verdicts on names of requests, and of responses.
        passes, shown = _Verdicts(self._is_passed), _Verdicts(self._is_shown)
        self._asked = LineSieve(lambda field: field if passes[field[0]] else None)
        self._answered = FieldSieve(lambda field: _shown(field, shown), count=MAX_ANSWERED)
        self._first = write_lines([(b"host", self._host.encode())])
        self._sessions = Sessions() if sessions is None else sessions
        self._rules = object()
        self._locations = Locations(
            scheme=uri.scheme,
            hosts=app.rewrite.redirect,
            authorities={
                authority(uri.netloc, uri.scheme),
                # An app told another name redirects to that, by the scheme it was called with.
                *(authority(self._host, scheme) for scheme in ("http", uri.scheme)),
            },
        )
        self._subdirectory = uri if uri.path.strip("/") else None

    def target_for(self, target: bytes) -> bytes | Redirect:
        """Return the request target for the application, the bytes as they came.

        When its URI has a path, `/` is redirected there; nothing else is put in front.

        Raises:
            InvalidRequest: a path that climbs (`..` in any coat) though the URI has a path:
                which resource that is, two servers see differently (HTTP-15).
        """
        if self._subdirectory is None:
            return target
        path, question, query = target.partition(b"?")
        if path in (b"/", b""):
            uri = self._subdirectory
            query = query if question else uri.query.encode()
            location = uri.path.encode() + (b"?" + query if query else b"")
            return Redirect(location + (b"#" + uri.fragment.encode() if uri.fragment else b""))
        if _climbs(path):
            raise InvalidRequest("the path has '..' in it")
        return target

    def request(
        self, block: bytes, session: SessionCredential, *, remote: str, public: str
    ) -> Rewritten:
        """Return the headers for the application; framing and Connection are not among them.

        Args:
            block: the client's headers, as a tunnel's message has them.
            remote: the client's IP address, from its socket and never from a header.
            public: host[:port] as the browser sees it.

        Raises:
            InvalidRequest: a header line that can't be one.
        """
        try:
            of_session, skipped = self._of_session(session)
            lines = self._asked.lines(block)
        except ValueError as bad:
            raise InvalidRequest(f"a header can't be sent to the application: {bad}") from None
        lines = Lines(b"".join((self._first, lines, _forwarded(remote, public), of_session)))
        return Rewritten(lines, skipped)

    def _of_session(self, session: SessionCredential) -> tuple[Lines, tuple[str, ...]]:
        """Return what is the same for all requests of a credential, and what was left out of it."""
        known = self._sessions.get(session.sid)
        if known is not None and known[0] is session and known[1] is self._rules:
            return known[2], ()
        fields, skipped = self._render(session)
        lines = write_lines(fields)
        keep_latest(self._sessions, session.sid, (session, self._rules, lines), READY_SESSIONS)
        return lines, skipped

    def _render(self, session: SessionCredential) -> tuple[Sequence[Field], tuple[str, ...]]:
        """Render `rewrite.headers`, and add the assertion.

        Each entry replaces what an earlier one of its name set; one without a value removes
        it. Several values become several lines.
        """
        internal = internal_values(session.traits, username=session.user, jwt=session.jwt)
        lines: dict[bytes, list[Field]] = {}
        skipped: dict[bytes, str] = {}
        for header, template in self._templates:
            name = header.name.lower().encode()
            if name == b"host":
                continue
            values, why = template.render_header(internal, session.traits)
            key = fold(name)
            lines[key] = [(name, value.encode("ascii")) for value in values]
            skipped[key] = f"{header.name}: {why}" if why else ""
        fields = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"on")]
        fields.append((b"x-forwarded-server", self._server))
        if session.jwt:
            fields.append((ASSERTION, _ascii(session.jwt)))
        for some in lines.values():
            fields += some
        return fields, tuple(filter(None, skipped.values()))

    def response(self, status: int, headers: Headers, *, public: str) -> Lines:
        """Return the application's headers as the browser may see them, hop-by-hop ones gone.

        A cookie is for the application's own host and no other, whatever Domain it asks for:
        one for the whole domain would reach the other applications and the proxy (WEB-03).
        """
        if not ADDRESS_HEADERS.isdisjoint([name for name, _ in headers]):
            headers = [
                (name, self._locations.header(status, name, value, _ascii(public)))
                for name, value in headers
            ]
        return self._answered.lines(headers)

    def _is_passed(self, name: bytes) -> bool:
        """Tell whether a client's header of this name may reach the application (HTTP-12, -13)."""
        folded = fold(name)
        return not (
            folded == b"host"
            or folded in self._own
            or is_reserved(folded)
            or folded in HOP_BY_HOP  # a proxy sends none
            or b"_" in name
            or b"." in name
        )

    def _is_shown(self, name: bytes) -> bool:
        """Tell whether an answer may carry this header.

        An app that echoes its request would give the assertion away (AZ-09).
        """
        folded = fold(name)
        return not (name in NOT_FROM_APPS or is_reserved(folded) or folded in self._carries_jwt)


def _shown(field: Field, shown: Mapping[bytes, bool]) -> Field | None:
    name, value = field
    if name == b"set-cookie":
        return (name, host_only(value)) if allowed_set_cookie(value) else None
    return field if shown[name] else None


def _split_uri(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise InvalidRequest(f"{uri!r} is no URI") from None
    if not (uri.isascii() and uri.isprintable()) or " " in uri:
        raise InvalidRequest("the URI of an application is printable ASCII without spaces")
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or port == 0:
        raise InvalidRequest("the URI of an application is http://host:port or https://host:port")
    if not _HOST_VALUE.fullmatch(parts.netloc):
        raise InvalidRequest("the URI of an application has no proper host")
    if parts.path.startswith("//"):
        # As a Location this would name another host.
        raise InvalidRequest("the path of an application's URI begins with one '/'")
    return parts


def _template(header: Header) -> Template:
    """Read one entry of `rewrite.headers`.

    Raises:
        InvalidRequest: a name that is ours or belongs to one hop, or a bad value.
    """
    if not _TOKEN.fullmatch(header.name):
        raise InvalidRequest(f"{header.name[:80]!r} is no header name")
    folded = fold(header.name.encode())
    if is_reserved(folded) or folded in HOP_BY_HOP:
        raise InvalidRequest(f"the header {header.name} is set by tport alone")
    template = parse_template(header.value)
    if folded == b"host":
        # Who chose the Host by a trait would choose the virtual host.
        if not template.is_static or not _HOST_VALUE.fullmatch(header.value):
            raise InvalidRequest("the header Host takes a fixed host[:port], no template")
    elif any(isinstance(p, str) and not (p.isascii() and p.isprintable()) for p in template.parts):
        raise InvalidRequest(f"the header {header.name} takes printable ASCII")
    return template


def _climbs(path: bytes) -> bool:
    """Tell whether a segment is `..` raw, decoded or decoded twice, with or without parameters."""
    for _ in range(3):
        if any(part.partition(b";")[0] == b".." for part in re.split(rb"[/\\]", path)):
            return True
        path = unquote_to_bytes(path)
    return False


class _Verdicts(dict[bytes, bool]):
    """What `judge` says of names, remembered."""

    def __init__(self, judge: Callable[[bytes], bool]) -> None:
        self._judge = judge

    def __missing__(self, name: bytes) -> bool:
        if len(self) >= MAX_NAMES:
            self.clear()
        verdict = self[name] = self._judge(name)
        return verdict


@lru_cache(maxsize=1024)
def _forwarded(remote: str, public: str) -> Lines:
    """Return what says for whom this is, and under which name."""
    address = _ascii(remote.partition("%")[0])  # an IPv6 zone means nothing elsewhere
    seen_as = _ascii(public)
    return write_lines(
        (
            (b"x-forwarded-for", address),
            (b"x-real-ip", address),
            (b"x-forwarded-host", seen_as),
            (b"x-forwarded-port", _port(seen_as)),
        )
    )


def _port(public: bytes) -> bytes:
    _, colon, port = public.rpartition(b":")
    return port if colon and port.isdigit() else b"443"


def _ascii(text: str) -> bytes:
    """Return what goes into a header line of ours.

    Raises:
        InvalidRequest: it can't: not printable ASCII.
    """
    if not (text.isascii() and text.isprintable()):
        raise InvalidRequest("a value for a header is not printable ASCII")
    return text.encode("ascii")
