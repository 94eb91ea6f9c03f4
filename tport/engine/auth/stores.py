"""Auth's records in the Backend: which key holds what.

    key                                     value               expires
    /cluster                                ClusterRecord       -
    /authorities/<host|web|user|jwt>        pki Authority       -        private keys: secret
    /clock                                  ClockRecord         -        the latest time that was seen
    /proxy_keys                             ProxyKeys           -        secret
    /auth_preference                        Preference          -        what the file leaves open
    /roles/<name>                           Role                -
    /users/<name>                           User                -
    /passwords/<name>                       PasswordRecord      -        an Argon2id hash
    /failures/<name>                        FailedLogins        FAILURES_KEPT
    /factors/<name>                         Factors             -        secrets in it are sealed
    /credentials/<credential hash>          CredentialOf        -
    /attempts/<browser or session hash>     Attempt             its own
    /seen/<web hash>                        SessionMark         the session's; the last request
    /proofs/<web hash>                      SessionMark         FRESH_PROOF; shown anew who it is
    /known/<cookie hash>                    KnownBrowser        KNOWN_TTL
    /invites/<token hash>                   Invite              INVITE_TTL
    /invite_of/<name>                       InviteOf            INVITE_TTL; the only valid one
    /tokens/<secret hash>                   JoinToken           its own
    /joins/<secret hash>/<key id>           JoinedHost          JOIN_REPEAT; makes joining repeatable
    /hosts/<host id>                        HostRecord          when no certificate of it renews
    /apps/<name>                            Definition          -
    /app_resources/<name>                   App                 -        those that agents pick up
    /locks/<name>                           Lock                -        see `rights.locks`
    /locks_over/<name>/<random>             Lock                -        those whose time is over
    /join_requests/<id>                     JoinRequest         15 minutes
    /requests/<id>                          AccessRequest       KEPT after it was made or decided
    /sessions/web/<cookie hash>             WebSession          its own
    /sessions/app/<cookie hash>             AppSession          its own
    /sessions/of/<web hash>/<app hash>      -                   the app session's
    /shelves/<user id>                      Shelf               -
    /launch/<code hash>                     LaunchRecord        LAUNCH_CODE_TTL
    /acme/states/<CA>/<name>                AcmeState           30 days after the certificate
    /acme/pairs/<CA>/<name>                 PairRecord          the same; the key is sealed
    /acme/accounts/<CA>                     AccountRecord       -        the key is sealed
    /acme/marks/several                     -                   -        there were several proxies
    /connectors/<kind>/<name>               Connector           -        its client_secret is sealed
    /subjects/<subject hash>                SubjectOf           -        who a provider's person is here
    /sso/<state hash>                       SsoAttempt          SSO_TTL
    /sso_tests/<id>                         SsoTest             TEST_TTL
    /provider_sessions/<web hash>           ProviderSession     the session's
    /device_tokens/<token hash>             DeviceToken         its own
    /device_tokens_of/<user id>/<hash>      -                   the device token's

What a person or a machine holds (cookies, codes, tokens, links) is here as SHA-256 only: who
reads the database can't be anybody. The names of the first folder are what watches follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, Literal, TypeVar

import msgspec

from tport.engine.api.answers import ProxyKeys
from tport.engine.errors import AlreadyExists, CompareFailed, NotFound, Unavailable
from tport.engine.pki.authority import Authority
from tport.engine.storage.backend import (
    BATCH_LIMIT,
    Backend,
    Check,
    CompareAndSwap,
    Create,
    Delete,
    Item,
    Operation,
    Put,
)
from tport.engine.types.acme import AcmeState
from tport.engine.types.app import App
from tport.engine.types.approval import JoinRequest
from tport.engine.types.connector import Connector
from tport.engine.types.device_token import DeviceToken
from tport.engine.types.factor import Factors
from tport.engine.types.lock import Lock
from tport.engine.types.preference import Preference
from tport.engine.types.request import AccessRequest
from tport.engine.types.role import Role
from tport.engine.types.session import AppSession, WebSession
from tport.engine.types.sso import ProviderSession, SsoAttempt, SsoTest
from tport.engine.types.token import JoinToken
from tport.engine.types.user import FailedLogins, Invite, PasswordRecord, User

T = TypeVar("T")
Stage = Literal["prove", "enrol", "passkey", "again"]

SWAP_TRIES: Final = 20  # rounds of read, change, compare-and-swap before giving up


class ClusterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided at the first start and can't change: every certificate says it."""

    name: str
    created: datetime


class ClockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The latest time that auth has seen: see `sessions.set_back`."""

    latest: datetime


class InviteOf(msgspec.Struct, frozen=True, kw_only=True):
    """The one invite of a user that counts; making another kills it."""

    id: str


class JoinedHost(msgspec.Struct, frozen=True, kw_only=True):
    """The host that one key became by one token."""

    host_id: str


class HostRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A host's newest certificate: how many were made before it, and the id of its key."""

    generation: int
    key: str


