"""What a person, or a program, is told instead of an application's answer, and how that is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tport.engine.net.http1 import Exchange
from tport.engine.proto.fetch import wants_html
from tport.engine.proto.head import RequestHead as HttpHead
from tport.engine.types.failure import Failure, Page


class Pages(Protocol):
    """What a person, or a program, is told. The web service's pages keep this promise."""

    def failure(self, failure: Failure, *, html: bool, now: datetime) -> Page: ...
    def not_signed_in(self, *, html: bool, login_url: str, reason: str) -> Page: ...
    def bad_device_token(self) -> Page: ...
    def too_many(self, *, html: bool, retry_after: float) -> Page: ...
    def not_sent(self, *, host: str, login_url: str, cross_site: bool) -> Page: ...
    def framed(self, *, host: str, url: str) -> Page: ...
    def denied(self, *, html: bool, user: str, host: str) -> Page: ...
    def locked(self, *, html: bool, message: str) -> Page: ...
    def not_found(self, *, html: bool) -> Page: ...
    def misdirected(self, *, html: bool, host: str) -> Page: ...
    def head_too_large(self, *, html: bool, host: str) -> Page: ...
    def broken(self, *, html: bool) -> Page: ...
    def unavailable(
        self, *, html: bool, retry_after: float = ..., request_id: str = ""
    ) -> Page: ...
    def plain(
        self,
        *,
        html: bool,
        status: int,
        error: str,
        title: str,
        message: str,
        action: tuple[str, str] | None = None,
    ) -> Page: ...


async def send_page(exchange: Exchange, page: Page, *extra: tuple[bytes, bytes]) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in page.headers]
    await exchange.respond(page.status, [*headers, *extra], page.body)


async def redirect(exchange: Exchange, location: str, *extra: tuple[bytes, bytes]) -> None:
    headers = [
        (b"location", location.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        *extra,
    ]
    await exchange.respond(302, headers)


def cross_site(pages: Pages, request: HttpHead) -> Page:
    """Return the refusal of what only an application's own pages may ask for."""
    return pages.plain(
        html=wants_html(request.headers),
        status=403,
        error="cross-site",
        title="Another site asked for this",
        message=f"A page of another site asked {request.host} for something that only"
        " its own pages may ask for, and those that its entry trusts by cors or group.",
    )
