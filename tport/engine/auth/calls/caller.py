"""Who calls AuthAPI, and whether they may: each call is looked up in `CALLERS` or `RULES` first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar, cast

from tport.engine.access.rules import check_rule
from tport.engine.api.protocol import CALLERS, FRESH, RULES, AuthAPI
from tport.engine.errors import AccessDenied
from tport.engine.types.identity import Identity
from tport.engine.types.session import session_id
from tport.engine.types.user import User

if TYPE_CHECKING:
    from tport.engine.auth.service import AuthService

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="Caller")


def call(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, T]]:
    """Make a call of AuthAPI of a method: nothing of it runs for who may not make it."""

    @wraps(method)
    async def checked(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self.check(method.__name__)
        return await method(self, *args, **kwargs)

    return checked


class Caller:
    """Who calls, and whether they may: what every part of `Calls` stands on."""

    def __init__(
        self,
        service: AuthService,
        identity: Identity | None,
        remote: str,
        *,
        acting: str | None = None,
    ) -> None:
        """`acting`: the cookie's value of the web session for whose person a proxy calls."""
        self.service = service
        self.identity = identity
        self.remote = remote
        self._acting = acting
        self._person: User | None = None  # whose session that is, once a call was checked

    def acting_for(self, secret: str) -> AuthAPI:
        same = type(self)(self.service, self.identity, self.remote, acting=secret)
        return cast("AuthAPI", same)

    async def check(self, call: str) -> None:
        """Raise AccessDenied, and write it down, unless this caller may make this call."""
        kind = "anyone" if self.identity is None else self.identity.kind
        if self._acting is not None and kind == "proxy" and self._is_of_this_cluster:
            await self._check_person(call, self._acting)
            return
        is_row = kind in CALLERS.get(call, frozenset())
        if is_row and self._is_of_this_cluster and self._acting is None:
            if kind == "agent":
                await self.service.locks.check_host(self.name)
            return
        await self.denied(call, kind, f"{kind} {self.name!r} may not call {call[:40]!r}")

    async def _check_person(self, call: str, secret: str) -> None:
        # By the cookie's value, which only its own browser's proxy sees: an id stands in lists.
        session, user = await self.service.sessions.web_with_user(session_id(secret))
        await self.service.sessions.seen(session)
        self._person = user
        if call not in RULES:
            await self.denied(call, "user", f"people may not call {call[:40]!r}")
        if (rule := RULES[call]) is not None:
            try:
                check_rule(await self.service.roles.now(), user.roles, *rule)
            except AccessDenied as denied:
                why = f"{user.name} may not call {call}: {denied.reason}"
                await self.denied(call, "user", why)
        if call in FRESH:
            await self.service.sessions.check_fresh_proof(session)

    async def denied(self, call: str, kind: str, reason: str) -> NoReturn:
        """Refuse what this caller asked, and write it down."""
        told = {"call": call[:40], "caller": kind, "name": self.name, "error": reason}
        if self.identity is None:
            await self.service.refusals.tell("auth.failed", remote=self.remote, **told)
        else:
            await self.service.cluster.emit("auth.failed", remote=self.remote, **told)
        who = "this caller" if self._acting is None else "your roles"
        raise AccessDenied(f"{who} may not {call[:40].replace('_', ' ')}", reason=reason)

    @property
    def _is_of_this_cluster(self) -> bool:
        return self.identity is None or self.identity.cluster == self.service.cluster.name

    @property
    def is_for_person(self) -> bool:
        return self._acting is not None

    @property
    def own_session(self) -> str:
        """The id of the session for whose person a proxy calls."""
        if self._acting is None:
            raise AccessDenied("nobody is signed in")
        return session_id(self._acting)

    @property
    def person(self) -> User:
        """The person for whom a proxy calls, as they are now."""
        if self._person is None:
            raise AccessDenied("nobody is signed in")
        return self._person

    @property
    def name(self) -> str:
        if self._acting is not None:
            return "" if self._person is None else self._person.name
        return "" if self.identity is None else self.identity.name
