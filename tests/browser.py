"""A browser of sorts for a whole cluster: cookies by host, redirects, forms; no script, no pages shown.

    browser = Browser(stack)
    await browser.sign_in("alice")
    page = await browser.go(stack.url("echo", "/deep?link=1"))

It keeps the rules that our security leans on: `__Host-` cookies go back to their own host only,
and Fetch Metadata is what the browser says, never the page.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from html import unescape
from urllib.parse import urlencode, urljoin, urlsplit

from tests.stack import DOMAIN, PASSWORD, Answer, Stack

NAVIGATION: Mapping[str, str] = {
    "Accept": "text/html,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
}
FORM = "application/x-www-form-urlencoded"


class Browser:
    """One browser, nobody's at first.

    Attributes:
        jar: host → cookie name → value.
        trail: every URL asked for, in order.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.jar: dict[str, dict[str, str]] = {}
        self.trail: list[str] = []

    async def ask(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send one request with this host's cookies, and keep those of the answer."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.trail.append(url)
        sent = {**NAVIGATION, **(headers or {})}
        if cookies := self.jar.get(host):
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        answer = await self.stack.request(
            host, target, sent, method=method, body=body, context=context
        )
        self._keep(host, answer)
        return answer

    async def go(self, url: str, *, hops: int = 10) -> Answer:
        """Navigate: follow redirects, and the refresh of a page that asks for one."""
        for _ in range(hops):
            answer = await self.ask(url)
            if (next_ := whereto(answer)) is None:
                return answer
            url = urljoin(url, next_)
        raise AssertionError(f"{hops} redirects: {self.trail}")

    async def submit(
        self,
        url: str,
        fields: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        *,
        page: Answer | None = None,
    ) -> Answer:
        """Open the form at `url` (or take `page`), fill it in, and send it from our own page."""
        page = page or await self.ask(url)
        origin = f"https://{urlsplit(url).netloc}"
        sent = {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Content-Type": FORM}
        body = urlencode({**hidden_fields(page.body.decode()), **fields}).encode()
        where = url.partition("?")[0]
        return await self.ask(where, {**sent, **(headers or {})}, method="POST", body=body)

    async def sign_in(self, name: str, *, next_: str = "") -> Answer:
        """Sign in with the form, and go where it leads."""
        url = f"{self.stack.proxy_url}/web/login?next={next_}"
        answer = await self.submit(url, {"username": name, "password": PASSWORD})
        assert answer.status == 303, (answer.status, answer.body)
        return await self.go(urljoin(url, answer.header("location")))

    def secrets(self) -> set[str]:
        """Return the values of all cookies held now."""
        return {value for cookies in self.jar.values() for value in cookies.values()}

    def _keep(self, host: str, answer: Answer) -> None:
        for line in answer.all("set-cookie"):
            pair, *attributes = (part.strip() for part in line.split(";"))
            name, _, value = pair.partition("=")
            cookies = self.jar.setdefault(host, {})
            if "max-age=0" in (attribute.lower() for attribute in attributes):
                cookies.pop(name, None)
            else:
                cookies[name] = value


def whereto(answer: Answer) -> str | None:
    """Return where an answer sends its browser, None: nowhere."""
    if 300 <= answer.status < 400:
        return answer.header("location")
    if answer.header("refresh").startswith("0; url="):
        return answer.header("refresh").removeprefix("0; url=")
    refresh = re.search(rb'http-equiv="refresh" content="0; url=([^"]*)"', answer.body)
    return unescape(refresh[1].decode()) if refresh else None


def hidden_fields(html: str) -> dict[str, str]:
    """Return the hidden fields of the page's forms."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html)
    return {name: unescape(value) for name, value in found}


def is_home(url: str) -> bool:
    """Tell whether a URL is at the proxy or at an application below it, as a browser reads it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" and (host == DOMAIN or host.endswith(f".{DOMAIN}"))
