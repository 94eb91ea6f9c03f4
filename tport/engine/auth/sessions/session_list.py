"""Which sessions are live, whose they are, and ending one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tport.engine.auth.cluster import Cluster
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.stores import SessionMark
from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.session import AppSession, SessionInfo, WebSession
from tport.engine.types.user import User, canonical_user_name

MAX_LISTED: Final = 10_000  # of one answer, which may have 16 MiB
SHORTEST: Final = 8  # characters of an id that name a session


class SessionList:
    def __init__(self, cluster: Cluster, sessions: Sessions) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._sessions = sessions

    async def all(self, user: str, limit: int) -> tuple[SessionInfo, ...]:
        """See `SessionAPI.list_sessions`."""
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidRequest(f"limit is 1 to {MAX_LISTED}")
        name = canonical_user_name(user) if user else ""
        return (await self._live(name))[:limit]

    async def end(self, id_: str, by: str, *, user: str = "") -> SessionInfo:
        """See `SessionAPI.end_session`; `user`: only one of this user's."""
        if len(id_) < SHORTEST:
            raise InvalidRequest(f"a session is named by {SHORTEST} characters of its id at least")
        found = [info for info in await self._live(user) if info.id.startswith(id_)]
        if not found:
            raise NotFound(
                f"no live session begins with {id_[:64]!r}",
                hint="list them with: tport sessions ls",
            )
        if len(found) > 1:
            raise InvalidRequest(f"{len(found)} sessions begin with {id_[:64]!r}; give more of it")
        if found[0].kind == "web":
            await self._sessions.sign_out(found[0].id, by=by)
        else:
            await self._sessions.end_app(found[0].id, by=by)
        return found[0]

    async def _live(self, name: str) -> tuple[SessionInfo, ...]:
        """Return live sessions, of one user or (name "") of all, the newest first."""
        users = {user.name: user for user in await self._stores.users.all()}
        now, stores = self._cluster.clock(), self._stores
        idle = (await self._cluster.sign_in()).web_idle
        seen = {item.key: stores.seen.decode(item) for item in await stores.seen.range()}
        webs = {
            web.id: web
            for web in await stores.web_sessions.all()
            if now < web.expires
            and name in ("", web.user)
            and _is_same(users, web)
            and not self._sessions.is_idle(web, seen.get(stores.seen.key(web.id)), idle)
        }
        infos = [_web(web, seen.get(stores.seen.key(web.id))) for web in webs.values()]
        infos += [
            _app(app, webs[app.web_session])
            for app in await self._stores.app_sessions.all()
            if now < app.expires
            and app.web_session in webs
            and users[app.user].epoch == app.epoch
            and users[app.user].id == app.user_id
        ]
        return tuple(sorted(infos, key=lambda info: info.created, reverse=True))


def _is_same(users: Mapping[str, User], web: WebSession) -> bool:
    user = users.get(web.user)
    return user is not None and user.id == web.user_id and user.proofs == web.proofs


def _web(web: WebSession, seen: SessionMark | None) -> SessionInfo:
    return SessionInfo(
        id=web.id,
        kind="web",
        user=web.user,
        remote=web.remote,
        user_agent=web.user_agent,
        created=web.created,
        expires=web.expires,
        seen=seen.at if seen is not None else None,
    )


def _app(app: AppSession, web: WebSession) -> SessionInfo:
    return SessionInfo(
        id=app.id,
        kind="app",
        user=app.user,
        web_session=web.id,
        app=app.app,
        host=app.host,
        remote=web.remote,
        user_agent=web.user_agent,
        created=app.created,
        expires=app.expires,
    )
