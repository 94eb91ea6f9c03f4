"""Who comes back from a provider: what they are called, what they get, and the user they are here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import trio
from msgspec.structs import replace

from tport.engine.access.claims import (
    Traits,
    mapped_roles,
    team_roles,
    traits_of,
    user_name,
    vouched_claims,
)
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.people.users import Users
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.sso.provider import Proven
from tport.engine.auth.stores import SWAP_TRIES, Stored, SubjectOf
from tport.engine.defaults import WEB_SESSION_TTL
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tport.engine.storage.backend import Operation
from tport.engine.types.connector import (
    ClaimMapping,
    Connector,
    GithubConnector,
    OidcConnector,
    issuer_of,
    origin_of,
)
from tport.engine.types.user import SUBJECT_PARTS, User, canonical_user_name, subject_key


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Who came, before it is known whether they may.

    Attributes:
        subject: the provider's address and its word for the person.
        name: "" where `problem` says why they can have none.
        roles: those that exist; missing: those that mappings gave and that don't.
        unmet: where there are none, what would have given some.
    """

    origin: str
    subject: str
    name: str
    traits: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]
    roles: tuple[str, ...]
    missing: tuple[str, ...]
    unmet: tuple[ClaimMapping, ...] = ()
    problem: str = ""
    hint: str = ""


async def arrival(
    connector: Connector,
    proven: Proven,
    teams: list[tuple[str, str]],
    known_roles: Mapping[str, object],
) -> Arrival:
    """Return who came, as this connector has it. Others have their turn meanwhile."""
    told = traits_of(vouched_claims(connector, proven.claims))
    name, problem, hint = "", "", ""
    try:
        if isinstance(connector, OidcConnector):
            name = user_name(connector, proven.claims)
        else:
            name = canonical_user_name(str(proven.claims["login"]))
    except (AccessDenied, InvalidRequest) as refused:
        problem, hint = str(refused), refused.hint
    if isinstance(connector, OidcConnector):
        given = await _mapped(connector, told.whole)
    else:
        given = team_roles(connector.teams_to_roles, teams)
    roles = tuple(role for role in given if role in known_roles)
    if not roles and not problem:
        problem = "nothing that your provider says of you gives you a role here"
        hint = "ask whoever administers this cluster: the audit log tells them what would"
    return Arrival(
        origin=origin_of(connector),
        subject=subject_of(connector, proven.subject),
        name=name,
        traits=told.traits,
        left_out=_left_out(proven.cut, told.left_out, _unvouched(connector, proven.claims)),
        roles=roles,
        missing=tuple(role for role in given if role not in known_roles),
        unmet=() if roles else mappings_of(connector),
        problem=problem,
        hint=hint,
    )


async def _mapped(connector: OidcConnector, claims: Traits) -> tuple[str, ...]:
    """Return the roles that claims give. Thousands of groups and a hundred expressions take seconds."""
    roles: dict[str, None] = {}
    for mapping in connector.claims_to_roles:
        roles.update(dict.fromkeys(mapped_roles([mapping], claims)))
        await trio.lowlevel.checkpoint()
    return tuple(roles)