class SessionMark(msgspec.Struct, frozen=True, kw_only=True):
    """When something last was so of a web session; apart from it, so that nothing waits for it."""

    at: datetime


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """An application as it was last agreed upon.

    Attributes:
        hosts: ids of the agents that offer it, or did last.
        gone: since when none of them is there; None: some are.
        handed_out: it is what auth handed to agents then, so that the next one it hands out
            takes its place.
    """

    app: App
    hosts: tuple[str, ...]
    gone: datetime | None = None
    handed_out: bool = False


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """What a person keeps at hand. `opened`: applications, and when each was opened last."""

    favourites: tuple[str, ...] = ()
    opened: Mapping[str, datetime] = {}


class LaunchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A launch code. Once spent it stays, so that a second use is noticed.

    Attributes:
        state: SHA-256 hex of the state cookie's value.
        spent_by: the id of the app session it became; "": not spent.
        twice: whether it came again, so that there is no such session, now or later.
    """

    state: str
    app: str
    host: str
    web_session: str
    spent_by: str = ""
    twice: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One thing begun.

    Attributes:
        id: random; the form says it, so that the form of an older attempt does nothing.
        stage: what comes next: to prove, to set up, or (`passkey`) to say who it is by proving;
            `again`: the person is signed in and proves it anew.
        user, user_id, proofs: of the user when it began, "" for `passkey`.
        method: what has proved the person so far.
        provider: whose word that is; None: nobody's but ours.
        secret: the TOTP secret that is being set up, sealed; "": none.
        challenge: base64url, that the next answer of an authenticator must sign; "": none.
    """

    id: str
    stage: Stage
    expires: datetime
    user: str = ""
    user_id: str = ""
    proofs: int = 0
    method: str = ""
    provider: ProviderSession | None = None
    secret: str = ""
    challenge: str = ""
    challenge_until: datetime | None = None

    def is_of(self, user: User) -> bool:
        return (self.user, self.user_id, self.proofs) == (user.name, user.id, user.proofs)


