"""Device tokens: made, looked up as sessions, ended.

A token acts as an app session of its maker, judged at each look-up by the clock and by the user
as they are now. It has no web session behind it, and outlives its maker's roles: these say what
may be opened, not who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from tport.engine.access.rbac import DENIED
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.one_by_one import OneByOne
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    NotSignedIn,
)
from tport.engine.storage.backend import Delete
from tport.engine.types.device_token import (
    PREFIX,
    DeviceToken,
    NewDeviceToken,
    check_token_name,
    check_token_ttl,
    device_token_id,
)
from tport.engine.types.session import AppSession
from tport.engine.types.user import User

MAX_TOKENS: Final = 50  # of one person
SEEN_EVERY: Final = timedelta(minutes=5)  # at the least between two notes of a token's use
MAX_SEEN: Final = 10_000  # uses yet to be noted; further ones are not
SEEN_AT_ONCE: Final = 32  # noted each second, so that storage has time for other things
MIN_ID: Final = 8  # characters of an id that name a token
_LINK = msgspec.Raw(b"null")


class DeviceTokens:
    def __init__(self, cluster: Cluster, roles: Roles, sessions: Sessions, apps: Apps) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._roles = roles
        self._sessions = sessions
        self._apps = apps
        self._making = OneByOne()  # by user: from counting tokens to storing another
        self._seen: dict[str, None] = {}  # ids, used since SEEN_EVERY or more

    # --- What people do --------------------------------------------------------------------------

    async def create(self, person: User, app: str, name: str, ttl: float) -> NewDeviceToken:
        name, life = check_token_name(name), check_token_ttl(ttl)
        try:
            await self._roles.allowed(person, await self._apps.servers_of(app))
        except AccessDenied as denied:
            raise AccessDenied(DENIED, reason=denied.reason) from None
        async with self._making.turn(person.id):
            return await self._created(person, app, name, life)

    async def _created(self, person: User, app: str, name: str, life: timedelta) -> NewDeviceToken:
        own = await self.of(person)
        if any(token.name == name for token in own):
            raise AlreadyExists(f"you have a device token called {name!r} already")
        if len(own) >= MAX_TOKENS:
            raise InvalidRequest(
                f"you have {MAX_TOKENS} device tokens, the most there can be",
                hint="revoke one that you don't need any more",
            )
        now = self._cluster.clock()
        secret = PREFIX + new_secret()
        token = DeviceToken(
            id=device_token_id(secret),
            name=name,
            user=person.name,
            user_id=person.id,
            proofs=person.proofs,
            app=app,
            created=now,
            expires=now + life,
        )
        await self._cluster.record(
            "device_token.create",
            user=person.name,
            name=name,
            app_name=app,
            sid=token.id,
            expires=token.expires,
        )
        await self._stores.batch(
            [
                self._stores.device_tokens.creating(token.id, token, expires=token.expires),
                self._stores.device_tokens_of.creating(_link(token), _LINK, expires=token.expires),
            ]
        )
        return NewDeviceToken(secret=secret, token=token)

    async def of(self, person: User) -> tuple[DeviceToken, ...]:
        """Return a person's tokens that count, the newest first."""
        links = await self._stores.device_tokens_of.range(f"{person.id}/")
        ids = [item.key.rpartition("/")[2] for item in links]
        found = [await self._stores.device_tokens.find(id_) for id_ in ids]
        return self._counting((token for token in found if token is not None), [person])

    async def revoke(self, person: User, id_: str) -> DeviceToken:
        token = await self._stores.device_tokens.find(id_)
        if token is None or token.user_id != person.id:
            raise NotFound("you have no such device token: it was revoked, or it has expired")
        await self._end(token, by=person.name)
        return token

    # --- What administrators do ------------------------------------------------------------------

    async def all(self) -> tuple[DeviceToken, ...]:
        return self._counting(
            await self._stores.device_tokens.all(), await self._stores.users.all()
        )

    async def delete(self, id_: str, by: str) -> DeviceToken:
        if len(id_) < MIN_ID:
            raise InvalidRequest(f"give at least {MIN_ID} characters of the device token's id")
        found = [token for token in await self.all() if token.id.startswith(id_)]
        if not found:
            raise NotFound(
                f"no device token has the id {id_[:64]!r}",
                hint="list them with: tport device-tokens ls",
            )
        if len(found) > 1:
            raise InvalidRequest(f"the ids of {len(found)} device tokens begin with {id_!r}")
        await self._end(found[0], by=by)
        return found[0]

    # --- What proxies ask ------------------------------------------------------------------------

    async def session(self, id_: str) -> tuple[AppSession, User]:
        """Return the live session that this id has, by a cookie or a device token; and its user.

        Raises:
            NotSignedIn: none, or over.
            Locked: it lives on, and does nothing while the lock is there.
        """
        token = await self._stores.device_tokens.find(id_)
        if token is None:
            return await self._sessions.app_with_user(id_)
        now = self._cluster.clock()
        if now >= token.expires:
            raise _over("it has expired")
        user = await self._stores.users.find(token.user)
        if user is None or user.id != token.user_id:
            raise _over(f"user {token.user} was deleted")
        if not user.counts(now):
            raise _over(f"{token.user}'s provider must vouch for them anew: they sign in again")
        if user.proofs != token.proofs:
            raise _over(f"{token.user}'s password was reset since")
        user = user.at(now)
        await self._sessions.check_may_sign_in(user)
        if len(self._seen) < MAX_SEEN and (
            token.last_seen is None or now - token.last_seen >= SEEN_EVERY
        ):
            self._seen[id_] = None
        expires = token.expires
        if user.soonest is not None:
            expires = min(expires, user.soonest)  # roles given for a time end: ask again then
        if user.expires is not None:
            expires = min(expires, user.expires)
        session = AppSession(
            id=id_,
            web_session="",
            user=user.name,
            user_id=user.id,
            epoch=user.epoch,
            cluster=self._cluster.name,
            app=token.app,
            host=await self._apps.main_host(token.app),
            created=token.created,
            expires=expires,
        )
        return session, user

    # --- Time ------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Note which tokens were used; call it each second."""
        now = self._cluster.clock()
        for id_ in [*self._seen][:SEEN_AT_ONCE]:
            del self._seen[id_]
            try:
                read = await self._stores.device_tokens.read(id_)
                seen = replace(read.value, last_seen=now)
                await self._stores.device_tokens.swap(id_, read, seen, expires=read.expires)
            except (NotFound, CompareFailed):
                pass  # revoked meanwhile

    # --- Parts -----------------------------------------------------------------------------------

    def _counting(
        self, tokens: Iterable[DeviceToken], users: Iterable[User]
    ) -> tuple[DeviceToken, ...]:
        """Return those that their users' changes have not ended. These stay stored till they expire."""
        now = self._cluster.clock()
        proofs = {user.id: user.proofs for user in users}
        counting = [
            token
            for token in tokens
            if proofs.get(token.user_id) == token.proofs and now < token.expires
        ]
        counting.sort(key=lambda token: token.created, reverse=True)
        counting.sort(key=lambda token: token.user)
        return tuple(counting)

    async def _end(self, token: DeviceToken, *, by: str) -> None:
        """Delete a token; whoever deletes first is written down, and gone already is gone."""
        await self._cluster.record(
            "device_token.delete",
            user=by,
            owner=token.user,
            name=token.name,
            app_name=token.app,
            sid=token.id,
        )
        try:
            await self._stores.batch(
                [
                    Delete(self._stores.device_tokens.key(token.id)),
                    Delete(self._stores.device_tokens_of.key(_link(token))),
                ]
            )
        except (NotFound, CompareFailed):
            pass


def _link(token: DeviceToken) -> str:
    return f"{token.user_id}/{token.id}"


def _over(why: str) -> NotSignedIn:
    return NotSignedIn("the device token is wrong, or it counts no more", reason=why)
