"""Every response of the proxy's own host is made here, so that none lacks its headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final

from starlette.responses import Response, StreamingResponse

from tport.engine.types.failure import Page
from tport.engine.web.assets import (
    FRAME_SCRIPT,
    FRAME_STYLE,
    ICON,
    PASSKEY_SCRIPT,
    SCRIPT,
    STYLE,
    TEMPLATES,
)

# Only our own files, no inline style or script, never framed; a form goes nowhere but home.
CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not no-referrer: with that, browsers send `Origin: null` with our own forms
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def render(name: str, status: int = 200, /, **values: object) -> Response:
    """Fill the template `name`."""
    body = TEMPLATES.get_template(name).render(
        style_url=STYLE.url,
        frame_style_url=FRAME_STYLE.url,
        frame_script_url=FRAME_SCRIPT.url,
        script_url=SCRIPT.url,
        passkey_script_url=PASSKEY_SCRIPT.url,
        icon_url=ICON.url,
        **values,
    )
    return answer(body.encode(), "text/html; charset=utf-8", status)


def answer(
    body: bytes, media_type: str, status: int = 200, *, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """Make a response; `headers` replace those that every response has."""
    return Response(body, status, headers={**HEADERS, "content-type": media_type, **dict(headers)})


def stream(
    pieces: AsyncIterator[bytes], media_type: str, *, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """Make a response of `pieces` as they come; when they fail in the middle, it is cut short."""
    all_headers = {**HEADERS, "content-type": media_type, **dict(headers)}
    return StreamingResponse(pieces, headers=all_headers)


def redirect(location: str, status: int = 302) -> Response:
    """Send the browser to `location`: a path of our own, or an address made from a registered host."""
    return Response(b"", status, headers={**HEADERS, "location": location})


def send_page(page: Page, *, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """Send an error page; its own Content-Security-Policy replaces ours."""
    return Response(
        page.body, page.status, headers={**HEADERS, **dict(page.headers), **dict(headers)}
    )
