"""Pages of one application that call another: preflights, and who may read the answers (WEB-13)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tport.engine.access.cors import (
    VARY,
    answer_headers,
    for_peer,
    is_preflight,
    is_trusted,
    preflight,
    without_own,
)
from tport.engine.net.http1 import Exchange
from tport.engine.proto.fetch import is_asked_elsewhere
from tport.engine.proto.head import SAFE, RequestHead
from tport.engine.proxy.offers import Offers
from tport.engine.types.app import Cors

Field = tuple[bytes, bytes]


def heed_origin(exchange: Exchange, offers: Offers) -> Sequence[Field] | None:
    """See to the application's `cors` and `group`; return the headers that answer a preflight.

    None: it is no preflight, or none that may pass. A browser's preflight has no cookies, hence
    no session: where the definition lets it pass it is answered by the proxy (204), and reaches
    no application. Whatever else is answered on `exchange` will say who may read it, in the
    definition's words and no others.
    """
    request = exchange.request
    if offers.is_plain(request.host):
        return None
    cors = _cors_for(request, offers)
    if cors is None:
        if offers.peers(request.host):
            exchange.on_head = _varying
        return None
    has_cookies = any(name == b"cookie" for name, _ in request.headers)
    if not has_cookies and is_preflight(request.method, request.headers):
        allowed = preflight(cors, request.headers)
        if allowed is not None:
            return allowed
    exchange.on_head = partial(_with_cors, cors, request.headers)
    return None


def may_connect(request: RequestHead, offers: Offers) -> bool:
    """Tell whether a WebSocket may be opened from where its Origin says (WEB-10).

    Browsers send cookies along and ask for no permission: so only the application's own pages
    may, those of its group, and those of origins that `cors` lists by name and trusts with
    credentials.
    """
    origins = [value for name, value in request.headers if name == b"origin"]
    if not origins:
        return True  # no browser
    hosts = [value for name, value in request.headers if name == b"host"]
    if len(origins) == 1 and origins[0].lower() == b"https://" + hosts[0].lower():
        return True
    cors = _cors_for(request, offers)
    return cors is not None and is_trusted(cors, request.headers)


def may_change(request: RequestHead, offers: Offers) -> bool:
    """Tell whether a request that may change something is asked for by who may ask (WEB-05).

    All applications are one site, so that SameSite lets a hostile one have browsers send forms to
    the others, signed in. Where somebody goes, what is merely read and what a program sends is
    nobody's concern here. An application with `cookie_same_site: none` has said that forms of
    others are meant for it.
    """
    if request.method in SAFE or not is_asked_elsewhere(request.headers):
        return True
    app, cors = offers.at(request.host), _cors_for(request, offers)
    if app is not None and app.cookie_same_site == "none":
        return True
    return cors is not None and is_trusted(cors, request.headers)


def _cors_for(request: RequestHead, offers: Offers) -> Cors | None:
    """Return what holds for where this request comes from; None: the application's own word."""
    app = offers.at(request.host)
    if app is None:
        return None
    origins = [value for name, value in request.headers if name == b"origin"]
    if len(origins) == 1 and origins[0] in offers.peers(request.host):
        return for_peer(app.cors, origins[0], request.headers)
    return app.cors


def _with_cors(cors: Cors, asked: Sequence[Field], headers: Sequence[Field]) -> Sequence[Field]:
    return [*without_own(headers), *answer_headers(cors, asked)]


def _varying(headers: Sequence[Field]) -> Sequence[Field]:
    """Tell caches that an origin of the application's group would be answered otherwise."""
    return [*headers, VARY]
