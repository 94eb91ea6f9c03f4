"""Signing in by a provider: there and back, bound to one browser, once.

    begin ── attempt, kept under the hash of `state` ──▶ the browser goes to the provider
    finish ◀── the browser brings `code` and `state` ── the attempt is over, whatever comes out
           ── the code is traded, the ID token judged ──▶ a user, and on as after a password

What can't be so is refused with an audit event: a state of another browser (login CSRF) or of
another connector's callback (mix-up), a code or a nonce that comes twice, a token for somebody else.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import trio
from msgspec.structs import replace

from tport.engine.access.limits import AddressLimiter
from tport.engine.api.sso import ConnectorInfo, ProviderLogout, SignInChoices, SsoDone, SsoRefused
from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.factors.attempts import check_holder
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.seal import Seal
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.signin.steps import Steps, Visitor
from tport.engine.auth.sso.connectors import Connectors
from tport.engine.auth.sso.people import Arrival, Arrivals, arrival, subject_of
from tport.engine.auth.sso.provider import Proven, Providers
from tport.engine.auth.sso.trying import Trying
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from tport.engine.pki.id_token import shown_ago
from tport.engine.proto import github
from tport.engine.proto.oidc import (
    ERRORS,
    Callback,
    Discovery,
    ProviderProblem,
    authorization_url,
    end_session_url,
    read_callback,
)
from tport.engine.types.connector import (
    Connector,
    OidcConnector,
    origin_of,
    redirect_url_of,
)
from tport.engine.types.session import session_id
from tport.engine.types.sso import ProviderSession, SsoAttempt, SsoPurpose

SSO_TTL: Final = timedelta(minutes=10)  # there and back. Source: Teleport's SSO request TTL
# s for all that is asked of a provider before a person sees a page; a proxy elsewhere waits for 10.
BUDGET: Final = 7.0
MAX_HINT: Final = 4096  # characters of an ID token in an address
LOGOUTS_PER_MINUTE: Final = 600  # of one address: a provider tells of all its people
MAX_SID: Final = 255  # characters of a provider's name for its session
MAX_WANTED: Final = 20  # mappings that an audit event tells
MAX_QUERY: Final = 16 * 1024  # characters of a callback's
_LATE: Final = "this took too long, was done already, or was begun in another browser"
_FRESH: Final = timedelta()  # a proof is of this very moment


class SingleSignOn:
    def __init__(
        self,
        cluster: Cluster,
        *,
        connectors: Connectors,
        providers: Providers,
        arrivals: Arrivals,
        trying: Trying,
        roles: Roles,
        sessions: Sessions,
        steps: Steps,
        limiter: AddressLimiter,
    ) -> None:
        self._cluster = cluster
        self._store = cluster.stores.sso
        self._connectors = connectors
        self._providers = providers
        self._arrivals = arrivals
        self._trying = trying
        self._roles = roles
        self._sessions = sessions
        self._steps = steps
        self._limiter = limiter
        self._logouts = AddressLimiter(
            cluster.clock, per_minute=LOGOUTS_PER_MINUTE, burst=LOGOUTS_PER_MINUTE
        )
        self._seal = Seal(cluster.settings.seal_key)

    async def choices(self) -> SignInChoices:
        infos = tuple(
            ConnectorInfo(id=origin_of(each), display=each.display or each.name)
            for each in await self._connectors.all()
        )
        return SignInChoices(connectors=infos, passwords=(await self._cluster.sign_in()).local_auth)

    # --- There ---------------------------------------------------------------------------------------

    async def begin(self, origin: str, holder: str, address: str, next_: str, remote: str) -> str:
        """Begin to sign in; return the provider's address."""
        self._limiter.check(remote)
        self._limiter.take(remote)
        connector = await self._connectors.named(origin)
        async with self._failure_noted(connector, "", remote):
            return await self._begin(connector, "sign-in", holder, address, next_)

    async def begin_proof(
        self, session: str, holder: str, address: str, next_: str, remote: str
    ) -> str:
        """Begin to show anew, at their provider, that a session is its holder's."""
        self._limiter.check(remote)
        self._limiter.take(remote)
        _, user = await self._sessions.web_with_user(session)
        if not user.origin.startswith("oidc/"):  # no other says when somebody signed in there
            raise NotFound("no provider can show that it is you: show a password or a device")
        connector = _anew(await self._connectors.named(user.origin))
        async with self._failure_noted(connector, user.name, remote):
            return await self._begin(connector, "prove", holder, address, next_, session=session)

    async def begin_test(self, test: str, holder: str, address: str, remote: str) -> str:
        """Begin what `tport sso test` looks at."""
        self._limiter.check(remote)
        self._limiter.take(remote)
        connector = await self._trying.connector(test)
        return await self._begin(connector, "test", holder, address, "/", test=test)

    @asynccontextmanager
    async def _failure_noted(
        self, connector: Connector, user: str, remote: str
    ) -> AsyncIterator[None]:
        """Write down that the provider could not be asked: whoever administers may have to correct it."""
        try:
            yield
        except Unavailable as problem:
            await self._failed(origin_of(connector), user, problem, remote)
            raise

    async def _begin(
        self,
        connector: Connector,
        purpose: SsoPurpose,
        holder: str,
        address: str,
        next_: str,
        *,
        session: str = "",
        test: str = "",
    ) -> str:
        check_holder(holder)
        state, nonce, verifier = new_secret(), new_secret(), secrets.token_urlsafe(48)
        redirect_url = redirect_url_of(connector, address)
        if isinstance(connector, OidcConnector):
            url = authorization_url(
                connector,
                await self._discovery(connector),
                redirect_url=redirect_url,
                state=state,
                nonce=nonce,
                verifier=verifier,
            )
        else:
            url = github.authorization_url(
                connector, redirect_url=redirect_url, state=state, verifier=verifier
            )
        key = session_id(state)
        attempt = SsoAttempt(
            connector=origin_of(connector),
            purpose=purpose,
            holder=holder,
            sealed=self._seal.close(json.dumps([nonce, verifier]).encode(), f"sso/{key}"),
            redirect_url=redirect_url,
            address=address,
            next=next_,
            expires=self._cluster.clock() + SSO_TTL,
            session=session,
            test=test,
        )
        await self._store.create(key, attempt, expires=attempt.expires)
        return url

    async def _discovery(self, connector: OidcConnector) -> Discovery:
        """Return what a provider says of itself, or raise Unavailable in words for who waits."""
        try:
            with _in_time():
                return await self._providers.discovery(connector.issuer)
        except (ConnectionProblem, ProviderProblem) as problem:
            raise Unavailable(
                f"{_shown(connector)} can't be asked: {problem}",
                hint=problem.hint or "try again in a minute",
            ) from None

    # --- And back ------------------------------------------------------------------------------------

    async def finish(
        self, path: str, query: str, visitor: Visitor, steps: str
    ) -> SsoDone | SsoRefused:
        """See `SsoAPI.finish_sso`."""
        self._limiter.check(visitor.remote)
        origin, display, next_ = "", "", "/"
        try:
            callback = read_callback(
                parse_qsl(query[:MAX_QUERY], keep_blank_values=True, max_num_fields=32)
            )
            if not callback.state:
                came_to = await self._connectors.at(path)
                origin, display = (origin_of(came_to), _shown(came_to)) if came_to else ("", "")
                raise _of_no_sign_in(callback)
            attempt = await self._spend(callback.state, visitor.holder)
            visitor = dataclasses.replace(visitor, holder=steps)
            origin, next_ = attempt.connector, attempt.next
            display = origin.rpartition("/")[2]
            if urlsplit(attempt.redirect_url).path != path:
                raise AccessDenied(_LATE, reason="the answer came to another connector's callback")
            connector = await self._connector(attempt)
            return await self._judge(connector, attempt, callback, visitor)
        except _REFUSALS as refused:
            self._limiter.check(visitor.remote)  # others of this address may have come meanwhile
            self._limiter.take(visitor.remote)  # who comes back from a provider is no guesser
            await self._failed(origin, "", refused, visitor.remote, visitor.user_agent)
            return _told(refused, origin, display, next_)

    async def _spend(self, state: str, holder: str) -> SsoAttempt:
        """Return what was begun with this state by this browser; nobody gets it again."""
        key = session_id(state)
        try:
            read = await self._store.read(key)
            await self._cluster.stores.batch([self._store.deleting(key, read)])
        except (NotFound, CompareFailed):
            raise AccessDenied(_LATE, reason="no such state, or it came twice") from None
        attempt = read.value
        if not hmac.compare_digest(attempt.holder.encode(), holder.encode()):
            raise AccessDenied(_LATE, reason="the state is another browser's")
        if self._cluster.clock() >= attempt.expires:
            raise AccessDenied(_LATE, reason="the state is too old")
        return attempt

    async def _connector(self, attempt: SsoAttempt) -> Connector:
        if attempt.purpose == "test":
            return await self._trying.connector(attempt.test)
        connector = await self._connectors.named(attempt.connector)
        return _anew(connector) if attempt.purpose == "prove" else connector

    async def _judge(
        self, connector: Connector, attempt: SsoAttempt, callback: Callback, visitor: Visitor
    ) -> SsoDone | SsoRefused:
        try:
            proven, who = await self._proven(connector, attempt, callback)
        except _REFUSALS as refused:
            if attempt.purpose == "test":
                await self._trying.failed(attempt.test, refused)
                return SsoDone(outcome="tested", next="/")
            raise
        if attempt.purpose == "test":
            await self._trying.done(attempt.test, who)
            return SsoDone(outcome="tested", next="/")
        if attempt.purpose == "prove":
            await self._prove(attempt.session, who)
            return SsoDone(outcome="proven", next=attempt.next)
        if who.problem:
            denied = AccessDenied(who.problem, hint=who.hint)
            wanted = _wanted(who)
            await self._failed(
                who.origin,
                who.name,
                denied,
                visitor.remote,
                visitor.user_agent,
                claims=sorted(who.traits),
                wanted=wanted,
            )
            told = _told(denied, who.origin, _shown(connector), attempt.next)
            return replace(
                told,
                claims=who.traits,
                left_out=who.left_out,
                looked_at=tuple(dict.fromkeys(each.claim for each in who.unmet)),
            )
        user = await self._arrivals.settle(who)
        answer = await self._steps.after(
            user,
            visitor,
            who.origin,
            proven=not connector.cluster_second_factor,
            provider=self._resting_on(who, proven),
            shown=shown_ago(proven.claims, self._cluster.clock()),
        )
        return SsoDone(outcome="signed-in", next=attempt.next, answer=answer)

    async def _proven(
        self, connector: Connector, attempt: SsoAttempt, callback: Callback
    ) -> tuple[Proven, Arrival]:
        if callback.error or not callback.code:
            words = ": ".join(w for w in (callback.error, callback.description) if w)
            raise AccessDenied(
                f"your provider did not sign you in: {words or 'it sent no code'}",
                hint="try again; if it stays so, whoever runs the provider can tell more",
            )
        sealed = self._seal.open(attempt.sealed, f"sso/{session_id(callback.state)}")
        nonce, verifier = json.loads(sealed)
        teams: list[tuple[str, str]] = []
        with _in_time():
            if isinstance(connector, OidcConnector):
                proven = await self._providers.prove(
                    connector,
                    callback,
                    redirect_url=attempt.redirect_url,
                    nonce=nonce,
                    verifier=verifier,
                )
            else:
                proven, teams = await self._providers.prove_github(
                    connector, callback, redirect_url=attempt.redirect_url, verifier=verifier
                )
        return proven, await arrival(connector, proven, teams, await self._roles.now())

    def _resting_on(self, who: Arrival, proven: Proven) -> ProviderSession:
        sid = proven.claims.get("sid")
        sealed = ""
        if proven.id_token:
            sealed = self._seal.close(proven.id_token.encode(), f"id_token/{who.origin}")
        return ProviderSession(
            connector=who.origin,
            subject=who.subject,
            session=sid if isinstance(sid, str) and len(sid) <= MAX_SID else "",
            id_token=sealed,
        )

    async def _prove(self, session: str, who: Arrival) -> None:
        """Note that a session's holder has shown anew who they are: the very same person."""
        _, user = await self._sessions.web_with_user(session)
        if (user.origin, user.subject) != (who.origin, who.subject):
            raise AccessDenied(
                "you signed in there as somebody else than here",
                reason=f"{user.name} was to be proven",
            )
        await self._cluster.record("user.proof", user=user.name, kind=who.origin)
        await self._sessions.proven(session)

    # --- Leaving -------------------------------------------------------------------------------------

    async def logout_url(self, web_session: str, back: str) -> ProviderLogout | None:
        """See `SsoAPI.provider_logout`."""
        found = await self._sessions.provider_of(web_session)
        if found is None:
            return None
        try:
            connector = await self._connectors.named(found.connector)
            if not isinstance(connector, OidcConnector):
                return None
            discovery = await self._discovery(connector)
            id_token = self._seal.open(found.id_token, f"id_token/{found.connector}").decode()
        except (NotFound, Unavailable, LimitExceeded):
            return None  # here they leave all the same
        url = end_session_url(
            discovery,
            client_id=connector.client_id,
            id_token=id_token if len(id_token) <= MAX_HINT else "",  # else no server takes the URL
            back=back,
        )
        return ProviderLogout(url=url, display=connector.display or connector.name) if url else None

    async def end_sessions(self, origin: str, logout_token: str, remote: str) -> None:
        """See `SsoAPI.end_sso_sessions`."""
        self._logouts.check(remote)
        self._logouts.take(remote)
        connector = await self._connectors.named(origin)
        if not isinstance(connector, OidcConnector):
            raise InvalidRequest("this provider tells of no sign-outs")
        try:
            with _in_time():
                subject, session = await self._providers.logged_out(connector, logout_token)
        except (ConnectionProblem, ProviderProblem) as problem:
            raise Unavailable(str(problem)) from None
        except AccessDenied as denied:
            await self._cluster.emit(
                "auth.failed",
                call="end_sso_sessions",
                caller="provider",
                name=origin,
                error=denied.reason,
                remote=remote,
            )
            raise
        await self._sessions.end_provider_sessions(
            origin, subject_of(connector, subject) if subject else "", session
        )

    # --- Parts ---------------------------------------------------------------------------------------

    async def _failed(
        self,
        origin: str,
        name: str,
        why: Exception,
        remote: str,
        user_agent: str = "",
        **more: object,
    ) -> None:
        await self._cluster.emit(
            "user.login.sso.failed",
            user=name,
            method=origin,
            error=why.reason if isinstance(why, AccessDenied) else str(why),
            remote=remote,
            user_agent=user_agent[:256],
            **more,
        )


