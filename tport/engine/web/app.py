"""The proxy's own host as an ASGI application: all routes, and what each error becomes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    Locked,
    NotFound,
    RemoteProtocolError,
    Unavailable,
)
from tport.engine.types.failure import Page
from tport.engine.types.setting import Setting
from tport.engine.web.account import OwnAccountPages
from tport.engine.web.accounts import AccountPages
from tport.engine.web.add_app import AddAppPages
from tport.engine.web.agents import AgentPages
from tport.engine.web.apps import AppPages
from tport.engine.web.audit import AuditPages
from tport.engine.web.certificates import CertificatePages
from tport.engine.web.device_tokens import DeviceTokenPages
from tport.engine.web.errors import ErrorPages
from tport.engine.web.everybodys_tokens import EverybodysTokenPages
from tport.engine.web.icons import IconFiles
from tport.engine.web.join import JoinPages
from tport.engine.web.json_api import JsonApi
from tport.engine.web.launch import PATH as LAUNCH_PATH
from tport.engine.web.launch import Launcher, OpenLaunch
from tport.engine.web.locks import LockPages
from tport.engine.web.own_sessions import OwnSessionPages
from tport.engine.web.pages import PublicFiles
from tport.engine.web.prove import ProofPages
from tport.engine.web.refused import PATH as REQUEST_PATH
from tport.engine.web.refused import RefusedPages
from tport.engine.web.requests import RequestPages
from tport.engine.web.respond import send_page
from tport.engine.web.roles import RolePages
from tport.engine.web.second_step import SecondStep
from tport.engine.web.sessions import SessionPages
from tport.engine.web.settings import SettingsPages
from tport.engine.web.site import SECOND_STEP, Clock, Site, for_people
from tport.engine.web.sso import SsoPages
from tport.engine.web.tokens import TokenPages
from tport.engine.web.users import UserPages
from tport.engine.web.visit import SignedInRoutes, sentence


def web_app(
    *,
    auth: AuthAPI,
    cluster: str,
    cluster_id8: str,
    public_addr: str,
    clock: Clock,
    secret: bytes,
    open_launch: OpenLaunch,
    settings: Sequence[Setting] = (),
) -> Starlette:
    """Make the web pages of one proxy. They keep no state of their own, and need trio.

    Args:
        auth: asked on every request that has a session cookie.
        cluster: the cluster's name, part of the Applications page's path.
        cluster_id8: 8 hex digits, the end of our cookies' names.
        public_addr: `host` or `host:port` at which people reach this proxy.
        secret: at least 32 random bytes, the same on all proxies of the cluster: binds forms.
        open_launch: unseals the launcher's `state`; None: not sealed by this cluster.
        settings: what this proxy works with, to be shown.
    """
    site = Site(
        auth=auth,
        cluster=cluster,
        cluster_id8=cluster_id8,
        public_addr=public_addr,
        secret=secret,
    )
    accounts = AccountPages(site, clock)
    second = SecondStep(site, clock)
    refused = RefusedPages(site, clock, open_launch)
    launcher = Launcher(site, clock, open_launch, refused.show)
    signed_in = SignedInRoutes(site, clock)
    apps = AppPages(site)
    public = PublicFiles(site)
    app = Starlette(
        routes=[
            _get("/", apps.index),
            _get("/web", apps.index),
            _both("/web/login", accounts.login, accounts.submit_login),
            _both(SECOND_STEP, second.show, second.submit),
            _post("/web/login/passkey", second.begin_passkey),
            _both("/web/invite/{token}", accounts.invite, accounts.submit_invite),
            _both("/web/logout", accounts.logout, accounts.submit_logout),
            signed_in.get("/web/cluster/{cluster}/apps", apps.apps),
            *SsoPages(site, clock).routes(signed_in),
            *OwnAccountPages().routes(signed_in),
            *ProofPages().routes(signed_in),
            *apps.routes(signed_in),
            *AddAppPages().routes(signed_in),
            *UserPages().routes(signed_in),
            *RolePages().routes(signed_in),
            *RequestPages().routes(signed_in),
            *JoinPages().routes(signed_in),
            *SessionPages().routes(signed_in),
            *OwnSessionPages().routes(signed_in),
            *CertificatePages().routes(signed_in),
            *LockPages().routes(signed_in),
            *SettingsPages(settings).routes(signed_in),
            *TokenPages().routes(signed_in),
            *AgentPages().routes(signed_in),
            *DeviceTokenPages().routes(signed_in),
            *EverybodysTokenPages().routes(signed_in),
            *AuditPages().routes(signed_in),
            *JsonApi(site).routes(),
            *IconFiles(site).routes(),
            _get(LAUNCH_PATH, launcher.launch),
            _both(REQUEST_PATH, refused.only_posts, refused.submit),
            _get("/webapi/ping", public.ping),
            _get("/webapi/find", public.find),
            _get("/webapi/cas", public.authorities),
            _get("/.well-known/jwks.json", public.jwks),
            _get("/healthz", public.healthz),
            _get("/robots.txt", public.robots),
            _get("/favicon.ico", public.favicon),
            _get("/static/{name}", public.static),
        ],
        exception_handlers=_handlers(site.errors),
    )
    app.router.redirect_slashes = False  # it would build a URL out of the Host header
    return app


Handler = Callable[[Request], Awaitable[Response]]


def _get(path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=["GET"])


def _post(path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=["POST"])


def _both(path: str, show: Handler, submit: Handler) -> Route:
    async def handle(request: Request) -> Response:
        return await (submit if request.method == "POST" else show)(request)

    return Route(path, handle, methods=["GET", "POST"])


class _Answer:
    """Turns an error into a page, or JSON; Starlette would run a plain function in a thread."""

    def __init__(self, make: Callable[[bool, Exception], Page]) -> None:
        self._make = make

    async def __call__(self, request: Request, error: Exception) -> Response:
        headers = error.headers if isinstance(error, HTTPException) else None
        return send_page(self._make(for_people(request), error), headers=(headers or {}).items())


def _handlers(pages: ErrorPages) -> dict[type[Exception], _Answer]:
    unavailable = _Answer(lambda html, _: pages.unavailable(html=html))
    return {
        Unavailable: unavailable,
        ConnectionProblem: unavailable,
        RemoteProtocolError: unavailable,
        LimitExceeded: _Answer(lambda html, error: _too_many(pages, html, error)),
        NotFound: _Answer(lambda html, _: pages.not_found(html=html)),
        InvalidRequest: _Answer(lambda html, error: _refused(pages, html, error)),
        Locked: _Answer(lambda html, error: pages.locked(html=html, message=str(error))),
        AccessDenied: _Answer(lambda html, error: _refused(pages, html, error)),
        HTTPException: _Answer(lambda html, error: _by_router(pages, html, error)),
        Exception: _Answer(lambda html, _: pages.broken(html=html)),
    }


def _too_many(pages: ErrorPages, html: bool, error: Exception) -> Page:
    assert isinstance(error, LimitExceeded)
    return pages.too_many(html=html, retry_after=error.retry_after)


def _refused(pages: ErrorPages, html: bool, error: Exception) -> Page:
    assert isinstance(error, InvalidRequest | AccessDenied)
    return pages.plain(
        html=html,
        status=error.status,
        error="invalid-request" if isinstance(error, InvalidRequest) else "access-denied",
        title="This was refused",
        message=sentence(str(error)),
        advice=sentence(error.hint),
    )


def _by_router(pages: ErrorPages, html: bool, error: Exception) -> Page:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return pages.not_found(html=html)
    return pages.plain(
        html=html,
        status=error.status_code,
        error="method-not-allowed" if error.status_code == 405 else "refused",
        title="This page cannot do that",
        message="The address exists, but does not take this kind of request.",
    )
