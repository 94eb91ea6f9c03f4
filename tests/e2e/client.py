"""A plain HTTPS client that behaves as a browser does, as far as signing in and cookies go.

Every host is dialled at 127.0.0.1 and verified by name against the cluster's web authority alone.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

from tport.engine.access.totp import parse_secret_text, time_step, totp_code

TIMEOUT = 60.0  # s for one read or write
HOPS = 12  # of redirects; the whole way through the launcher takes 5

NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-User": "?1",
}
_KEY = re.compile(r'id="totp-secret">([^<]+)<')
_LINK = re.compile(r'<a class="button" href="([^"]+)"')
_HEAD = re.compile(r"<head>.*?</head>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="0; url=([^"]+)"')

Body = bytes | Iterable[bytes] | None


@dataclass
class Page:
    """An answer, read to its end. Header names are lower case."""

    url: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __repr__(self) -> str:
        """Say what a page says: a failed test then tells why, and not how it is marked up."""
        words = " ".join(unescape(_TAG.sub(" ", _HEAD.sub("", self.text))).split())
        return f"Page({self.status} {self.url}: {words[:1000]})"

    def header(self, name: str) -> str:
        """The first value; "" if there is none."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get").lower()))
        elif tag == "input" and self.forms and "name" in values:
            self.forms[-1].fields[values["name"]] = values.get("value", "")


class _Connection(http.client.HTTPSConnection):
    """HTTPS to 127.0.0.1, with the URL's host as SNI and the name to verify."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, context=context, timeout=TIMEOUT)
        self.context = context

    def connect(self) -> None:
        raw = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        try:
            raw.getpeername()
        except OSError:  # reset meanwhile: ssl would raise, and leave it open
            raw.close()
            raise
        self.sock = self.context.wrap_socket(raw, server_hostname=self.host)


class Client:
    """One person's browser: cookies by host, forms, redirects."""

    def __init__(self, ca: str, port: int) -> None:
        self.context = ssl.create_default_context(cadata=ca)
        self.context.set_alpn_protocols(["http/1.1"])
        self.port = port
        self.cookies: dict[str, dict[str, str]] = {}  # host → name → value

    # --- One request ------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Page:
        """Send one request with this host's cookies; no redirect is followed."""
        response, connection = self.stream(method, url, headers, body)
        with connection:
            data = response.read()
        return Page(url, response.status, _lower(response), data)

    def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> tuple[http.client.HTTPResponse, _Closing]:
        """Send one request; the body of the answer is the caller's to read, and the connection to close."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection = _Connection(host, parts.port or 443, self.context)
        closing = _Closing(connection)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        given = dict(headers or {})
        if jar := self.cookies.get(host):
            given.setdefault("Cookie", "; ".join(f"{k}={v}" for k, v in jar.items()))
        chunked = body is not None and not isinstance(body, bytes)
        if chunked and not any(name.lower() == "content-length" for name in given):
            given["Transfer-Encoding"] = "chunked"
        try:
            connection.request(method, target, body, given, encode_chunked=chunked)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        self._keep_cookies(host, response)
        return response, closing

    def _keep_cookies(self, host: str, response: http.client.HTTPResponse) -> None:
        jar = self.cookies.setdefault(host, {})
        for line in response.headers.get_all("set-cookie") or ():
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0" or morsel.value == "":
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.value

    def cookie_header(self, url: str) -> str:
        """What this browser would send in Cookie."""
        return "; ".join(
            f"{k}={v}" for k, v in self.cookies.get(urlsplit(url).hostname or "", {}).items()
        )

    # --- Navigation -----------------------------------------------------------------------------------

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Page:
        """Navigate to `url`: redirects and immediate refreshes are followed."""
        return self._follow(self.request("GET", url, {**NAVIGATION, **(headers or {})}))

    def _follow(self, page: Page) -> Page:
        for _ in range(HOPS):
            target = page.header("location") if page.status in (301, 302, 303, 307, 308) else ""
            if not target and (refresh := _REFRESH.search(page.text)):
                target = unescape(refresh[1])
            if not target:
                return page
            page = self.request("GET", urljoin(page.url, target), NAVIGATION)
        raise AssertionError(f"more than {HOPS} redirects, the last to {page.url}")

    def submit(self, page: Page, fields: Mapping[str, str], *, at: str = "") -> Page:
        """Fill a form of `page` and send it as a browser does. The first one whose action has `at`."""
        parser = _Forms()
        parser.feed(page.text)
        found = [form for form in parser.forms if at in form.action]
        assert found, f"no form in {page.url} ({page.status}):\n{page.text[:2000]}"
        form = found[0]
        parts = urlsplit(page.url)
        headers = {
            **NAVIGATION,
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"{parts.scheme}://{parts.netloc}",
            "Sec-Fetch-Site": "same-origin",
        }
        body = urlencode({**form.fields, **fields}).encode()
        return self._follow(self.request("POST", urljoin(page.url, form.action), headers, body))

    def sign_up(self, link: str, password: str) -> Page:
        """Accept an invite: choose a password, and where one is required an authenticator app."""
        page = self.submit(self.open(link), {"password": password, "confirm": password})
        if 'name="skip"' in page.text:
            page = self.submit(page, {"skip": "yes"}, at="/web/login/second")
        elif key := _KEY.search(page.text):
            secret = parse_secret_text(key[1])
            code = totp_code(secret, time_step(datetime.now(UTC)))
            page = self.submit(page, {"totp": code, "to": "enrol"}, at="/web/login/second")
            assert "recovery codes" in page.text, page.text[:2000]
            page = self.open(urljoin(page.url, _LINK.findall(page.text)[-1]))
        assert page.status == 200, f"{page.status}: {page.text[:2000]}"
        return page

    def sign_in(self, page: Page, name: str, password: str) -> Page:
        """Fill the sign-in page."""
        return self.submit(page, {"username": name, "password": password}, at="/web/login")


class _Closing:
    """Closes a connection at the end of a block."""

    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _lower(response: http.client.HTTPResponse) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in response.getheaders()]
