"""Opening an app: the one-time code, the app session it becomes, and what agents are shown of it."""

from __future__ import annotations

import hmac
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from tport.engine.access.rbac import DENIED
from tport.engine.api.answers import LaunchCode, OpenedApp, SignedSession
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.refusals import Refusals
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.sessions.device_tokens import DeviceTokens
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.stores import LaunchRecord, Stored
from tport.engine.defaults import (
    LAUNCH_CODE_TTL,
    SESSION_CREDENTIAL_RENEWAL,
    SESSION_CREDENTIAL_TTL,
)
from tport.engine.errors import (
    AccessDenied,
    CompareFailed,
    InvalidRequest,
    NotFound,
    NotSignedIn,
    TportError,
)
from tport.engine.pki.jwt import sign_app_token, sign_session_credential
from tport.engine.types.session import SessionCredential, session_id
from tport.engine.types.user import user_key

CODE_PREFIX: Final = "code_"  # tells what a secret is for. Source: security.md AZ-11
ROUND_WINDOW: Final = timedelta(seconds=20)  # rounds within it count as one attempt that fails
MAX_ROUNDS: Final = 10_000  # (web session, app) pairs remembered
MANY: Final = 20  # codes within the window that are a loop whatever clocks say
_BAD_CODE = "this sign-in link is spent, expired or not yours"


@dataclass
class _Way:
    """How one web session came to one application lately; times by auth's clock."""

    codes: list[datetime] = field(default_factory=list)
    ended: list[tuple[datetime, bool]] = field(default_factory=list)  # whether by a session