def _left_out(*parts: Mapping[str, str]) -> Mapping[str, str]:
    """Return what is left out of each claim, with every reason."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: "; ".join(part[name] for part in parts if name in part) for name in names}


def _unvouched(connector: Connector, claims: Mapping[str, object]) -> Mapping[str, str]:
    left = claims.keys() - vouched_claims(connector, claims).keys()
    return dict.fromkeys(sorted(left), "the provider does not vouch for it")


def subject_of(connector: Connector, subject: str) -> str:
    """Return what tells a person from all others, of other providers, too."""
    return f"{issuer_of(connector)}{SUBJECT_PARTS}{subject}"


def mappings_of(connector: Connector) -> tuple[ClaimMapping, ...]:
    """Return what gives roles, in the words of claims."""
    if isinstance(connector, GithubConnector):
        return tuple(
            ClaimMapping(
                claim="github_teams", value=f"{each.organization}/{each.team}", roles=each.roles
            )
            for each in connector.teams_to_roles
        )
    return connector.claims_to_roles


class Arrivals:
    """Makes users of who came."""

    def __init__(self, cluster: Cluster, roles: Roles, users: Users, sessions: Sessions) -> None:
        self._sessions = sessions
        self._cluster = cluster
        self._stores = cluster.stores
        self._roles = roles
        self._users = users

    async def settle(self, who: Arrival) -> User:
        """Return the user that somebody is here, as their provider has them now.

        Raises:
            AccessDenied: the name belongs to somebody whom something else proves.
        """
        for _ in range(SWAP_TRIES):
            read = await self._find(who.name)
            note = await self._noting(who)
            if read is not None:
                await self._sessions.check_may_sign_in(read.value)  # before anything is changed
            if read is not None and read.value.origin != who.origin:
                raise AccessDenied(
                    f"{who.name!r} is somebody else here",
                    reason=f"the name is taken by a user of {read.value.origin}",
                    hint="whoever administers this cluster can remove or rename that user, or have"
                    " the connector name people by another claim",
                )
            if read is not None and read.value.subject != who.subject:
                # The name was given to another person there: nothing of the one before is theirs.
                try:
                    await self._users.replace_other(read, who.origin)
                except CompareFailed:
                    pass
                continue
            user = await self._user(who, None if read is None else read.value)
            try:
                if read is None:
                    await self._record("user.create", user)
                    write = self._stores.users.creating(user.name, user)
                else:
                    if user.epoch != read.value.epoch:
                        await self._record("user.update", user)
                    write = self._stores.users.swapping(user.name, read, user)
                await self._stores.batch([write, note])
            except (AlreadyExists, CompareFailed, NotFound):
                continue
            return user
        raise Unavailable(f"user {who.name!r} is being changed by many at once")

    async def _noting(self, who: Arrival) -> Operation:
        """Return what notes who this person is here, while nobody else does: of two names one counts.

        Raises:
            AccessDenied: they are a user of another name, whose locks and devices are theirs.
        """
        subjects, key = self._stores.subjects, subject_key(who.subject)
        of = SubjectOf(user=who.name)
        try:
            known = await subjects.read(key)
        except NotFound:
            return subjects.creating(key, of)
        if known.value == of:
            return subjects.checking(key, known)
        name = known.value.user
        before = await self._find(name)
        if before is not None and before.value.subject == who.subject:
            raise AccessDenied(
                f"you are known here as {name!r}, and your provider now calls you {who.name!r}",
                reason=f"{name} came as {who.name}",
                hint=f"whoever administers this cluster can remove the old name: tport users rm {name}",
            )
        return subjects.swapping(key, known, of)

    async def _find(self, name: str) -> Stored[User] | None:
        try:
            return await self._stores.users.read(name)
        except NotFound:
            return None

    async def _user(self, who: Arrival, before: User | None) -> User:
        now = self._cluster.clock()
        if before is None:
            user = User(
                name=who.name,
                roles=who.roles,
                traits=who.traits,
                origin=who.origin,
                subject=who.subject,
                id=str(uuid.uuid4()),
                created=now,
                created_by=who.origin,
            )
        else:
            lent = tuple(grant.role for grant in before.grants)
            user = replace(
                before,
                roles=tuple(dict.fromkeys((*who.roles, *lent))),
                grants=tuple(grant for grant in before.grants if grant.role not in who.roles),
                traits=who.traits,
            )
            if user != before or not before.counts(now):
                user = replace(user, epoch=before.epoch + 1)
        ttl = min(WEB_SESSION_TTL, await self._roles.ttl(user))
        return replace(user, expires=max(now + ttl, user.expires or now))

    async def _record(self, event: str, user: User) -> None:
        await self._cluster.record(
            event, user=user.origin, name=user.name, roles=list(user.roles), connector=user.origin
        )
