"""The way to an identity provider and back, and the pages along it.

/web/login/sso/<kind>/<name>?next=        to the provider
/v1/webapi/<kind>/callback[/<name>]       back, with an answer; Teleport's paths
/v1/webapi/oidc/logout/<name>             the provider says that somebody left (back-channel)
/web/prove/sso?next=                      to the provider, to show anew that it is you
/web/sso/test/<id>                        to the provider, for `tport sso test`
"""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.sso import ConnectorInfo, SsoDone, SsoRefused
from tport.engine.api.wire import TOO_NEW
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    RemoteProtocolError,
    TportError,
    Unavailable,
)
from tport.engine.types.launch import own_path
from tport.engine.web.forms import new_pre_session, read_form
from tport.engine.web.launch import after_form
from tport.engine.web.respond import answer, redirect, render
from tport.engine.web.site import MAX_NEXT, Clock, Site, here, holder_of
from tport.engine.web.visit import PROVE, SignedInRoutes, Visit, sentence

LOGIN: Final = "/web/login"
CALLBACK: Final = "/v1/webapi/{kind}/callback"
PROOF: Final = f"{PROVE}/sso"
MAX_LOGOUT_TOKEN: Final = 64 * 1024  # bytes of a form with one


def connector_url(connector: ConnectorInfo, next_: str) -> str:
    """Return the path that leads to a connector's provider."""
    query = f"?next={quote(next_, safe='')}" if next_ != "/" else ""
    return f"{LOGIN}/sso/{quote(connector.id)}{query}"


class SsoPages:
    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock

    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            Route(f"{LOGIN}/sso/{{kind}}/{{name}}", self.begin, methods=["GET"]),
            Route(CALLBACK, self.finish, methods=["GET"]),
            Route(f"{CALLBACK}/{{name}}", self.finish, methods=["GET"]),
            Route("/v1/webapi/oidc/logout/{name}", self.provider_left, methods=["POST"]),
            Route("/web/sso/test/{id}", self.begin_test, methods=["GET"]),
            signed_in.get(PROOF, self.begin_proof),
        ]

    # There

    async def begin(self, request: Request) -> Response:
        """GET /web/login/sso/<kind>/<name>?next=<own path>"""
        next_ = own_path(request.query_params.get("next", ""), limit=MAX_NEXT)
        if await self._site.session(request) is not None:
            return redirect(next_)
        connector = f"{request.path_params['kind']}/{request.path_params['name']}"
        binding, new = self._site.pre_session(request)
        try:
            url = await self._site.auth.begin_sso(
                connector=connector,
                browser=holder_of(binding),
                address=self._site.public_addr,
                next=next_,
                remote=self._site.visitor(request)["remote"],
            )
        except _TOLD as problem:
            return self._refused(problem, connector, next_)
        response = redirect(url)
        return self._site.keep_pre_session(response, binding) if new else response

    async def begin_test(self, request: Request) -> Response:
        """GET /web/sso/test/<id>: whoever has the address may try; nobody is signed in by it."""
        binding, new = self._site.pre_session(request)
        try:
            url = await self._site.auth.begin_sso_test_visit(
                test=request.path_params["id"],
                browser=holder_of(binding),
                address=self._site.public_addr,
                remote=self._site.visitor(request)["remote"],
            )
        except _TOLD as problem:
            return self._refused(problem, "", "/")
        response = redirect(url)
        return self._site.keep_pre_session(response, binding) if new else response

    async def begin_proof(self, visit: Visit) -> Response:
        """GET /web/prove/sso?next=<own path>"""
        next_ = own_path(visit.request.query_params.get("next", ""), limit=MAX_NEXT)
        binding, new = self._site.pre_session(visit.request)
        try:
            url = await self._site.auth.begin_sso_proof(
                secret=self._site.session_secret(visit.request),
                browser=holder_of(binding),
                address=self._site.public_addr,
                next=next_,
                remote=self._site.visitor(visit.request)["remote"],
            )
        except (ConnectionProblem, LimitExceeded, NotFound, Unavailable) as problem:
            return self._refused(problem, "", next_)
        response = redirect(url)
        return self._site.keep_pre_session(response, binding) if new else response

    # And back

    async def finish(self, request: Request) -> Response:
        """GET /v1/webapi/<kind>/callback[/<name>]"""
        path, _, query = here(request).partition("?")
        binding, is_new = self._site.pre_session(request)
        step = new_pre_session()
        visitor = self._site.visitor(request, "" if is_new else binding)
        finish = partial(self._site.auth.finish_sso, path=path, query=query, **visitor)
        try:
            done = await finish(steps=holder_of(step))
        except InvalidRequest as problem:
            if problem.hint != TOO_NEW:
                raise
            # An auth of 0.1 has looked at nothing yet, and keeps steps by what the way there was begun by.
            done, step = await finish(), binding
        if isinstance(done, SsoRefused):
            return self._page(done)
        return await self._done(request, done, step)

    async def _done(self, request: Request, done: SsoDone, step: str) -> Response:
        if done.outcome == "tested":
            return render("sso_tested.html", cluster=self._site.cluster)
        next_ = own_path(done.next, limit=MAX_NEXT)
        if done.answer is None:  # shown anew: the session is the same
            return redirect(next_)
        # As after a form: a provider may let its own form lead no further than here.
        return await self._site.proven(
            request, done.answer, after_form(next_), self._clock(), step=step
        )

    def _refused(self, problem: TportError, connector: str, next_: str) -> Response:
        return self._page(
            SsoRefused(
                problem=str(problem),
                hint=problem.hint,
                display=connector.rpartition("/")[2],
                connector=connector,
                next=next_,
            ),
            problem.status,
        )

    def _page(self, refused: SsoRefused, status: int = 403) -> Response:
        next_ = own_path(refused.next, limit=MAX_NEXT)
        info = ConnectorInfo(id=refused.connector, display=refused.display)
        return render(
            "sso_refused.html",
            status,
            cluster=self._site.cluster,
            problem=sentence(refused.problem),
            hint=sentence(refused.hint),
            display=refused.display,
            claims=refused.claims,
            left_out=refused.left_out,
            looked_at=refused.looked_at,
            again_url=connector_url(info, next_) if refused.connector else "",
            login_url=f"{LOGIN}?{urlencode({'stay': '', 'next': next_})}",
        )

    # Leaving

    async def provider_left(self, request: Request) -> Response:
        """POST /v1/webapi/oidc/logout/<name>: OpenID Connect Back-Channel Logout 1.0 §2.5."""
        form = await read_form(
            request.headers.get("content-type", ""), request.stream(), limit=MAX_LOGOUT_TOKEN
        )
        try:
            await self._site.auth.end_sso_sessions(
                connector=f"oidc/{request.path_params['name']}",
                logout_token=form.get("logout_token", ""),
                remote=self._site.visitor(request)["remote"],
            )
        except (AccessDenied, InvalidRequest, NotFound):
            return answer(b'{"error":"invalid_request"}', "application/json", 400)
        return answer(b"", "text/plain", 200)


_TOLD: Final = (
    AccessDenied,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    RemoteProtocolError,
    Unavailable,
)
