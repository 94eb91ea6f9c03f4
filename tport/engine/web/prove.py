"""The page that asks who is signed in to show anew that it is they, and then leads back."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.factors import Proof
from tport.engine.errors import AccessDenied, AttemptOver, InvalidRequest
from tport.engine.types.launch import own_path
from tport.engine.web.respond import redirect
from tport.engine.web.second_step import proof_of
from tport.engine.web.site import MAX_NEXT
from tport.engine.web.visit import PROVE, PROVED, SignedInRoutes, Visit


class ProofPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.form(PROVE, self.ask, self.prove),
            signed_in.get(PROVED, self.proved),
        ]

    async def ask(self, visit: Visit) -> Response:
        """GET /web/prove?next=<own path>"""
        step = await visit.auth.begin_proof()
        return await visit.page("prove.html", step=step, action=PROVE, next=_next(visit))

    async def prove(self, visit: Visit) -> Response:
        """POST /web/prove"""
        proof = proof_of(visit.form)
        if password := visit.form.get("password"):
            proof = Proof(kind="password", value=password)
        if proof is None:
            raise InvalidRequest("enter what is asked for")
        try:
            await visit.auth.prove_again(
                attempt=visit.form.get("attempt", ""), proof=proof, known=visit.known
            )
        except AttemptOver:
            raise InvalidRequest("that took too long, or was begun in another tab") from None
        except AccessDenied as wrong:
            if type(wrong) is not AccessDenied:  # signed out, or locked, meanwhile
                raise
            raise InvalidRequest("that was wrong, was used already, or has expired") from None
        return redirect(_next(visit), 303)

    async def proved(self, visit: Visit) -> Response:
        """GET /web/proved"""
        return await visit.page("proved.html")


def _next(visit: Visit) -> str:
    given = visit.form.get("next") or visit.request.query_params.get("next", "")
    return own_path(given, limit=MAX_NEXT)
