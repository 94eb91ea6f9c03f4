"""The page of who may not open an application: ask for access here, and wait for the answer.

It is the same for an application that doesn't exist. Only who may read offers is told the rule.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import InvalidRequest, LimitExceeded
from tport.engine.types.launch import LaunchRequest
from tport.engine.types.request import MAX_REASON, AccessRequest
from tport.engine.types.session import WebSession
from tport.engine.web.assets import REFUSED_SCRIPT
from tport.engine.web.forms import read_form
from tport.engine.web.launch import PATH as LAUNCH_PATH
from tport.engine.web.launch import OpenLaunch, after_form
from tport.engine.web.respond import redirect, render, send_page
from tport.engine.web.site import FOREIGN_FORM, Clock, Site, clock_time, for_people

PATH: Final = "/web/request"
ASK_AGAIN: Final = 5  # s between two looks of a page that waits


class RefusedPages:
    def __init__(self, site: Site, clock: Clock, open_launch: OpenLaunch) -> None:
        self._site = site
        self._clock = clock
        self._open = open_launch

    async def show(
        self,
        request: Request,
        session: WebSession,
        wanted: LaunchRequest,
        sealed: str,
        *,
        status: int = 403,
        problem: str = "",
        reason: str = "",
    ) -> Response:
        """Tell who is signed in that they may not open this, and let them ask for it.

        Args:
            sealed: the state of `wanted`, as the browser has it.
            problem: what was wrong with the form.
            reason: what was typed into it.
        """
        auth = self._site.acting(request)
        now = self._clock()
        asked = await self._asked(auth, wanted.app_host, now)
        return render(
            "refused.html",
            status,
            cluster=self._site.cluster,
            user=session.user,
            host=wanted.app_host,
            apps_url=self._site.apps_url,
            asked=asked,
            since=clock_time(asked.created, now) if asked else None,
            until=clock_time(asked.until, now) if asked and asked.until else None,
            refused_script_url=REFUSED_SCRIPT.url,
            refresh=ASK_AGAIN if asked and asked.state == "pending" and not problem else 0,
            here=f"{LAUNCH_PATH}?state={quote(sealed, safe='')}",
            explained=await auth.explain_own(host=wanted.app_host),
            action=PATH,
            token=self._site.token("request", session.id),
            state=sealed,
            reason=reason,
            max_reason=MAX_REASON,
            problem=problem,
        )

    async def submit(self, request: Request) -> Response:
        """POST /web/request: ask for access."""
        session = await self._site.session(request)
        if session is None:
            return redirect("/web/login", 303)
        form = await read_form(request.headers.get("content-type", ""), request.stream())
        sealed = form.get("state", "")
        wanted = self._open(sealed)
        if wanted is None:
            return redirect(self._site.apps_url, 303)
        if not self._site.is_own_post(request):
            problem = FOREIGN_FORM
        else:
            problem = self._site.form_problem(
                form.get("token", ""), purpose="request", binding=session.id, new=False
            )
        reason = form.get("reason", "")
        if problem:
            return await self.show(request, session, wanted, sealed, problem=problem, reason=reason)
        try:
            await self._site.acting(request).request_access(host=wanted.app_host, reason=reason)
        except (InvalidRequest, LimitExceeded) as refused:
            words = str(refused)
            return await self.show(
                request,
                session,
                wanted,
                sealed,
                status=400,
                problem=f"Not asked: {words}.",
                reason=reason,
            )
        return redirect(after_form(f"{LAUNCH_PATH}?state={quote(sealed, safe='')}"), 303)

    async def only_posts(self, request: Request) -> Response:
        """GET /web/request: there is nothing to see without the application it is about."""
        return send_page(self._site.errors.not_found(html=for_people(request)))

    async def _asked(self, auth: AuthAPI, host: str, now: datetime) -> AccessRequest | None:
        """Return the person's last request for this host; None: none, or what it gave is over."""
        requests = await auth.own_requests()
        last = next((each for each in requests if each.host == host), None)
        if last is None or last.state != "approved":
            return last
        return last if last.until is not None and last.until > now else None
