"""Stand-ins that tests share: small real things, not mocks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from tport.engine.api.answers import Authorities, InviteInfo, LaunchCode, SignedIn
from tport.engine.api.catalogue import AppInfo, OwnApp
from tport.engine.api.sso import ProviderLogout, SignInChoices
from tport.engine.errors import AccessDenied, InvalidRequest, NotFound, NotSignedIn
from tport.engine.types.app import AppServer
from tport.engine.types.approval import JoinRequest, JoinState, read_code
from tport.engine.types.explanation import Explanation
from tport.engine.types.factor import OFF, FactorPolicy
from tport.engine.types.icon import Icon
from tport.engine.types.request import AccessRequest, check_words
from tport.engine.types.session import WebSession, session_id

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class WallClock:
    """A wall clock that moves when a test moves it: `clock.now += timedelta(minutes=5)`."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class FakeAuth:
    """What the web pages ask of auth, in memory: users by password, invites by token.

    `failure`, when set, is what every call raises. `calls` names what changed something.
    """

    cluster = "main"

    def __init__(self, clock: WallClock) -> None:
        self.clock = clock
        self.passwords = {"alice": "right horse battery staple"}
        self.invites = {"invite-token-of-bob-0001": "bob"}
        self.sessions: dict[str, WebSession] = {}
        self.hosts: set[str] = {"grafana.proxy.test"}
        self.away: set[str] = set()  # of these, those whose application no agent offers now
        self.servers: tuple[AppServer, ...] = ()
        self.jwks: Mapping[str, object] = {"keys": [{"kid": "1"}]}
        self.apps: tuple[OwnApp, ...] = ()
        self.icons: dict[str, Icon] = {}  # of what the person may open
        self.infos: tuple[AppInfo, ...] = ()
        self.rights: tuple[tuple[str, str], ...] = ()
        self.rounds = 0
        self.policy = OFF
        self.opened = 0  # sessions in these
        self.ahead = timedelta()  # of the proxy's clock
        self.launched: list[tuple[str, str, str]] = []
        self.calls: list[str] = []
        self.failure: Exception | None = None
        self.requests: list[AccessRequest] = []
        self.explained: Explanation | None = None
        self.join: JoinRequest | None = None
        self.join_word = "K7Q4XM"
        self.choices = SignInChoices(connectors=(), passwords=True)
        self.provider_out: ProviderLogout | None = None
        self.acting = ""  # the web session that was acted for last

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _session(self, user: str, remote: str, user_agent: str) -> SignedIn:
        secret = f"secret-{user}-{len(self.sessions)}"
        session = WebSession(
            id=session_id(secret),
            user=user,
            user_id=f"id-{user}",
            proofs=1,
            cluster=self.cluster,
            created=self.clock(),
            expires=self.clock() + timedelta(hours=12),
            remote=remote,
            user_agent=user_agent,
        )
        self.sessions[session.id] = session
        return SignedIn(secret=secret, session=session)

    async def sign_in(
        self,
        *,
        username: str,
        password: str,
        remote: str,
        user_agent: str,
        browser: str = "",
        known: str = "",
    ) -> SignedIn:
        self._check()
        self.calls.append("sign_in")
        if self.passwords.get(username) != password:
            raise AccessDenied("access denied", reason="whatever it was")
        return self._session(username, remote, user_agent)

    async def sign_in_choices(self) -> SignInChoices:
        self._check()
        return self.choices

    async def provider_logout(self, *, id: str, back: str) -> ProviderLogout | None:
        self._check()
        return self.provider_out

    async def factor_policy(self) -> FactorPolicy:
        self._check()
        return self.policy

    async def web_session(self, *, id: str) -> WebSession:
        self._check()
        session = self.sessions.get(id)
        if session is None or session.expires <= self.clock():
            raise NotSignedIn("no session")
        return session

    async def sign_out(self, *, id: str) -> None:
        self._check()
        self.calls.append("sign_out")
        self.sessions.pop(id, None)

    async def invite(self, *, token: str) -> InviteInfo:
        self._check()
        if token not in self.invites:
            raise NotFound("no such invite")
        return InviteInfo(
            user=self.invites[token], expires=self.clock() + timedelta(hours=1), password_min=15
        )

    async def accept_invite(
        self,
        *,
        token: str,
        password: str,
        remote: str,
        user_agent: str,
        browser: str = "",
        known: str = "",
    ) -> SignedIn:
        info = await self.invite(token=token)
        if len(password) < info.password_min:
            raise InvalidRequest(f"the password needs at least {info.password_min} characters")
        self.calls.append("accept_invite")
        del self.invites[token]
        self.passwords[info.user] = password
        return self._session(info.user, remote, user_agent)

    async def launch(self, *, web_session: str, host: str, state: str, age: float) -> LaunchCode:
        self._check()
        self.calls.append("launch")
        if host not in self.hosts:
            raise AccessDenied("no such application", reason="whatever it was")
        if host in self.away:
            raise NotFound("no agent that offers it is connected")
        self.rounds += 1
        self.launched.append((web_session, host, state))
        return LaunchCode(
            code=f"code-{self.rounds}",
            host=host,
            rounds=self.rounds,
            opened=self.opened,
            now=self.clock() + self.ahead,
        )

    async def authorities(self) -> Authorities:
        self._check()
        return Authorities(
            cluster=self.cluster,
            host=("host pem",),
            web=("web pem",),
            user=("user pem",),
            jwks=self.jwks,
        )

    async def own_rights(self) -> tuple[tuple[str, str], ...]:
        self._check()
        return self.rights

    async def own_apps(self) -> tuple[OwnApp, ...]:
        self._check()
        return self.apps

    async def own_app_icon(self, *, app: str) -> Icon:
        self._check()
        if app not in self.icons:
            raise NotFound("no such icon")
        return self.icons[app]

    async def list_apps(self) -> tuple[AppInfo, ...]:
        self._check()
        return self.infos

    async def mark_favourite(self, *, app: str, favourite: bool) -> None:
        self._check()
        self.calls.append("mark_favourite")
        self.apps = tuple(
            replace(one, favourite=favourite) if one.name == app else one for one in self.apps
        )

    async def check_right(self, *, kind: str, verb: str) -> None:
        self._check()
        if (kind, verb) not in self.rights:
            raise AccessDenied(f"your roles may not {verb} {kind}")

    async def list_app_servers(self) -> tuple[AppServer, ...]:
        self._check()
        return self.servers

    def acting_for(self, secret: str) -> FakeAuth:
        self.acting = session_id(secret)
        return self

    async def explain_own(self, *, host: str) -> Explanation | None:
        self._check()
        return self.explained

    async def own_requests(self) -> tuple[AccessRequest, ...]:
        self._check()
        return tuple(reversed(self.requests))

    async def request_access(self, *, host: str, reason: str) -> AccessRequest:
        self._check()
        self.calls.append("request_access")
        user = self.sessions[self.acting].user
        asked = AccessRequest(
            id=f"r{len(self.requests)}",
            user=user,
            user_id=f"id-{user}",
            host=host,
            reason=check_words(reason),
            created=self.clock(),
        )
        self.requests.append(asked)
        return asked

    async def find_join(self, *, code: str) -> JoinRequest:
        self._check()
        if self.join is None or read_code(code) != self.join.code:
            raise NotFound("no machine that shows this code has asked", hint="compare it")
        return self.join

    async def decide_join(self, *, code: str, host_id: str, approve: bool) -> JoinRequest:
        asked = await self.find_join(code=code)
        if host_id != asked.host_id:
            raise NotFound("what this machine asked for is not what was shown any more")
        self.calls.append("approve" if approve else "deny")
        state: JoinState = "approved" if approve else "denied"
        word = self.join_word if approve else ""
        self.join = msgspec.structs.replace(asked, state=state, by="alice", word=word)
        return self.join
