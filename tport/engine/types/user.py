"""People: who may sign in."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from tport.engine.errors import InvalidRequest

LOCAL: Final = "local"
SUBJECT_PARTS: Final = "\0"  # between a subject's provider and person; no address holds it
_USER_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")
_TRAIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A role given for a time; while it lasts it stands among the user's roles."""

    role: str
    until: datetime


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One person.

    Attributes:
        name: canonical (`canonical_user_name`): lower case, one spelling per person.
        roles: names; a name without a role behind it gives nothing.
        grants: which of the roles are taken back, and when.
        traits: lists of values; `logins` is `{{internal.logins}}`, all are `{{external.…}}`.
        origin: what proves this person: "local" (a password here), or the connector of a
            provider, "oidc/google".
        subject: how that provider tells this person from all others; "" of who is local.
        expires: until when the provider's word counts: as long as the session that was made on
            it. Signing in again renews it; meanwhile the person may do nothing. None: for ever.
        epoch: grows with each change of what is granted, and with `proofs`; grants made before
            are void.
        proofs: grows when what proved this person is void, a password reset or changed: signed
            in before that is signed in no more.
        id: random, made with the user: deleted and made again is somebody else.
    """

    name: str
    roles: tuple[str, ...]
    traits: Mapping[str, tuple[str, ...]] = {}
    origin: str = "local"
    subject: str = ""
    expires: datetime | None = None
    epoch: int = 1
    proofs: int = 1
    id: str = ""
    created: datetime | None = None
    created_by: str = ""
    grants: tuple[Grant, ...] = ()

    @property
    def is_local(self) -> bool:
        return self.origin == LOCAL

    def counts(self, now: datetime) -> bool:
        """Tell whether what proves this person still does."""
        return self.expires is None or now < self.expires

    @property
    def soonest(self) -> datetime | None:
        """When the first of the roles given for a time is taken back; None: there are none."""
        return min((grant.until for grant in self.grants), default=None)

    def at(self, now: datetime) -> User:
        """Return the person without what was given for a time that is over, taken back yet or not."""
        over = {grant.role for grant in self.grants if grant.until <= now}
        if not over:
            return self
        return replace(
            self,
            roles=tuple(role for role in self.roles if role not in over),
            grants=tuple(grant for grant in self.grants if grant.role not in over),
        )


class PasswordRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A password's hash (PHC string)."""

    phc: str
    changed: datetime


class FailedLogins(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive failures of one account, and until when it is locked for them.

    Attributes:
        locks: how often it was locked since the last success: the next lasts longer.
    """

    count: int
    locked_until: datetime | None = None
    locks: int = 0


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """A link with which one person chooses a password, once.

    Attributes:
        id: SHA-256 hex of the token in the link.
    """

    id: str
    user: str
    user_id: str
    expires: datetime


def canonical_user_name(name: str) -> str:
    """Return the one spelling of a user's name: NFKC, case folded.

    Raises:
        InvalidRequest: it has characters that no name has, or too many.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    if not _USER_NAME.fullmatch(folded):
        raise InvalidRequest(
            f"{name[:80]!r} is no user name (letters a-z, digits and . _ @ + -, at most 128,"
            " first a letter or digit)"
        )
    return folded


def check_traits(traits: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """Return `traits` when their names and values can be sent and shown.

    Raises:
        InvalidRequest: naming the trait.
    """
    for name, values in traits.items():
        if not _TRAIT_NAME.fullmatch(name):
            raise InvalidRequest(f"{name[:80]!r} is no trait name")
        for value in values:
            if len(value) > 1024 or not value.isprintable():
                raise InvalidRequest(f"trait {name!r}: a value is too long or not printable")
    return traits


def subject_words(subject: str) -> str:
    """Write a `User.subject` for a file: the provider's address, a space, its word for the person."""
    return subject.replace(SUBJECT_PARTS, " ", 1)


def subject_of_words(words: str) -> str:
    """Return the `User.subject` that was written so; no provider's address has a space."""
    return words.replace(" ", SUBJECT_PARTS, 1)


def check_vouched(given: User, before: User | None) -> None:
    """Raise InvalidRequest for a user of a provider whom it did not make: nobody else can.

    `before`: who has this name here.
    """
    if not given.is_local and (before is None or before.origin != given.origin):
        raise InvalidRequest(
            f"user {given.name!r} signs in by {given.origin}, and is made by doing so",
            hint="leave them out; or, for a user of this name with a password, leave out"
            " spec.created_by.connector",
        )


def subject_key(subject: str) -> str:
    """Return what a provider's person is stored under: SHA-256 hex of `User.subject`."""
    return hashlib.sha256(subject.encode()).hexdigest()


def user_key(user_id: str) -> str:
    """Return what agents know a user by who need not learn the name: SHA-256, 32 hex digits."""
    return hashlib.sha256(b"tport user\0" + user_id.encode()).hexdigest()[:32]
