"""A visitor as the proxy sees one: a browser with cookies that fills in forms and follows redirects."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import trio

import tport
from tport.engine.access.totp import parse_secret_text, time_step, totp_code
from tport.engine.errors import ConnectionProblem, NotSignedIn, TportError
from tport.engine.net.dial import dial_tcp
from tport.engine.net.http1_client import ClientConnection
from tport.engine.net.tls import connect_tls
from tport.engine.net.tls_stream import TlsStream
from tport.engine.proto.fields import Headers, values
from tport.engine.proto.framing import NO_BODY, of_length
from tport.engine.proto.head import TARGET
from tport.engine.selftest.failure import page_says
from tport.engine.selftest.line import GOODBYE, Way, final_head, in_words, read_body

T = TypeVar("T")

HOPS: Final = 64  # redirects; the way through the launcher takes 4, and 3 for each required app
USER_AGENT: Final = f"tport-selftest/{tport.__version__}".encode()

_NAVIGATION: Final = (
    (b"accept", b"text/html,*/*;q=0.8"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-dest", b"document"),
    (b"sec-fetch-user", b"?1"),
)
_OTHER_ROLES: Final = "if another role opens it, give that: --roles=…"
_UNTRUSTED: Final = (
    "neither the cluster's own authority nor one that this machine trusts has made it: browsers"
    " here will warn of it, too"
)
_RESERVED: Final = "/.tport/"  # on every application's host: the proxy's own
_KEY = re.compile(rb'id="totp-secret">([A-Z2-7 ]+)<')
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="0; url=([^"]+)"')
_AT_ONCE = re.compile(r"0; url=(.+)")


def _joined(url: str, target: str) -> str:
    """Return where `target`, found at `url`, leads; "" where nobody can tell."""
    try:
        return str(urljoin(url, target))
    except ValueError:
        return ""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a visitor."""

    url: str
    status: int
    headers: Headers
    body: bytes

    def onward(self) -> str:
        """Return where it sends a browser at once; "": nowhere."""
        if self.status in (301, 302, 303, 307, 308):
            found = values(self.headers, b"location")
            return _joined(self.url, found[0].decode("latin-1")) if found else ""
        for value in values(self.headers, b"refresh"):
            if at_once := _AT_ONCE.fullmatch(value.decode("latin-1")):
                return _joined(self.url, at_once[1])
        in_page = _REFRESH.search(self.body.decode("utf-8", "replace"))
        return _joined(self.url, unescape(in_page[1])) if in_page else ""


