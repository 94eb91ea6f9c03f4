"""Web sessions and app sessions: made, looked up, ended.

A session is live while its own time, its user (the same id and epoch) and, for an app session,
its web session allow it; that is judged at each look-up, by the clock and by what is stored.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from tport.engine.api.answers import OpenedApp, SignedIn
from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.rights.locks import Locks
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.stores import LaunchRecord, SessionMark, Stored
from tport.engine.defaults import FRESH_PROOF, WEB_SESSION_TTL
from tport.engine.errors import CompareFailed, NotFound, NotSignedIn, ProofNeeded
from tport.engine.storage.backend import BATCH_LIMIT, Delete, Operation
from tport.engine.types.session import AppSession, WebSession, session_id
from tport.engine.types.sso import ProviderSession
from tport.engine.types.user import User

SEEN_EVERY: Final = timedelta(minutes=1)  # a write each; what is done between is the same
MAX_USER_AGENT: Final = 256  # characters kept
_OVER = "you are not signed in, or your session is over"
_LINK = msgspec.Raw(b"null")


class Sessions:
    def __init__(self, cluster: Cluster, roles: Roles, locks: Locks) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._roles = roles
        self._locks = locks

    # --- Web sessions --------------------------------------------------------------------------

    async def make(
        self,
        user: User,
        remote: str,
        user_agent: str,
        *,
        method: str,
        factor: str = "",
        provider: ProviderSession | None = None,
        shown: timedelta | None = timedelta(),
        ending: Operation | None = None,
    ) -> SignedIn:
        """Sign a person in, whatever proved them: the one place that makes web sessions.

        Args:
            ending: ends what had been begun; together with it the session is stored, or not at all.
            shown: how long ago they have shown who they are; None: they have not.
            method, factor: (the second one, "": none) for the audit log.
            provider: on whose word it rests.

        Raises:
            Locked: a lock is on this user or a role of theirs.
            CompareFailed, NotFound: what had been begun is over.
        """
        user = user.at(self._cluster.clock())
        await self._locks.check_person(user)
        ttl = min(WEB_SESSION_TTL, await self._roles.ttl(user))
        user_agent = user_agent[:MAX_USER_AGENT]
        # The event first: a sign-in that can't be written down doesn't happen.
        await self._cluster.record(
            "user.login" if provider is None else "user.login.sso",
            user=user.name,
            method=method,
            **({"second_factor": factor} if factor else {}),
            success=True,
            remote=remote,
            user_agent=user_agent,
        )
        now = self._cluster.clock()  # that of before may have been set back meanwhile
        secret = new_secret()
        session = WebSession(
            id=session_id(secret),
            user=user.name,
            user_id=user.id,
            proofs=user.proofs,
            cluster=self._cluster.name,
            created=now,
            expires=now + ttl,
            remote=remote,
            user_agent=user_agent,
            proven=None if shown is None else now - shown,
        )
        if user.expires is not None:  # a provider's word counts no longer
            session = replace(session, expires=min(session.expires, user.expires))
        resting = (
            []
            if provider is None
            else [
                self._stores.provider_sessions.creating(
                    session.id, provider, expires=session.expires
                )
            ]
        )
        await self._stores.batch(
            [
                *([] if ending is None else [ending]),
                self._stores.web_sessions.creating(session.id, session, expires=session.expires),
                *resting,
            ]
        )
        return SignedIn(secret=secret, session=session)

    async def web(self, id_: str) -> WebSession:
        return (await self.web_with_user(id_))[0]

    async def web_with_user(self, id_: str) -> tuple[WebSession, User]:
        """Return a live web session and its user as they are now, or raise NotSignedIn.

        Raises:
            Locked: it lives on, and does nothing while the lock is there.
        """
        session = await self._stores.web_sessions.find(id_)
        if session is None or self._cluster.clock() >= session.expires:
            raise NotSignedIn(_OVER, reason="no such web session, or it has expired")
        idle = (await self._cluster.sign_in()).web_idle
        if self.is_idle(session, await self._stores.seen.find(session.id), idle):
            raise NotSignedIn(_OVER, reason="nothing was done with it for too long")
        user = await self._same_user(session)
        await self._locks.check_person(user)
        return session, user

    async def seen(self, session: WebSession) -> None:
        """Note that who holds this session does something; at most once in SEEN_EVERY."""
        now = self._cluster.clock()
        last = await self._stores.seen.find(session.id)
        if now - (last.at if last is not None else session.created) >= SEEN_EVERY:
            # Though idleness may not matter now: when it does, it counts from the last request.
            await self._stores.seen.put(session.id, SessionMark(at=now), expires=session.expires)

    def is_idle(self, session: WebSession, seen: SessionMark | None, idle: timedelta) -> bool:
        """Tell whether nothing was done with a session for longer than `idle`; zero: it may rest.

        `seen`: its mark, if any.
        """
        if not idle:
            return False
        return self._cluster.clock() >= (seen.at if seen is not None else session.created) + idle

    async def check_fresh_proof(self, session: WebSession) -> None:
        """Return when who holds this session has shown within FRESH_PROOF that it is they.

        Signing in shows it, too, unless it is a provider's word that tells of an older sign-in there.

        Raises:
            ProofNeeded: it is too long ago.
        """
        if session.proven is not None and self._cluster.clock() < session.proven + FRESH_PROOF:
            return
        proof = await self._stores.proofs.find(session.id)
        if proof is None or self._cluster.clock() >= proof.at + FRESH_PROOF:
            raise ProofNeeded(
                "show once more that it is you: the last time is more than 5 minutes ago",
                reason=f"{session.user}'s last proof is too old",
            )

    async def proven(self, id_: str) -> None:
        """Note that who holds this session has shown just now that it is they."""
        now = self._cluster.clock()
        await self._stores.proofs.put(id_, SessionMark(at=now), expires=now + FRESH_PROOF)

    async def check_may_sign_in(self, user: User) -> None:
        """Raise Locked when a lock keeps this user out now."""
        await self._locks.check_person(user.at(self._cluster.clock()))

    async def sign_out(self, id_: str, *, by: str = "") -> None:
        """End a web session and what came from it; `by`: who else ended it."""
        session = await self._stores.web_sessions.find(id_)
        if session is None:
            return
        await self._delete(self._stores.web_sessions.key(id_))
        if await self._stores.provider_sessions.find(id_) is not None:
            await self._delete(self._stores.provider_sessions.key(id_))
        for item in await self._stores.sessions_of.range(f"{id_}/"):
            app_id = item.key.rpartition("/")[2]
            await self.end_app(app_id, by=by)
        await self._cluster.emit("user.logout", user=session.user, **_ended_by(by))

    async def provider_of(self, id_: str) -> ProviderSession | None:
        """Return on what a web session rests; None: on nobody's word but ours, or it is over."""
        return await self._stores.provider_sessions.find(id_)

    async def end_provider_sessions(self, connector: str, subject: str, session: str) -> None:
        """End what rests on a provider's session, or (`session` "") on all of a subject's.

        Of a subject all is ended of which it isn't known on which of the provider's sessions it rests.
        A sign-in that waits for its second step rests on it, too.
        """

        def is_meant(found: ProviderSession) -> bool:
            if found.connector != connector or (subject and found.subject != subject):
                return False
            return not session or found.session == session or bool(subject and not found.session)

        attempts = self._stores.attempts
        for item in await attempts.range():
            resting = attempts.decode(item).provider
            if resting is not None and is_meant(resting):
                await self._delete(item.key)
        store = self._stores.provider_sessions
        for item in await store.range():
            if is_meant(store.decode(item)):
                await self.sign_out(item.key.rpartition("/")[2], by=connector)

    # --- App sessions --------------------------------------------------------------------------

    async def open_app(
        self, web: WebSession, user: User, spent: Stored[LaunchRecord], code: str, secret: str
    ) -> OpenedApp:
        """Store the app session that a launch code became; `code`: its id.

        Raises:
            CompareFailed, NotFound: the person signed out, or the code came again, meanwhile.
        """
        launch = spent.value
        now = self._cluster.clock()
        session = AppSession(
            id=session_id(secret),
            web_session=web.id,
            user=user.name,
            user_id=user.id,
            epoch=user.epoch,
            cluster=self._cluster.name,
            app=launch.app,
            host=launch.host,
            created=now,
            expires=min(
                web.expires,
                now + min(WEB_SESSION_TTL, await self._roles.ttl(user)),
                *([user.soonest] if user.soonest is not None else ()),
            ),
        )
        link = f"{web.id}/{session.id}"
        read = await self._stores.web_sessions.read(web.id)
        await self._stores.batch(
            [
                # Signing out at this very moment wins, and so does the code that comes again.
                self._stores.web_sessions.checking(web.id, read),
                self._stores.launches.checking(code, spent),
                self._stores.app_sessions.creating(session.id, session, expires=session.expires),
                self._stores.sessions_of.creating(link, _LINK, expires=session.expires),
            ]
        )
        return OpenedApp(secret=secret, session=session)

    async def app(self, id_: str) -> AppSession:
        return (await self.app_with_user(id_))[0]

    async def app_with_user(self, id_: str) -> tuple[AppSession, User]:
        """Return a live app session and its user as they are now, or raise NotSignedIn."""
        session = await self._stores.app_sessions.find(id_)
        if session is None or self._cluster.clock() >= session.expires:
            raise NotSignedIn(_OVER, reason="no such app session, or it has expired")
        web, user = await self.web_with_user(session.web_session)
        if web.user_id != session.user_id or user.epoch != session.epoch:
            raise NotSignedIn(_OVER, reason=f"{session.user} has changed since")
        await self.seen(web)  # proxies ask when a request comes that they know too little of
        return session, user

    async def end_app(self, id_: str, *, by: str = "") -> None:
        """End an app session; gone already is fine. `by`: who else ended it."""
        session = await self._stores.app_sessions.find(id_)
        if session is None:
            return
        await self._delete(
            self._stores.app_sessions.key(id_),
            self._stores.sessions_of.key(f"{session.web_session}/{id_}"),
        )
        await self._cluster.emit(
            "app.session.end",
            user=session.user,
            app_name=session.app,
            sid=session.id,
            **_ended_by(by),
        )

    # --- Parts -----------------------------------------------------------------------------------

    async def _same_user(self, session: WebSession) -> User:
        now = self._cluster.clock()
        user = await self._stores.users.find(session.user)
        if user is None or user.id != session.user_id:
            raise NotSignedIn(_OVER, reason=f"user {session.user} was deleted")
        if not user.counts(now):
            raise NotSignedIn(_OVER, reason=f"{session.user}'s provider must vouch for them anew")
        if user.proofs != session.proofs:
            raise NotSignedIn(_OVER, reason=f"{session.user}'s password was reset since")
        return user.at(now)

    async def _delete(self, *keys: str) -> None:
        """Delete together what is there; what somebody else deleted first is as gone."""
        assert len(keys) <= BATCH_LIMIT
        try:
            await self._stores.batch([Delete(key) for key in keys])
        except (NotFound, CompareFailed):
            for key in keys:
                try:
                    await self._stores.backend.delete(key)
                except NotFound:
                    pass


def _ended_by(name: str) -> dict[str, str]:
    """Return what an event says of a session that somebody else ended."""
    return {"ended_by": name} if name else {}
