"""The pages between password and session: a second factor is shown, or the first one set up.

Where a browser is, auth knows by a cookie that is made anew with each sign-in; the address of these pages says only
where to go after them. All of it is one page, so that going back and reloading do no harm.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tport.engine.api.factors import NextStep, Proof
from tport.engine.errors import AccessDenied, AttemptOver, InvalidRequest, LimitExceeded
from tport.engine.types.launch import own_path
from tport.engine.web.errors import retry_seconds
from tport.engine.web.forms import new_pre_session, read_form
from tport.engine.web.launch import after_form
from tport.engine.web.respond import redirect, render
from tport.engine.web.site import FOREIGN_FORM, MAX_NEXT, RECOVERED, SECOND_STEP, Clock, Site
from tport.engine.web.visit import sentence

PURPOSE: Final = "second-step"
AGAIN: Final = "/web/login?again"  # what was begun is over
WRONG: Final = "That was wrong, was used already, or has expired. Try again."
NOTHING: Final = "Enter a code, or use a passkey."
_QR_MODULE: Final = 4  # CSS pixels of one square


class SecondStep:
    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock

    async def show(self, request: Request) -> Response:
        """GET /web/login/second?next=<own path>"""
        next_ = own_path(request.query_params.get("next", ""), limit=MAX_NEXT)
        session = await self._site.session(request)
        return await self._page(request, next_, signed_in=session.user if session else "")

    async def begin_passkey(self, request: Request) -> Response:
        """POST /web/login/passkey: to sign in by a passkey alone."""
        binding, new = self._site.pre_session(request)
        form = await read_form(request.headers.get("content-type", ""), request.stream())
        next_ = own_path(form.get("next", ""), limit=MAX_NEXT)
        wrong = not self._site.is_own_post(request) or self._site.form_problem(
            form.get("token", ""), purpose="login", binding=binding, new=new
        )
        if wrong:
            return redirect(_with_next(AGAIN, next_), 303)
        step = new_pre_session()
        visitor = self._site.visitor(request, step)
        answer = await self._site.auth.begin_passkey(
            browser=visitor["browser"], remote=visitor["remote"]
        )
        return await self._site.proven(request, answer, next_, self._clock(), step=step)

    async def submit(self, request: Request) -> Response:
        """POST /web/login/second: a proof, or a device to set up, or neither where that may be."""
        form = await read_form(request.headers.get("content-type", ""), request.stream())
        next_ = own_path(form.get("next", ""), limit=MAX_NEXT)
        if not self._site.is_own_post(request):
            return await self._page(request, next_, 403, problem=FOREIGN_FORM)
        binding, new = self._site.step(request)
        if problem := self._site.form_problem(
            form.get("token", ""), purpose=PURPOSE, binding=binding, new=new
        ):
            return await self._page(request, next_, 403, problem=problem)
        try:
            return await self._go_on(request, form, next_)
        except AttemptOver:
            return redirect(_with_next(AGAIN, next_), 303)
        except LimitExceeded as limit:
            wait = retry_seconds(limit.retry_after)
            text = f"Too many tries. Wait {wait} seconds, then try again."
            response = await self._page(request, next_, 429, problem=text)
            response.headers["retry-after"] = wait
            return response
        except AccessDenied:
            return await self._page(request, next_, 403, problem=WRONG)
        except InvalidRequest as problem_:
            text = sentence(str(problem_))
            return await self._page(request, next_, 400, problem=text, hint=problem_.hint)

    async def _go_on(self, request: Request, form: Mapping[str, str], next_: str) -> Response:
        auth, visitor = self._site.auth, self._site.visitor(request)
        attempt = form.get("attempt", "")
        if "skip" in form:
            signed = await auth.skip_enrolment(attempt=attempt, **visitor)
            return await self._site.proven(request, signed, after_form(next_), self._clock())
        if (proof := proof_of(form)) is None:
            return await self._page(request, next_, 400, problem=NOTHING)
        if form.get("to") == "enrol":
            answer = await auth.enrol(attempt=attempt, proof=proof, name="", **visitor)
            return await self._site.proven(request, answer, after_form(next_), self._clock())
        shown = await auth.prove(attempt=attempt, proof=proof, **visitor)
        location = next_ if isinstance(shown, NextStep) else after_form(next_)
        if proof.kind == "recovery" and location in ("/", self._site.apps_url):
            location = f"{self._site.apps_url}?{RECOVERED}"  # it says how many are left
        return await self._site.proven(request, shown, location, self._clock())

    async def _page(
        self,
        request: Request,
        next_: str,
        status: int = 200,
        *,
        problem: str = "",
        hint: str = "",
        signed_in: str = "",
    ) -> Response:
        """Show what is next. `signed_in`: who is already, and goes on to `next_` if it's for them."""
        binding, _ = self._site.step(request)
        browser = self._site.visitor(request)["browser"]
        try:
            if not browser:
                raise AttemptOver("there is no cookie")
            step = await self._site.auth.next_step(browser=browser)
        except AttemptOver:
            return redirect(next_) if signed_in else redirect(_with_next(AGAIN, next_), 303)
        if signed_in and step.user in ("", signed_in):
            return redirect(next_)
        return render(
            "enrol.html" if step.to == "enrol" else "second.html",
            status,
            cluster=self._site.cluster,
            action=SECOND_STEP,
            token=self._site.token(PURPOSE, binding),
            next=next_,
            step=step,
            qr=qr_code(step.totp.uri) if step.totp else "",
            secret=grouped(step.totp.secret) if step.totp else "",
            problem=problem,
            hint=hint,
        )


def proof_of(form: Mapping[str, str]) -> Proof | None:
    """Return what a form shows: the first of its fields that is filled in."""
    if value := form.get("webauthn"):
        return Proof(kind="webauthn", value=value)
    if value := form.get("totp", "").strip():
        return Proof(kind="totp", value=value)
    if value := form.get("recovery", "").strip():
        return Proof(kind="recovery", value=value)
    return None


def qr_code(text: str) -> str:
    """Return `text` as a QR code, an SVG element: squares alone, nothing of `text` as it is."""
    import segno

    made = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        made, kind="svg", xmldecl=False, svgns=False, scale=_QR_MODULE, light="#fff", omitsize=True
    )
    return made.getvalue().decode()


def grouped(secret: str) -> str:
    """Write a secret in groups of four, as people copy it."""
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))


def _with_next(path: str, next_: str) -> str:
    return f"{path}&next={quote(next_, safe='')}"