class KnownBrowser(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that has signed a person in; `failures` since the last time."""

    user_id: str
    proofs: int
    failures: int = 0


class PairRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate by ACME: the chain in PEM, its key sealed."""

    chain: str
    key: str


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An account at a CA: its key sealed, `url` "" until the CA has it."""

    directory: str
    key: str
    url: str = ""


class SubjectOf(msgspec.Struct, frozen=True, kw_only=True):
    """Which user a provider's person is: under another name there they are no other user."""

    user: str


class CredentialOf(msgspec.Struct, frozen=True, kw_only=True):
    """Whose a passkey is: no two people have the same one."""

    user: str


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A record as read, with what is needed to replace exactly it."""

    value: T
    revision: int
    expires: datetime | None


class Store(Generic[T]):
    """All records of one kind: `prefix` and a name make the key."""

    def __init__(self, backend: Backend, prefix: str, type_: type[T]) -> None:
        self.prefix = prefix
        self._backend = backend
        self._decoder = msgspec.json.Decoder(type_)

    def key(self, name: str) -> str:
        return self.prefix + name

    async def get(self, name: str) -> T:
        """Return the record, or raise NotFound."""
        return (await self.read(name)).value

    async def find(self, name: str) -> T | None:
        try:
            return await self.get(name)
        except NotFound:
            return None

    async def read(self, name: str) -> Stored[T]:
        """Return the record with its revision, or raise NotFound."""
        item = await self._backend.get(self.key(name))
        return Stored(self.decode(item), item.revision, item.expires)

    async def all(self, under: str = "") -> list[T]:
        return [self.decode(item) for item in await self.range(under)]

    async def range(self, under: str = "") -> list[Item]:
        return await self._backend.range(self.key(under))

    async def create(self, name: str, value: T, *, expires: datetime | None = None) -> None:
        """Write a record whose name is free, or raise AlreadyExists."""
        await self._backend.create(self._item(name, value, expires))

    async def put(self, name: str, value: T, *, expires: datetime | None = None) -> None:
        await self._backend.put(self._item(name, value, expires))

    async def swap(
        self, name: str, read: Stored[T], value: T, *, expires: datetime | None = None
    ) -> None:
        """Replace exactly what was read, or raise CompareFailed."""
        await self._backend.compare_and_swap(self._item(name, value, expires, read.revision))

    async def delete(self, name: str) -> None:
        """Delete a record, or raise NotFound."""
        await self._backend.delete(self.key(name))

    def decode(self, item: Item) -> T:
        """Read what an item holds.

        Raises:
            Unavailable: it can't be read: never a reason to let anybody in.
        """
        try:
            return self._decoder.decode(item.value)
        except msgspec.MsgspecError as problem:
            raise Unavailable(f"the stored {item.key} can't be read: {problem}") from None

    # As parts of a batch

    def creating(self, name: str, value: T, *, expires: datetime | None = None) -> Operation:
        return Create(self._item(name, value, expires))

    def putting(self, name: str, value: T, *, expires: datetime | None = None) -> Operation:
        return Put(self._item(name, value, expires))

    def swapping(
        self, name: str, read: Stored[T], value: T, *, expires: datetime | None = None
    ) -> Operation:
        return CompareAndSwap(self._item(name, value, expires, read.revision))

    def deleting(self, name: str, read: Stored[T] | None = None) -> Operation:
        return Delete(self.key(name), read.revision if read is not None else None)

    def checking(self, name: str, read: Stored[T] | None) -> Operation:
        """Let the batch pass only while the record is as it was read (None: absent)."""
        return Check(self.key(name), read.revision if read is not None else 0)

    def _item(self, name: str, value: T, expires: datetime | None, revision: int = 0) -> Item:
        encoded = msgspec.json.encode(value)
        return Item(key=self.key(name), value=encoded, expires=expires, revision=revision)


class Stores:
    """Every kind of record, each behind its own type."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.cluster = Store(backend, "/", ClusterRecord)
        self.clock = Store(backend, "/", ClockRecord)
        self.authorities = Store(backend, "/authorities/", Authority)
        self.proxy_keys = Store(backend, "/", ProxyKeys)
        self.preference = Store(backend, "/", Preference)
        self.roles = Store(backend, "/roles/", Role)
        self.users = Store(backend, "/users/", User)
        self.passwords = Store(backend, "/passwords/", PasswordRecord)
        self.failures = Store(backend, "/failures/", FailedLogins)
        self.factors = Store(backend, "/factors/", Factors)
        self.credentials = Store(backend, "/credentials/", CredentialOf)
        self.attempts = Store(backend, "/attempts/", Attempt)
        self.seen = Store(backend, "/seen/", SessionMark)
        self.proofs = Store(backend, "/proofs/", SessionMark)
        self.known = Store(backend, "/known/", KnownBrowser)
        self.invites = Store(backend, "/invites/", Invite)
        self.invite_of = Store(backend, "/invite_of/", InviteOf)
        self.tokens = Store(backend, "/tokens/", JoinToken)
        self.joins = Store(backend, "/joins/", JoinedHost)
        self.hosts = Store(backend, "/hosts/", HostRecord)
        self.apps = Store(backend, "/apps/", Definition)
        self.app_resources = Store(backend, "/app_resources/", App)
        self.locks = Store(backend, "/locks/", Lock)
        self.locks_over = Store(backend, "/locks_over/", Lock)
        self.join_requests = Store(backend, "/join_requests/", JoinRequest)
        self.requests = Store(backend, "/requests/", AccessRequest)
        self.web_sessions = Store(backend, "/sessions/web/", WebSession)
        self.app_sessions = Store(backend, "/sessions/app/", AppSession)
        self.sessions_of = Store(backend, "/sessions/of/", msgspec.Raw)
        self.shelves = Store(backend, "/shelves/", Shelf)
        self.launches = Store(backend, "/launch/", LaunchRecord)
        self.acme = Store(backend, "/acme/states/", AcmeState)
        self.acme_pairs = Store(backend, "/acme/pairs/", PairRecord)
        self.acme_accounts = Store(backend, "/acme/accounts/", AccountRecord)
        self.acme_marks = Store(backend, "/acme/marks/", bool)
        self.connectors: Store[Connector] = Store(backend, "/connectors/", Connector)  # type: ignore[arg-type]  # a union of structs
        self.subjects = Store(backend, "/subjects/", SubjectOf)
        self.sso = Store(backend, "/sso/", SsoAttempt)
        self.sso_tests = Store(backend, "/sso_tests/", SsoTest)
        self.provider_sessions = Store(backend, "/provider_sessions/", ProviderSession)
        self.device_tokens = Store(backend, "/device_tokens/", DeviceToken)
        self.device_tokens_of = Store(backend, "/device_tokens_of/", msgspec.Raw)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Do all, or none, as one write."""
        await self.backend.batch(operations)

    async def each(self, operations: Sequence[Operation]) -> None:
        """Do those that can be done: many as one write, unless something is in the way of one."""
        for start in range(0, len(operations), BATCH_LIMIT):
            part = operations[start : start + BATCH_LIMIT]
            try:
                await self.batch(part)
            except (AlreadyExists, CompareFailed, NotFound):
                for operation in part:
                    with suppress(AlreadyExists, CompareFailed, NotFound):
                        await self.batch([operation])