class Launcher:
    def __init__(
        self,
        cluster: Cluster,
        roles: Roles,
        sessions: Sessions,
        apps: Apps,
        device_tokens: DeviceTokens,
        refusals: Refusals,
    ) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._roles = roles
        self._sessions = sessions
        self._apps = apps
        self._device_tokens = device_tokens
        self._refusals = refusals
        self._ways: OrderedDict[tuple[str, str], _Way] = OrderedDict()

    async def launch(self, web_session: str, host: str, state: str, age: float) -> LaunchCode:
        web, user = await self._sessions.web_with_user(web_session)
        if len(state) != 64:
            raise InvalidRequest("state is no SHA-256")
        try:
            offered = await self._apps.at_host(host)
            await self._roles.allowed(user, offered.servers)
        except AccessDenied as denied:
            await self._cluster.emit(
                "app.session.start.failed", user=user.name, host=host[:253], error=denied.reason
            )
            raise AccessDenied(DENIED, reason=denied.reason) from None
        if offered.away:
            raise NotFound(f"no agent that offers {offered.name} is connected")
        code = CODE_PREFIX + new_secret()
        record = LaunchRecord(state=state, app=offered.name, host=offered.host, web_session=web.id)
        await self._stores.launches.create(
            session_id(code), record, expires=self._cluster.clock() + LAUNCH_CODE_TTL
        )
        rounds, opened = self._count_round(web.id, offered.name, age)
        return LaunchCode(
            code=code,
            host=offered.host,
            rounds=rounds,
            opened=opened,
            now=self._cluster.clock(),
        )

    async def redeem(self, code: str, state: str, host: str, remote: str) -> OpenedApp:
        """Spend a code, then look whether it was any good.

        A code that comes twice was seen by somebody else: the session it became ends.
        """
        try:
            spent, secret = await self._spend(code)
            opened = await self._open(spent, session_id(code), secret, state, host)
        except TportError as problem:
            reason = problem.reason if isinstance(problem, AccessDenied) else str(problem)
            await self._refusals.tell(
                "app.session.start.failed", remote=remote, host=host[:253], error=reason
            )
            if isinstance(problem, NotSignedIn):
                raise AccessDenied(_BAD_CODE, reason=reason) from None
            raise
        session = opened.session
        await self._cluster.emit(
            "app.session.start",
            user=session.user,
            app_name=session.app,
            public_addr=session.host,
            sid=session.id,
            remote=remote,
        )
        return opened

    async def sign_session(self, id_: str) -> SignedSession:
        session, user = await self._device_tokens.session(id_)
        server = await self._roles.allowed(user, await self._apps.servers_of(session.app))
        now = self._cluster.clock()
        expires = min(now + SESSION_CREDENTIAL_TTL, session.expires)
        key = self._cluster.keys["jwt"]
        jwt = sign_app_token(
            key,
            app=session.app,
            user=user.name,
            roles=user.roles,
            traits=user.traits,
            audience=server.app.uri,
            jti=str(uuid.uuid4()),
            now=now,
            expires=expires,
            claims=server.app.rewrite.jwt_claims,
        )
        credential = SessionCredential(
            sid=session.id,
            user=user.name,
            user_key=user_key(user.id),
            roles=user.roles,
            traits=user.traits,
            app=session.app,
            host=session.host,
            cluster=self._cluster.name,
            epoch=user.epoch,
            issued=now,
            expires=expires,
            session_expires=session.expires,
            jwt=jwt,
        )
        return SignedSession(
            credential=sign_session_credential(key, credential),
            renew_at=min(now + SESSION_CREDENTIAL_RENEWAL, expires),
            expires=expires,
        )

    # --- Parts -----------------------------------------------------------------------------------

    async def _spend(self, code: str) -> tuple[Stored[LaunchRecord], str]:
        """Mark the code as spent by a session to be, and return it with that session's secret."""
        launches, id_, secret = self._stores.launches, session_id(code), new_secret()
        bad = AccessDenied(_BAD_CODE, reason="unknown or expired code")
        if not code.startswith(CODE_PREFIX) or len(code) > 128:
            raise bad
        try:
            read = await launches.read(id_)
            mine = replace(read.value, spent_by=session_id(secret))
            if not read.value.spent_by:
                try:
                    await launches.swap(id_, read, mine, expires=read.expires)
                except CompareFailed:
                    pass  # spent this very moment: so it came twice, too
            spent = await launches.read(id_)
        except NotFound:
            raise bad from None
        if spent.value != mine:
            await self._end_spent(id_, spent)
            raise AccessDenied(_BAD_CODE, reason="the code was spent before")
        return spent, secret

    async def _end_spent(self, id_: str, spent: Stored[LaunchRecord]) -> None:
        """End the session that a code became, or is about to become."""
        try:
            came_twice = replace(spent.value, twice=True)
            await self._stores.launches.swap(id_, spent, came_twice, expires=spent.expires)
        except (CompareFailed, NotFound):
            pass  # it is marked already, or its time is over: no session is made of it any more
        await self._sessions.end_app(spent.value.spent_by)

    async def _open(
        self, spent: Stored[LaunchRecord], code: str, secret: str, state: str, host: str
    ) -> OpenedApp:
        """Make the session of a code that was spent just now; `code`: its id."""
        record = spent.value
        way = self._ways.get((record.web_session, record.app), _Way())
        way.ended.append((self._cluster.clock(), False))
        if not hmac.compare_digest(record.state.encode(), state.encode("utf-8", "replace")):
            raise AccessDenied(_BAD_CODE, reason="the state is another browser's, or missing")
        if record.host != host:
            raise AccessDenied(_BAD_CODE, reason=f"the code is for {record.host}, not for {host}")
        web, user = await self._sessions.web_with_user(record.web_session)
        await self._roles.allowed(user, await self._apps.servers_of(record.app))
        try:
            opened = await self._sessions.open_app(web, user, spent, code, secret)
        except (CompareFailed, NotFound):
            raise NotSignedIn(_BAD_CODE, reason="signed out, or the code came twice") from None
        way.ended[-1] = (self._cluster.clock(), True)
        return opened

    def _count_round(self, web_session: str, app: str, age: float) -> tuple[int, int]:
        """Count the round that began `age` seconds ago; return which it is, and sessions so far.

        Only what had come to its end before it began is a round before it: many tabs that a
        browser opens at once, as at its start, are no loop.
        """
        now = self._cluster.clock()
        key = (web_session, app)
        way = self._ways.pop(key, _Way())
        way.codes.append(now)
        way.codes = [then for then in way.codes if now - then < ROUND_WINDOW][-MANY:]
        way.ended = [one for one in way.ended if now - one[0] < ROUND_WINDOW][-MANY:]
        self._ways[key] = way
        if len(self._ways) > MAX_ROUNDS:
            self._ways.popitem(last=False)
        began = now - timedelta(seconds=min(max(age, 0.0), ROUND_WINDOW.total_seconds()))
        before = [is_open for then, is_open in way.ended if then <= began]
        rounds = len(way.codes) if len(way.codes) >= MANY else len(before) + 1
        return rounds, sum(before)
