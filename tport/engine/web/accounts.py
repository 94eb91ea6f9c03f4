"""The pages where a session begins and ends: sign-in, invite, sign-out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tport.engine.api.answers import InviteInfo
from tport.engine.errors import AccessDenied, InvalidRequest, LimitExceeded, NotFound, TportError
from tport.engine.types.launch import own_path
from tport.engine.web.errors import retry_seconds
from tport.engine.web.forms import new_pre_session, read_form
from tport.engine.web.launch import after_form
from tport.engine.web.respond import redirect, render, send_page
from tport.engine.web.site import (
    FOREIGN_FORM,
    MAX_NEXT,
    Clock,
    Site,
    clock_time,
    for_people,
)
from tport.engine.web.sso import connector_url
from tport.engine.web.visit import sentence

# In the query of the sign-in page: somebody wants to see it, though there is one way on only.
_STAYS: Final = frozenset({"signed-out", "again", "stay"})
WRONG: Final = "Wrong user name or password."
# Said to everybody, known or not and locked out or not: it tells a stranger nothing.
ADVICE: Final = (
    "Forgotten? Whoever administers this cluster makes you a new link. After five failures in a row"
    " an account rests for half an hour, or longer."
)

_INVITE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


class AccountPages:
    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock

    # Signing in

    async def login(self, request: Request) -> Response:
        """GET /web/login?next=<own path>"""
        next_ = own_path(request.query_params.get("next", ""), limit=MAX_NEXT)
        if await self._site.session(request) is not None:
            return redirect(next_)
        choices = await self._site.auth.sign_in_choices()
        is_asked = not _STAYS.isdisjoint(request.query_params)
        if len(choices.connectors) == 1 and not choices.passwords and not is_asked:
            return redirect(connector_url(choices.connectors[0], next_))
        notice = ""
        if "signed-out" in request.query_params:
            notice = "You are signed out, here and in every application you had opened."
        elif "again" in request.query_params:
            notice = "That took too long, or was begun anew in another tab. Please start again."
        return await self._login_form(request, next_=next_, notice=notice)

    async def submit_login(self, request: Request) -> Response:
        """POST /web/login"""
        if not self._site.is_own_post(request):
            return await self._login_form(request, 403, problem=FOREIGN_FORM)
        form = await read_form(request.headers.get("content-type", ""), request.stream())
        next_ = own_path(form.get("next", ""), limit=MAX_NEXT)
        username, password = form.get("username", "").strip(), form.get("password", "")
        binding, new = self._site.pre_session(request)
        if problem := self._site.form_problem(
            form.get("token", ""), purpose="login", binding=binding, new=new
        ):
            return await self._login_form(
                request, 403, next_=next_, username=username, problem=problem
            )
        needed = (
            ("username", username, "Enter your user name."),
            ("password", password, "Enter your password."),
        )
        if faults := {field: text for field, value, text in needed if not value}:
            return await self._login_form(
                request, 400, next_=next_, username=username, faults=faults
            )
        step = new_pre_session()
        try:
            answer = await self._site.auth.sign_in(
                username=username, password=password, **self._site.visitor(request, step)
            )
        except LimitExceeded as limit:
            wait = retry_seconds(limit.retry_after)
            response = await self._login_form(
                request,
                429,
                next_=next_,
                username=username,
                problem=f"Too many tries. Wait {wait} seconds, then try again.",
            )
            response.headers["retry-after"] = wait
            return response
        except (AccessDenied, InvalidRequest):  # a name that nobody can have is just as wrong
            return await self._login_form(
                request, 403, next_=next_, username=username, problem=WRONG
            )
        return await self._site.proven(request, answer, after_form(next_), self._clock(), step=step)

    async def _login_form(
        self,
        request: Request,
        status: int = 200,
        *,
        next_: str = "/",
        username: str = "",
        problem: str = "",
        notice: str = "",
        faults: Mapping[str, str] | None = None,
    ) -> Response:
        policy = await self._site.auth.factor_policy()
        choices = await self._site.auth.sign_in_choices()
        binding, new = self._site.pre_session(request)
        response = render(
            "login.html",
            status,
            cluster=self._site.cluster,
            token=self._site.token("login", binding),
            next=next_,
            username=username[:128],
            problem=problem,
            advice=ADVICE if problem == WRONG else "",
            notice=notice,
            faults=faults or {},
            passkeys="webauthn" in policy.kinds and choices.passwords,
            passwords=choices.passwords,
            connectors=[
                {"display": each.display, "url": connector_url(each, next_)}
                for each in choices.connectors
            ],
        )
        return self._site.keep_pre_session(response, binding) if new else response

    # Invites

    async def invite(self, request: Request) -> Response:
        """GET /web/invite/{token}"""
        token = request.path_params["token"]
        try:
            info = await self._invite_info(token)
        except NotFound:
            return self._no_invite(request)
        return self._invite_form(request, info)

    async def submit_invite(self, request: Request) -> Response:
        """POST /web/invite/{token}"""
        token = request.path_params["token"]
        try:
            info = await self._invite_info(token)
        except NotFound:
            return self._no_invite(request)
        if not self._site.is_own_post(request):
            return self._invite_form(request, info, 403, problem=FOREIGN_FORM)
        form = await read_form(request.headers.get("content-type", ""), request.stream())
        password, confirm = form.get("password", ""), form.get("confirm", "")
        binding, new = self._site.pre_session(request)
        if problem := self._site.form_problem(
            form.get("token", ""), purpose="invite", binding=binding, new=new
        ):
            return self._invite_form(request, info, 403, problem=problem)
        faults = {}
        if not password:
            faults = {"password": "Choose a password."}
        elif password != confirm:
            faults = {"confirm": "The two passwords differ."}
        if faults:
            return self._invite_form(request, info, 400, faults=faults)
        step = new_pre_session()
        try:
            answer = await self._site.auth.accept_invite(
                token=token, password=password, **self._site.visitor(request, step)
            )
        except NotFound:  # used or expired since the page was shown
            return self._no_invite(request)
        except InvalidRequest as weak:
            return self._invite_form(request, info, 400, faults={"password": sentence(str(weak))})
        return await self._site.proven(
            request, answer, self._site.apps_url, self._clock(), step=step
        )

    async def _invite_info(self, token: str) -> InviteInfo:
        if not _INVITE.fullmatch(token):
            raise NotFound("no such invite")
        return await self._site.auth.invite(token=token)

    def _invite_form(
        self,
        request: Request,
        info: InviteInfo,
        status: int = 200,
        *,
        problem: str = "",
        faults: Mapping[str, str] | None = None,
    ) -> Response:
        binding, new = self._site.pre_session(request)
        response = render(
            "invite.html",
            status,
            cluster=self._site.cluster,
            action=f"/web/invite/{request.path_params['token']}",
            token=self._site.token("invite", binding),
            user=info.user,
            password_min=info.password_min,
            expires=clock_time(info.expires, self._clock()),
            problem=problem,
            faults=faults or {},
        )
        return self._site.keep_pre_session(response, binding) if new else response

    def _no_invite(self, request: Request) -> Response:
        return send_page(
            self._site.errors.plain(
                html=for_people(request),
                status=404,
                error="invite-gone",
                title="This invite link does not work any more",
                message="Each link works once and for a limited time: it has been used, has"
                " expired, was replaced by a newer one, or was cut off when it was copied.",
                advice="If you have set your password already, sign in with it. Otherwise ask"
                " your administrator for a new link.",
                action=("Sign in", f"{self._site.origin}/web/login"),
            )
        )

    # Signing out

    async def logout(self, request: Request) -> Response:
        """GET /web/logout: asks; only a form signs out."""
        found = await self._site.session_to_end(request)
        if found is None:
            return self._site.forget(redirect("/web/login?signed-out"))
        return self._logout_form(*found)

    async def submit_logout(self, request: Request) -> Response:
        """POST /web/logout"""
        found = await self._site.session_to_end(request)
        if found is None:
            return self._site.forget(redirect("/web/login?signed-out", 303))
        user, session = found
        if not self._site.is_own_post(request):
            return self._logout_form(user, session, 403, FOREIGN_FORM)
        form = await read_form(request.headers.get("content-type", ""), request.stream())
        if problem := self._site.form_problem(
            form.get("token", ""), purpose="logout", binding=session, new=False
        ):
            return self._logout_form(user, session, 403, problem)
        back = f"{self._site.origin}/web/login?signed-out"
        elsewhere = None
        with suppress(TportError):  # whatever the provider does: here they leave
            elsewhere = await self._site.auth.provider_logout(id=session, back=back)
        await self._site.auth.sign_out(id=session)
        if elsewhere:
            return self._site.forget(
                render(
                    "signed_out.html",
                    cluster=self._site.cluster,
                    provider_url=elsewhere.url,
                    display=elsewhere.display,
                )
            )
        return self._site.forget(redirect("/web/login?signed-out", 303))

    def _logout_form(
        self, user: str, binding: str, status: int = 200, problem: str = ""
    ) -> Response:
        return render(
            "logout.html",
            status,
            cluster=self._site.cluster,
            user=user,
            token=self._site.token("logout", binding),
            apps_url=self._site.apps_url,
            problem=problem,
        )
