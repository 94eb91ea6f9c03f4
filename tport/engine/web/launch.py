"""The launcher: from an application's sealed state to a signed-in browser at that application.

No script is needed. A navigation is answered by 302; one that a form began (the sign-in) by
a page with a refresh and a link, since our `form-action 'self'` also binds the redirects that
follow a form.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tport.engine.api.catalogue import OwnApp
from tport.engine.errors import AccessDenied, NotFound, NotSignedIn, TportError
from tport.engine.types.failure import Failure
from tport.engine.types.launch import LaunchRequest, Loop, Onward, own_path
from tport.engine.types.session import WebSession
from tport.engine.web.respond import redirect, render, send_page
from tport.engine.web.site import Site, for_people

logger = logging.getLogger(__name__)

PATH: Final = "/web/launch"
LOOP_ROUNDS: Final = 3  # for one session and application within 20 s: it does not work
AUTH_PATH: Final = "/.tport/auth"  # on every application's host; takes the code

_FORM_MARK: Final = "&form=1"

Clock = Callable[[], datetime]
OpenLaunch = Callable[[str], LaunchRequest | None]
# Makes the page of who may not open what they wanted; the last argument is the sealed state.
ShowRefused = Callable[[Request, WebSession, LaunchRequest, str], Awaitable[Response]]


def after_form(next_: str) -> str:
    """Return where to go after a form: the launcher is told that a form came before."""
    is_launch = next_.startswith(f"{PATH}?") and not next_.endswith(_FORM_MARK)
    return next_ + _FORM_MARK if is_launch else next_


class Launcher:
    """Args:
    open_launch: unseals the state that the proxy made; None: it is not ours.
    """

    def __init__(
        self, site: Site, clock: Clock, open_launch: OpenLaunch, refused: ShowRefused
    ) -> None:
        self._site = site
        self._clock = clock
        self._open = open_launch
        self._refused = refused

    async def launch(self, request: Request) -> Response:
        """GET /web/launch?state=<sealed>"""
        if request.method == "HEAD" or not _is_navigation(request):
            return self._not_a_page(request)
        sealed = request.query_params.get("state", "")
        wanted = self._open(sealed)
        session = await self._site.session(request)
        if wanted is None:
            return self._no_state(request)
        if session is None:
            return self._site.to_sign_in(request)
        try:
            code = await self._site.auth.launch(
                web_session=session.id,
                host=wanted.app_host,
                state=hashlib.sha256(wanted.state_id.encode()).hexdigest(),
                age=wanted.age,
            )
        except NotSignedIn:  # over since the line above
            return self._site.to_sign_in(request)
        except AccessDenied:
            if wanted.onward is not None:
                return self._send_to(request, wanted.app_host, self._at(wanted.onward))
            if for_people(request):
                return await self._refused(request, session, wanted, sealed)
            page = self._site.errors.denied(html=False, user=session.user, host=wanted.app_host)
            return send_page(page)
        except NotFound as away:
            if wanted.onward is not None:
                return self._send_to(request, wanted.app_host, self._at(wanted.onward))
            return await self._away(request, wanted.app_host, str(away))
        # From here on the host is a registered one: auth made a code for it.
        origin = f"https://{code.host}{self._site.port}"
        again = origin + own_path(wanted.raw_path)
        if code.rounds >= LOOP_ROUNDS:
            if wanted.onward is not None:
                return self._send_to(request, code.host, self._at(wanted.onward))
            skew = abs((code.now - self._clock()).total_seconds())
            loop = Loop(host=code.host, cause=wanted.cause, opened=code.opened, skew=skew)
            return send_page(self._site.errors.looping(loop, url=again))
        url = again
        if not wanted.expired:  # else the state cookie is gone, and only a new attempt can work
            secret, state = quote(code.code, safe=""), quote(wanted.state_id, safe="")
            url = f"{origin}{AUTH_PATH}?code={secret}&state={state}"
        return self._send_to(request, code.host, url)

    def _send_to(self, request: Request, host: str, url: str) -> Response:
        if "form" in request.query_params:
            return render("opening.html", cluster=self._site.cluster, host=host, url=url)
        return redirect(url)

    def _at(self, onward: Onward) -> str:
        """Return where to go when an application that is opened with another one can't be."""
        return f"https://{onward.host}{self._site.port}{onward.path}"

    async def _away(self, request: Request, host: str, cause: str) -> Response:
        """Tell who may open an application that no agent offers it now, and since when."""
        own = None
        with suppress(TportError):  # without it the page says all but the time
            own = await self._own_app(request, host)
        request_id = secrets.token_hex(8)
        logger.info("%s: %s (request %s)", host, cause, request_id)
        failure = Failure(
            status=503,
            hop="agent",
            error="unreachable",
            cause=cause,
            advice="Start the agent on the application's machine, or look at its log if it runs:"
            " it says why it has no tunnel.",
            app=own.name if own else host,
            host=host,
            agent="",
            since=own.since if own and not own.up else None,
            request_id=request_id,
            repeatable=True,
        )
        page = self._site.errors.failure(failure, html=for_people(request), now=self._clock())
        return send_page(page)

    async def _own_app(self, request: Request, host: str) -> OwnApp | None:
        apps = await self._site.acting(request).own_apps()
        return next((app for app in apps if app.address.partition(":")[0] == host), None)

    def _no_state(self, request: Request) -> Response:
        return send_page(
            self._site.errors.plain(
                html=for_people(request),
                status=400,
                error="bad-launch",
                title="This link cannot open anything",
                message="The address was cut off or changed on its way here, or the proxy has"
                " been set up anew since it was made.",
                advice="Open the application again, by its own address or from the list of all"
                " applications.",
            )
        )

    def _not_a_page(self, request: Request) -> Response:
        """No code for what no one will see: it would only count towards a loop."""
        return send_page(
            self._site.errors.plain(
                html=for_people(request),
                status=400,
                error="not-a-navigation",
                title="Open this in a tab of its own",
                message="Applications are opened by going to their address, not from inside"
                " another page.",
            )
        )


def _is_navigation(request: Request) -> bool:
    """Tell whether a person goes here; a browser without Fetch Metadata is believed."""
    mode = request.headers.get("sec-fetch-mode", "navigate")
    destination = request.headers.get("sec-fetch-dest", "document")
    return mode == "navigate" and destination == "document"
