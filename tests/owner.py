"""Somebody with a second factor at a whole cluster: what they do, by the pages that people see.

alice = Owner(stack, clock, "alice")
await alice.sign_up_with_app()
answer = await alice.sign_in("totp", alice.code())
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from html import unescape
from urllib.parse import urljoin, urlsplit

from tests.authenticator import Authenticator
from tests.browser import Browser, hidden_fields, whereto
from tests.stack import DOMAIN, PASSWORD, Answer, Stack
from tport.engine.access.totp import parse_secret_text, time_step, totp_code


class Owner:
    """Attributes:
    browser: theirs; another one is `elsewhere()`.
    secret: of their authenticator app; codes: the recovery codes that they wrote down.
    remote: the address they come from, as the load balancer before the proxy says.
    """

    def __init__(self, stack: Stack, clock: Callable[[], datetime], name: str = "alice") -> None:
        self.stack, self.name, self.remote = stack, name, ""
        self.browser = Browser(stack)
        self.secret = b""
        self.codes: list[str] = []
        self._clock = clock

    def elsewhere(self, remote: str = "") -> Owner:
        """Return the same person, or who knows as much, at another browser and address."""
        other = Owner(self.stack, self._clock, self.name)
        other.secret, other.codes, other.remote = self.secret, self.codes, remote
        return other

    @property
    def is_signed_in(self) -> bool:
        return self.stack.web_cookie in self.browser.jar.get(DOMAIN, {})

    @property
    def web(self) -> str:
        """The web session's secret."""
        return self.browser.jar[DOMAIN][self.stack.web_cookie]

    def passkey(self) -> Authenticator:
        """Return an honest passkey for this proxy."""
        return Authenticator(self.stack.proxy_url, DOMAIN)

    def code(self, ahead: int = 0) -> str:
        """What the authenticator app shows now, or in so many steps."""
        return totp_code(self.secret, time_step(self._clock()) + ahead)

    def wrong_code(self) -> str:
        right = {self.code(ahead) for ahead in range(-2, 3)}
        return next(code for n in range(10) if (code := f"{n:06}") not in right)

    # Signing up

    async def accept(self, *roles: str) -> Answer:
        """Be invited and choose a password; return the page that follows."""
        made = await self.stack.admin.create_user(
            name=self.name, roles=roles or ("access",), traits={}
        )
        return await self.choose_password(made.url)

    async def choose_password(self, invite: str, password: str = PASSWORD) -> Answer:
        url = f"{self.stack.proxy_url}{urlsplit(invite).path}"
        return await self._sent(url, {"password": password, "confirm": password})

    async def sign_up_with_app(self, *roles: str) -> Answer:
        """Choose a password and set up an app; return the page with the recovery codes."""
        page = await self.accept(*roles)
        [key] = re.findall(rb'id="totp-secret">([^<]+)<', page.body)
        self.secret = parse_secret_text(key.decode())
        return self._noted(await self.second(page, "totp", self.code()))

    async def sign_up_with_passkey(self, passkey: Authenticator, *roles: str) -> Answer:
        page = await self.accept(*roles)
        return self._noted(await self.second(page, "webauthn", passkey.create(options(page))))

    # Signing in

    async def give_password(self, password: str = PASSWORD) -> Answer:
        """Send name and password; return the page that follows."""
        url = f"{self.stack.proxy_url}/web/login"
        return await self._sent(url, {"username": self.name, "password": password})

    async def second(self, page: Answer, field: str, value: str) -> Answer:
        """Send one proof by the form of this page; return the page that follows."""
        url = f"{self.stack.proxy_url}/web/login/second"
        return await self._sent(url, {field: value}, page)

    async def sign_in(self, field: str, value: str) -> Answer:
        """Sign in with the password and this proof."""
        return await self.second(await self.give_password(), field, value)

    async def begin_passkey(self) -> Answer:
        """Ask to sign in by a passkey alone; return the page that follows."""
        url = f"{self.stack.proxy_url}/web/login"
        page = await self.browser.ask(url)
        return await self._sent(f"{url}/passkey", {}, page)

    # Pages of one's own

    async def page(self, path: str) -> Answer:
        return await self.browser.go(f"{self.stack.proxy_url}{path}")

    async def send(
        self, path: str, fields: Mapping[str, str], page: Answer | None = None
    ) -> Answer:
        return await self._sent(f"{self.stack.proxy_url}{path}", fields, page)

    async def _sent(
        self, url: str, fields: Mapping[str, str], page: Answer | None = None
    ) -> Answer:
        headers = {"X-Forwarded-For": self.remote} if self.remote else {}
        page = page or await self.browser.ask(url)
        shown = {name: "" for name in hidden_fields(page.body.decode()) if name == "webauthn"}
        answer = await self.browser.submit(url, {**shown, **fields}, headers, page=page)
        if (then := whereto(answer)) is not None:
            return await self.browser.go(urljoin(url, then))
        return answer

    def _noted(self, page: Answer) -> Answer:
        self.codes = re.findall(r"<li><code>([a-z2-7-]{19})</code></li>", page.body.decode())
        assert self.is_signed_in, (page.status, page.body)
        return page


def options(page: Answer) -> str:
    """Return what the page would give to the browser's authenticator."""
    [found] = re.findall(r'data-options="([^"]*)"', page.body.decode())
    return unescape(found)