class Visitor:
    """One person's browser, without a session at first."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """`context`: by which it verifies the proxy."""
        self._context = context
        self._cookies: dict[str, dict[bytes, bytes]] = {}  # host → name → value

    async def sign_up(self, invite: str, password: str) -> None:
        """Accept an invite: choose a password, set up what is demanded beside it, be signed in.

        Raises:
            ConnectionProblem: the proxy is not reached by its public name, or not believed.
            NotSignedIn: it didn't work; with what the page says.
        """
        page = await self._open(invite)
        form = _form_with(page, "password")
        if form is None:
            raise NotSignedIn(f"the invite was not taken: {page_says(page.status, page.body)}")
        done = await self._submit(page, form, {"password": password, "confirm": password})
        if (skip := _form_with(done, "skip")) is not None:
            done = await self._submit(done, skip, {})
        elif (key := _KEY.search(done.body)) and (enrol := _form_with(done, "totp")):
            # An authenticator app of its own, which is gone with the user.
            code = totp_code(parse_secret_text(key[1].decode()), time_step(datetime.now(UTC)))
            done = await self._submit(done, enrol, {"totp": code})
        elif _form_with(done, "attempt") is not None:
            raise NotSignedIn(
                "this cluster demands a passkey, and a selftest has none",
                hint="tport selftest, without an application, measures a cluster of its own",
            )
        if done.status != 200:
            raise NotSignedIn(f"signing up failed: {page_says(done.status, done.body)}")

    async def _submit(self, page: Page, form: _Form, fields: Mapping[str, str]) -> Page:
        """Send a form of our own page, filled in, and follow where it leads."""
        body = urlencode({**form.fields, **fields}).encode()
        sent = (
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"sec-fetch-site", b"same-origin"),
        )
        target = urljoin(page.url, form.action)
        return await self._follow(await self._send(b"POST", target, sent, body))

    async def enter(self, url: str) -> None:
        """Get a session for the application at `url`, as a browser that goes there gets it.

        Nothing of this reaches the application: the round ends before its own page is asked for.

        Raises:
            ConnectionProblem: a name on the way is not reached, or not believed.
            NotSignedIn: it didn't work; with what the page says.
        """
        page = await self._send(b"GET", url)
        for _ in range(HOPS):
            target = page.onward()
            if not target:
                raise NotSignedIn(
                    f"the way ended at {page.url.partition('?')[0]}:"
                    f" {page_says(page.status, page.body)}",
                    hint=_OTHER_ROLES if page.status == 403 else "",
                )
            there = urlsplit(target)
            if there.netloc == urlsplit(url).netloc and not there.path.startswith(_RESERVED):
                return
            page = await self._send(b"GET", target)
        raise NotSignedIn(f"{url} was not reached within {HOPS} redirects")

    def way(self, url: str) -> Way:
        """Return the way to an application that was entered, for its requests, not for navigating."""
        origin = "https://" + urlsplit(url).netloc

        async def dial() -> trio.abc.Stream:
            return await self._dial(url)

        headers = (*self._headers(url), (b"accept", b"*/*"))
        return Way("the proxy", dial, headers, origin.encode())

    async def get_json(self, url: str) -> dict[str, Any]:
        """Return the JSON object at `url`.

        Raises:
            TportError: it isn't there, or is none.
        """
        page = await self._send(b"GET", url)
        if page.status != 200:
            raise TportError(f"{url}: {page_says(page.status, page.body)}")
        return decoded(page.body, dict[str, Any], url)

    # --- Requests --------------------------------------------------------------------------------

    async def _open(self, url: str) -> Page:
        return await self._follow(await self._send(b"GET", url))

    async def _follow(self, page: Page) -> Page:
        for _ in range(HOPS):
            if not (target := page.onward()):
                break
            page = await self._send(b"GET", target)
        return page

    async def _send(self, method: bytes, url: str, more: Headers = (), body: bytes = b"") -> Page:
        """Send a navigation on a connection of its own, and read the answer's page."""
        target = _target_of(url)
        parts = urlsplit(url)
        headers = (*self._headers(url), *_NAVIGATION, *more)
        framing = of_length(len(body)) if body else NO_BODY
        with in_words(parts.netloc):
            connection = ClientConnection(await self._dial(url))
            try:
                await connection.send_head(
                    method,
                    target,
                    headers,
                    framing,
                    keep_alive=False,
                    body=body,
                )
                head = await final_head(connection)
                read, _ = await read_body(connection)
            finally:
                with trio.move_on_after(GOODBYE, shield=True):
                    await connection.aclose()
        self._keep_cookies(parts.hostname or "", head.values(b"set-cookie"))
        return Page(url=url, status=head.status, headers=head.headers, body=read)

    async def _dial(self, url: str) -> TlsStream:
        parts = urlsplit(url)
        host = parts.hostname or ""
        stream = await dial_tcp(host, parts.port or 443)
        try:
            return await connect_tls(stream, self._context, server_name=host, ragged_end=True)
        except ConnectionProblem as problem:
            unknown = isinstance(problem.__cause__, ssl.SSLCertVerificationError)
            hint = _UNTRUSTED if unknown else problem.hint
            raise ConnectionProblem(f"{parts.netloc}: {problem}", hint=hint) from None

    def _headers(self, url: str) -> list[tuple[bytes, bytes]]:
        parts = urlsplit(url)
        headers = [(b"host", parts.netloc.encode("ascii")), (b"user-agent", USER_AGENT)]
        if jar := self._cookies.get(parts.hostname or ""):
            headers.append((b"cookie", b"; ".join(b"%b=%b" % pair for pair in jar.items())))
        return headers

    def _keep_cookies(self, host: str, lines: list[bytes]) -> None:
        """Keep what a host sets; all are for that host alone, as ours are."""
        jar = self._cookies.setdefault(host, {})
        for line in lines:
            pair, *attributes = line.split(b";")
            name, _, value = pair.strip().partition(b"=")
            if any(each.strip().lower() == b"max-age=0" for each in attributes):
                jar.pop(name, None)
            else:
                jar[name] = value


def _target_of(url: str) -> bytes:
    """Return what to ask for at a URL.

    Raises:
        ConnectionProblem: it is none that can be gone to.
    """
    wrong = ConnectionProblem(f"{url.partition('?')[0]!r} is no https address to go to")
    try:
        parts = urlsplit(url)
        port = parts.port
        target = ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode("ascii")
    except ValueError:
        raise wrong from None
    if parts.scheme != "https" or not parts.hostname or port == 0 or "@" in parts.netloc:
        raise wrong
    if not parts.netloc.isascii() or not TARGET.fullmatch(target):
        raise wrong
    return target


def decoded(body: bytes, type: type[T], what: str) -> T:
    """Return the JSON in `body`.

    Raises:
        TportError: it holds no such thing.
    """
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.DecodeError as problem:
        raise TportError(f"{what} is not as it was written: {problem}") from None


# --- Forms ---------------------------------------------------------------------------------------


class _Form(msgspec.Struct):
    action: str
    fields: dict[str, str]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: Mapping[str, str] = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(_Form(given.get("action", ""), {}))
        elif tag in ("input", "button") and self.found and "name" in given:
            self.found[-1].fields[given["name"]] = given.get("value", "")


def _form_with(page: Page, field: str) -> _Form | None:
    """Return the form of a page that has this field."""
    if page.status != 200:
        return None
    parser = _Forms()
    parser.feed(page.body.decode("utf-8", "replace"))
    return next((form for form in parser.found if field in form.fields), None)
