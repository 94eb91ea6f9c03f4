"""What proxies ask of auth between password and session: proving and setting up second factors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from tport.engine.api.answers import SignedIn
from tport.engine.api.callers import PROXY
from tport.engine.types.factor import FactorPolicy

ProofKind = Literal["password", "totp", "webauthn", "recovery", "provider"]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a person shows.

    Attributes:
        value: the code; for `webauthn` the browser's answer, JSON.
    """

    kind: ProofKind
    value: str

    def __repr__(self) -> str:
        return f"Proof({self.kind})"


class NewTotp(msgspec.Struct, frozen=True, kw_only=True):
    """A secret to put into an authenticator app: as text, and as the QR code's URI."""

    secret: str
    uri: str


class NextStep(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something begun, and what this browser must show next.

    Attributes:
        attempt: names it; the form sends it back.
        user: "" while it isn't known: a passkey will tell.
        to: `prove`: show one of `kinds`. `enrol`: set one of `kinds` up.
        kinds: `password` stands for itself, where that is all there is; `provider`: to sign in
            there anew (`api.sso`), which no form here can show.
        may_skip: setting one up isn't required.
        totp: for `enrol`, when it is among the kinds.
        webauthn: options for `navigator.credentials`, JSON; "": it is not among the kinds. Its
            challenge is for the next answer only.
    """

    attempt: str
    user: str
    to: Literal["prove", "enrol"]
    kinds: tuple[ProofKind, ...]
    expires: datetime
    may_skip: bool = False
    totp: NewTotp | None = None
    webauthn: str = ""

    def __repr__(self) -> str:
        return f"NextStep({self.to}, {self.kinds})"


class FactorAPI(Protocol):
    """`browser` is the SHA-256 hex of the cookie that this browser had before it signed in.

    Each call that has it, but `begin_passkey`, raises AttemptOver when nothing is begun in that browser, or
    something else than `attempt` names.
    """

    async def factor_policy(self) -> FactorPolicy:
        """Return what this cluster demands beside a password."""
        ...

    async def next_step(self, *, browser: str) -> NextStep:
        """Return where this browser is, with a challenge; one of more than a minute ago is void then."""
        ...

    async def begin_passkey(self, *, browser: str, remote: str) -> NextStep:
        """Begin to sign in by a passkey alone.

        Raises:
            AccessDenied: the cluster takes none.
            LimitExceeded: this address tries too often.
        """
        ...

    async def prove(
        self,
        *,
        browser: str,
        attempt: str,
        proof: Proof,
        remote: str,
        user_agent: str,
        known: str = "",
    ) -> SignedIn | NextStep:
        """Show the second factor (or, after `begin_passkey`, the only one).

        Raises:
            AccessDenied: one message for every cause.
            LimitExceeded: this address tries too often.
        """
        ...

    async def enrol(
        self,
        *,
        browser: str,
        attempt: str,
        proof: Proof,
        name: str,
        remote: str,
        user_agent: str,
        known: str = "",
    ) -> SignedIn:
        """Set up the first device by showing that it works, and sign in.

        Raises:
            InvalidRequest: it doesn't work, or the name won't do, in words for the person.
        """
        ...

    async def skip_enrolment(
        self, *, browser: str, attempt: str, remote: str, user_agent: str, known: str = ""
    ) -> SignedIn:
        """Sign in without a second factor, where none is required."""
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "factor_policy": PROXY,
    "next_step": PROXY,
    "begin_passkey": PROXY,
    "prove": PROXY,
    "enrol": PROXY,
    "skip_enrolment": PROXY,
}
