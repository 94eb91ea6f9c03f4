"""People: making, changing and deleting them, and the links with which they choose a password."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from tport.engine.access.administrators import may_administer
from tport.engine.access.locks import lock_on_person
from tport.engine.api.answers import InviteInfo, NewInvite, SignedIn, UserInfo
from tport.engine.api.factors import NextStep
from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.conflicts import Changes, check_revision
from tport.engine.auth.factors.devices import Devices
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.signin.failures import is_locked
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.auth.signin.steps import LOCAL_AUTH_OFF, Steps, Visitor
from tport.engine.auth.stores import SWAP_TRIES, InviteOf, Stored
from tport.engine.defaults import INVITE_TTL, UP_DOMAIN, WEB_PORT
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tport.engine.storage.backend import Operation
from tport.engine.types.connector import origin_of
from tport.engine.types.session import session_id
from tport.engine.types.user import (
    Grant,
    Invite,
    PasswordRecord,
    User,
    canonical_user_name,
    check_traits,
    subject_key,
)

INVITE_PREFIX: Final = "inv_"  # tells what a secret is for. Source: security.md AZ-11
_CHANGES: Final[Changes] = {
    "user.create": ("name", "user"),
    "user.update": ("name", "user"),
    "user.password_change": ("user", "user"),
    "reset_password_token.create": ("name", "user"),
    "access_request.review": ("requester", "user"),
    "access_request.expire": ("user", ""),
}
_GONE = "this invite link is unknown, used or expired"
_GONE_HINT = "ask an administrator for a new one: tport users reset <name>"


class Users:
    def __init__(
        self,
        cluster: Cluster,
        hasher: Hasher,
        sessions: Sessions,
        steps: Steps,
        devices: Devices,
        presence: Presence,
    ) -> None:
        self._cluster = cluster
        self._presence = presence
        self._stores = cluster.stores
        self._hasher = hasher
        self._sessions = sessions
        self._steps = steps
        self._devices = devices

    # --- What administrators do ----------------------------------------------------------------

    async def create(
        self, name: str, roles: tuple[str, ...], traits: Mapping[str, tuple[str, ...]], by: str
    ) -> NewInvite:
        user = User(
            name=canonical_user_name(name),
            roles=await self._existing_roles(roles),
            traits=check_traits(traits),
            id=str(uuid.uuid4()),
            created=self._cluster.clock(),
            created_by=by,
        )
        invite, token = self._new_invite(user)
        taken = AlreadyExists(
            f"user {user.name!r} exists already",
            hint=f"for a new invite link: tport users reset {user.name}",
        )
        if await self._stores.users.find(user.name) is not None:
            raise taken
        await self._check_link_counts()
        await self._cluster.record("user.create", user=by, name=user.name, roles=list(user.roles))
        try:
            await self._stores.batch(
                [self._stores.users.creating(user.name, user), *self._giving(invite)]
            )
        except AlreadyExists:
            raise taken from None
        return self._shown(invite, token)

    async def update(
        self,
        name: str,
        roles: tuple[str, ...] | None,
        traits: Mapping[str, tuple[str, ...]] | None,
        by: str,
        *,
        lent: tuple[str, ...] = (),
        revision: int = 0,
    ) -> User:
        """See `AuthAPI.update_user`."""
        checked_roles = None if roles is None else await self._existing_roles(roles, some=False)
        checked_traits = None if traits is None else check_traits(traits)
        seen = await self._read(name)
        await self._check_seen(seen, revision)
        before = seen.value
        await self._cluster.record(
            "user.update",
            user=by,
            name=before.name,
            roles=list(before.roles if checked_roles is None else checked_roles),
        )
        for _ in range(SWAP_TRIES):
            read = await self._read(name)
            await self._check_seen(read, revision)
            user = replace(
                read.value,
                roles=read.value.roles if checked_roles is None else checked_roles,
                grants=_still(read.value.grants, checked_roles, lent),
                traits=read.value.traits if checked_traits is None else checked_traits,
                epoch=read.value.epoch + 1,
            )
            try:
                await self._stores.users.swap(user.name, read, user)
            except CompareFailed:
                continue
            return user
        raise Unavailable(f"user {name!r} is being changed by many at once")

    async def reset(self, name: str, by: str) -> NewInvite:
        """Take the password and all devices away, end every session, and make a new link."""
        known = (await self._read(name)).value
        if not known.is_local:
            raise InvalidRequest(
                f"{known.name!r} signs in by {known.origin}, and has no password here",
                hint=f"to keep them out: tport lock --user={known.name}; to end one of their"
                " sessions: tport sessions ls, and rm",
            )
        await self._check_link_counts()
        await self._cluster.record(
            "reset_password_token.create",
            user=by,
            name=known.name,
            ttl=int(INVITE_TTL.total_seconds()),
        )
        for _ in range(SWAP_TRIES):
            read = await self._read(name)
            if not read.value.is_local:
                raise CompareFailed(f"user {name!r} was made anew meanwhile")
            user = replace(read.value, epoch=read.value.epoch + 1, proofs=read.value.proofs + 1)
            invite, token = self._new_invite(user)
            try:
                await self._stores.batch(
                    [
                        self._stores.users.swapping(user.name, read, user),
                        *await self._taking(user, invite=False),
                        *self._giving(invite),
                    ]
                )
            except (CompareFailed, NotFound):
                continue
            return self._shown(invite, token)
        raise Unavailable(f"user {name!r} is being changed by many at once")

    async def delete(self, name: str, by: str) -> None:
        known = (await self._read(name)).value
        await self._cluster.record("user.delete", user=by, name=known.name)
        for _ in range(SWAP_TRIES):
            try:
                await self.forget(await self._read(name))
            except CompareFailed:
                continue
            return
        raise Unavailable(f"user {name!r} is being changed by many at once")

    async def replace_other(self, read: Stored[User], by: str) -> None:
        """Delete exactly this user, whose name somebody else has come to bear at their provider.

        Raises:
            CompareFailed: the user is another one by now.
        """
        await self._cluster.record("user.delete", user=by, name=read.value.name)
        await self.forget(read)

    async def forget(self, read: Stored[User]) -> None:
        """Delete exactly this user, and all that is theirs; nothing is written down.

        Raises:
            CompareFailed: the user is another one by now.
        """
        user = read.value
        shelf = await self._stores.shelves.find(user.id)
        try:
            await self._stores.batch(
                [
                    self._stores.users.deleting(user.name, read),
                    *await self._taking(user, invite=True),
                    *([] if shelf is None else [self._stores.shelves.deleting(user.id)]),
                ]
            )
        except (CompareFailed, NotFound):
            raise CompareFailed(f"user {user.name!r} was changed meanwhile") from None

    async def all(self) -> tuple[UserInfo, ...]:
        stores, now = self._stores, self._cluster.clock()
        has_password = {item.key for item in await stores.passwords.range()}
        invited = {item.key: item.expires for item in await stores.invite_of.range()}
        failures = {
            item.key: stores.failures.decode(item) for item in await stores.failures.range()
        }
        locks = await stores.locks.all()
        roles = {role.name: role for role in await stores.roles.all()}
        takes_passwords = (await self._cluster.sign_in()).local_auth
        origins = {origin_of(each) for each in await stores.connectors.all()}
        infos = []
        for item in await stores.users.range():
            user = stores.users.decode(item).at(now)
            failed = failures.get(stores.failures.key(user.name))
            locked = failed is not None and is_locked(failed, now)
            lock = lock_on_person(locks, user.name, user.roles, now)
            signed_up = stores.passwords.key(user.name) in has_password
            invited_until = invited.get(stores.invite_of.key(user.name))
            by_password = takes_passwords and (signed_up or invited_until is not None)
            infos.append(
                UserInfo(
                    user=user,
                    revision=item.revision,
                    has_password=signed_up,
                    invited_until=invited_until,
                    locked_until=failed.locked_until if failed is not None and locked else None,
                    lock=lock.name if lock is not None else "",
                    administers=may_administer(
                        roles,
                        user.roles,
                        signs_in=by_password if user.is_local else user.origin in origins,
                        locked=lock is not None,
                    ),
                )
            )
        return tuple(infos)

    # --- What the invited do -------------------------------------------------------------------

    async def invite(self, token: str) -> InviteInfo:
        invite = (await self._live_invite(token)).value
        return InviteInfo(
            user=invite.user,
            expires=invite.expires,
            password_min=(await self._cluster.sign_in()).password_min,
        )

    async def accept(self, token: str, password: str, visitor: Visitor) -> SignedIn | NextStep:
        """Spend the invite and set the password as one write, then go on to sign in."""
        read = await self._live_invite(token)
        invite = read.value
        if not (await self._cluster.sign_in()).local_auth:
            await self._steps.write_failure(invite.user, visitor, LOCAL_AUTH_OFF, "invite")
            raise AccessDenied("passwords don't sign in here any more", reason=LOCAL_AUTH_OFF)
        await self._sessions.check_may_sign_in(await self._stores.users.get(invite.user))
        async with self._hasher.turn(invite.user):
            phc = await self._hasher.chosen(
                password,
                user=invite.user,
                cluster=self._cluster.name,
                minimum=(await self._cluster.sign_in()).password_min,
            )
        await self._cluster.record("user.password_change", user=invite.user, remote=visitor.remote)
        try:
            user = await self._stores.users.read(invite.user)
            if user.value.id != invite.user_id:
                raise NotFound(_GONE, hint=_GONE_HINT)
            record = PasswordRecord(phc=phc, changed=self._cluster.clock())
            await self._stores.batch(
                [
                    self._stores.users.checking(invite.user, user),
                    self._stores.invites.deleting(invite.id, read),
                    self._stores.invite_of.deleting(invite.user),
                    self._stores.passwords.putting(invite.user, record),
                ]
            )
        except (NotFound, CompareFailed):
            raise NotFound(_GONE, hint=_GONE_HINT) from None
        return await self._steps.after(user.value, visitor, "invite")

    async def named(self, name: str) -> User:
        """Return a user.

        Raises:
            NotFound: there is none of this name.
        """
        return (await self._read(name)).value

    # --- Parts ---------------------------------------------------------------------------------

    async def _read(self, name: str) -> Stored[User]:
        try:
            return await self._stores.users.read(canonical_user_name(name))
        except NotFound:
            raise NotFound(
                f"no user is called {name[:128]!r}", hint="list them with: tport users ls"
            ) from None

    async def _check_seen(self, read: Stored[User], revision: int) -> None:
        await check_revision(
            self._cluster,
            wanted=revision,
            found=read.revision,
            what="user",
            name=read.value.name,
            changes=_CHANGES,
        )

    async def _existing_roles(
        self, roles: tuple[str, ...], *, some: bool = True
    ) -> tuple[str, ...]:
        if some and not roles:
            raise InvalidRequest("a user needs at least one role", hint="try: --roles=access")
        known = {role.name for role in await self._stores.roles.all()}
        for role in roles:
            if role not in known:
                raise NotFound(
                    f"no role is called {role[:64]!r}",
                    hint=f"there are: {', '.join(sorted(known))}",
                )
        return tuple(dict.fromkeys(roles))

    async def _check_link_counts(self) -> None:
        """Raise InvalidRequest when a link to choose a password with would lead nowhere."""
        if not (await self._cluster.sign_in()).local_auth:
            raise InvalidRequest(
                "people sign in by identity providers alone here, so that a link would lead nowhere",
                hint="whom a connector's mappings give a role can sign in: tport get connectors;"
                " to have passwords beside them: tport edit cap, allow_local_auth: true",
            )

    def _new_invite(self, user: User) -> tuple[Invite, str]:
        token = INVITE_PREFIX + new_secret()
        expires = self._cluster.clock() + INVITE_TTL
        return (
            Invite(id=session_id(token), user=user.name, user_id=user.id, expires=expires),
            token,
        )

    def _giving(self, invite: Invite) -> list[Operation]:
        """Store an invite; the one before it, if any, no longer counts."""
        return [
            self._stores.invites.creating(invite.id, invite, expires=invite.expires),
            self._stores.invite_of.putting(
                invite.user, InviteOf(id=invite.id), expires=invite.expires
            ),
        ]

    async def _taking(self, user: User, *, invite: bool) -> list[Operation]:
        """Delete what a user can prove themselves with, and the count of failures."""
        name = user.name
        operations = await self._devices.taking(user)
        if user.subject and await self._stores.subjects.find(subject_key(user.subject)) is not None:
            operations.append(self._stores.subjects.deleting(subject_key(user.subject)))
        for store in (self._stores.passwords, self._stores.failures):
            if await store.find(name) is not None:
                operations.append(store.deleting(name))
        if (of := await self._stores.invite_of.find(name)) is not None:
            if invite:
                operations.append(self._stores.invite_of.deleting(name))
            if await self._stores.invites.find(of.id) is not None:
                operations.append(self._stores.invites.deleting(of.id))
        return operations

    async def _live_invite(self, token: str) -> Stored[Invite]:
        gone = NotFound(_GONE, hint=_GONE_HINT)
        if not token.startswith(INVITE_PREFIX) or len(token) > 128:
            raise gone
        try:
            read = await self._stores.invites.read(session_id(token))
            of = await self._stores.invite_of.get(read.value.user)
            user = await self._stores.users.get(read.value.user)
        except NotFound:
            raise gone from None
        live = self._cluster.clock() < read.value.expires
        if not live or of.id != read.value.id or user.id != read.value.user_id:
            raise gone
        return read

    def _shown(self, invite: Invite, token: str) -> NewInvite:
        addresses = self._presence.proxy_addrs
        address = addresses[0] if addresses else f"{UP_DOMAIN}:{WEB_PORT}"
        return NewInvite(
            user=invite.user,
            url=f"https://{address.removesuffix(':443')}/web/invite/{token}",
            expires=invite.expires,
        )


def _still(
    grants: tuple[Grant, ...], roles: tuple[str, ...] | None, lent: tuple[str, ...]
) -> tuple[Grant, ...]:
    """Return what stays of roles given for a time; those that are set are given without end."""
    if roles is None:
        return grants
    return tuple(grant for grant in grants if grant.role in lent and grant.role in roles)