_REFUSALS: Final = (
    AccessDenied,
    AlreadyExists,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    ProviderProblem,
    Unavailable,
    ValueError,  # of a query with too many fields
)


@contextmanager
def _in_time() -> Iterator[None]:
    """Turn into ConnectionProblem what takes longer than BUDGET."""
    try:
        with trio.fail_after(BUDGET):
            yield
    except trio.TooSlowError:
        raise ConnectionProblem("the identity provider does not answer in time") from None


def _wanted(who: Arrival) -> list[str]:
    """Return in words what would have given a role, for who reads the audit log."""
    words = [
        f"{each.claim}={each.value[:128]}: {', '.join(each.roles)[:128]}"
        for each in who.unmet[:MAX_WANTED]
    ]
    more = len(who.unmet) - len(words)
    return [*words, f"and {more} more"] if more else words


def _of_no_sign_in(callback: Callback) -> AccessDenied:
    """Return what is said of an answer without a state: whatever it holds, anybody may have written.

    So of its words none but those that the protocol has are shown. Some providers leave the state out
    of an error, though RFC 6749 §4.1.2.1 wants it.
    """
    is_known = callback.error in ERRORS
    return AccessDenied(
        f"your provider did not sign you in: {callback.error}"
        if is_known
        else "the answer does not say which sign-in it is of",
        reason=f"no state; it says {callback.error or 'nothing'}",
        hint="begin anew where you wanted to go",
    )


def _shown(connector: Connector) -> str:
    return connector.display or connector.name


def _told(refused: Exception, origin: str, display: str, next_: str) -> SsoRefused:
    return SsoRefused(
        problem=str(refused),
        hint=getattr(refused, "hint", ""),
        display=display,
        connector=origin,
        next=next_,
    )


def _anew(connector: Connector) -> Connector:
    """Return a connector that has people show at this moment who they are."""
    if isinstance(connector, OidcConnector):
        return replace(connector, prompt="login", max_age=_FRESH)
    return connector
