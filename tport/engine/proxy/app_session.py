"""The way into an application: the sealed state, the cookies, and what agents are told of a session.

    GET https://app/path        no session: 302 to the launcher with the sealed state, which the
                                browser also keeps in a cookie of the app's own host
    GET https://proxy/web/launch?state=…     signs in, makes a one-time code
    GET https://app/.tport/auth?code=…&state=<id>   demands that cookie, spends the code, sets the
                                session cookie, 302 to /path

Where the application needs others (`required_apps`, `group`), the browser is led past these
before it comes to /path; of each it needs a cookie of that host's own:

    GET https://other/.tport/open?chain=…    begins a launch like any, whose state says where to
                                             go after it: the next one, and /path at last

The chain is sealed as the state is: hosts come from definitions, never from a query. All it
does is lead to addresses that anybody could link to.

A code is worth nothing without the cookie of the browser that began, so nobody can finish in
another's browser (WEB-06), and a code in a log or a Referer opens nothing (WEB-08).
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tport.engine.api.answers import SignedSession
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import CLOCK_SKEW, LAUNCH_STATE_TTL
from tport.engine.errors import ConnectionProblem, RemoteProtocolError, TportError, Unavailable
from tport.engine.types.app import AppServer
from tport.engine.types.launch import LaunchRequest, Onward, RoundCause, own_path

MAX_CREDENTIALS: Final = 100_000  # signed sessions kept at a time; the oldest goes first

MAX_SAID: Final = 10_000  # applications that are gone, and what their JWTs said

_URL_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_NONCE = 12  # bytes, AES-GCM's
_STATE = b"tport launch state"
_CHAIN = b"tport launch chain"
OPEN_PATH: Final = "/.tport/open"

Clock = Callable[[], datetime]
_Sealed = TypeVar("_Sealed", bound=msgspec.Struct)


class _State(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    id: str
    host: str
    path: str
    cause: RoundCause
    made: float  # seconds since the epoch
    then: tuple[str, ...] = ()  # hosts to go to after this one; `path` is at the last of them


class Chain(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Applications that are opened one after the other.

    Attributes:
        hosts: those to come; the last one is where the person wanted to go, and is open.
        path: there.
        made: seconds since the epoch.
    """

    hosts: tuple[str, ...]
    path: str
    made: int


class StateSeal:
    """Seals and opens launch states and chains with a key that all proxies of the cluster share."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._cipher = AESGCM(key)
        self._clock = clock

    def make(
        self, host: str, target: bytes, *, cause: RoundCause = "", then: tuple[str, ...] = ()
    ) -> tuple[str, str]:
        """Begin a launch: return a new state's id, and its sealed form (URL and cookie safe).

        Args:
            cause: why the round before came to nothing, for the page that explains a loop.
            then: the hosts of the chain after this one; `target` is at the last of them.
        """
        state = _State(
            id=secrets.token_urlsafe(16),
            host=host,
            path=own_path(target.decode("latin-1")),
            cause=cause,
            made=self._clock().timestamp(),
            then=then,
        )
        return state.id, self._seal(state, _STATE)

    def open(self, sealed: str) -> LaunchRequest | None:
        """Return what was sealed, marked when it is too old; None when it wasn't sealed here."""
        state = self._unseal(sealed, _STATE, _State)
        if state is None:
            return None
        return LaunchRequest(
            state_id=state.id,
            app_host=state.host,
            raw_path=state.path,
            expired=not self._is_fresh(state.made),
            age=max(0.0, self._clock().timestamp() - state.made),
            cause=state.cause,
            onward=self.chain(state.then, state.path) if state.then else None,
        )

    def chain(self, hosts: tuple[str, ...], path: str) -> Onward:
        """Return where, at the first of `hosts`, the rest of a chain is opened."""
        made = int(self._clock().timestamp())
        sealed = self._seal(Chain(hosts=hosts, path=own_path(path), made=made), _CHAIN)
        return Onward(host=hosts[0], path=f"{OPEN_PATH}?chain={sealed}", left=len(hosts))

    def open_chain(self, sealed: str) -> Chain | None:
        """Return what was sealed; None when it wasn't sealed here, or too long ago."""
        chain = self._unseal(sealed, _CHAIN, Chain)
        return chain if chain is not None and self._is_fresh(chain.made) else None

    def _seal(self, what: msgspec.Struct, purpose: bytes) -> str:
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, msgspec.msgpack.encode(what), purpose)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def _unseal(self, sealed: str, purpose: bytes, kind: type[_Sealed]) -> _Sealed | None:
        if not _URL_SAFE.fullmatch(sealed):
            return None  # the decoder passes over what it doesn't know, and takes "/" for "_"
        try:
            data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            plain = self._cipher.decrypt(data[:_NONCE], data[_NONCE:], purpose)
            return msgspec.msgpack.decode(plain, type=kind)
        except (ValueError, InvalidTag, msgspec.DecodeError):
            return None

    def _is_fresh(self, made: float) -> bool:
        age = timedelta(seconds=self._clock().timestamp() - made)
        return -CLOCK_SKEW <= age <= LAUNCH_STATE_TTL


class CookieNames:
    """Our cookies' names; the cluster's id keeps two clusters on one host apart."""

    def __init__(self, cluster_id: str) -> None:
        """`cluster_id`: 8 hex digits."""
        self.app = f"__Host-tport_app_{cluster_id}".encode()
        self.web = f"__Host-tport_web_{cluster_id}".encode()
        self.states = b"__Host-tport_state_"  # how those of attempts begin

    def state(self, state_id: str) -> bytes:
        """One cookie per attempt: tabs opened side by side don't collide."""
        return self.states + state_id.encode()


class Credentials:
    """The signed sessions that agents get, made by auth once and renewed before they end.

    A change of a user's roles or traits needs nothing here: it ends their sessions, by the epoch.

    Attributes:
        forgotten: moves whenever something was forgotten before its time: an answer on its way may be of before.
    """

    def __init__(self, auth: AuthAPI, clock: Clock) -> None:
        self._auth = auth
        self._clock = clock
        self._signed: dict[str, SignedSession] = {}  # the oldest first
        self._asking: dict[str, _Asking] = {}
        self._said: dict[str, tuple[str, str]] = {}  # of each application: what its JWTs say
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._signed)

    def forget(self, session: str) -> None:
        """Drop a session's credential: it ended."""
        self.forgotten += 1
        self._signed.pop(session, None)

    def forget_all(self) -> None:
        """Drop all: what they say of applications, or who signed it, is no longer so."""
        self.forgotten += 1
        self._signed.clear()

    def redefined(self, servers: Sequence[AppServer]) -> None:
        """Drop all when an application's URI or claims changed: its JWTs name them."""
        told: dict[str, tuple[str, str]] = {
            s.app.name: (s.app.uri, s.app.rewrite.jwt_claims) for s in servers if not s.refused
        }
        if any(told.get(name, said) != said for name, said in self._said.items()):
            self.forget_all()
        self._said |= told
        if len(self._said) - len(told) > MAX_SAID:
            self._said = told  # what is forgotten may be another when it is back
            self.forget_all()

    def known(self, session: str) -> SignedSession | None:
        """Return a session's credential if auth need not be asked for it."""
        signed = self._signed.get(session)
        return None if signed is None or self._clock() >= signed.renew_at else signed

    async def of(self, session: str) -> str:
        """Return a session's credential, asking auth when there is none or it nears its end.

        Several requests at once ask once. When auth can't be reached, the old one serves to
        its own end.

        Raises:
            NotSignedIn: the session is over.
            AccessDenied: no role allows the app now.
            Unavailable: auth can't be asked.
        """
        while True:
            if (known := self.known(session)) is not None:
                return known.credential
            signed = self._signed.get(session)
            asking = self._asking.get(session)
            if asking is None:
                return await self._ask(session, signed)
            await asking.done.wait()
            if asking.problem is not None:
                return self._old(signed, asking.problem)

    async def _ask(self, session: str, old: SignedSession | None) -> str:
        self._asking[session] = asking = _Asking()
        forgotten = self.forgotten
        try:
            signed = await self._auth.sign_session(id=session)
        except (ConnectionProblem, RemoteProtocolError, Unavailable) as problem:
            asking.problem = problem
            return self._old(old, problem)
        finally:
            del self._asking[session]
            asking.done.set()
        if forgotten == self.forgotten:
            self._keep(session, signed)
        return signed.credential

    def _old(self, signed: SignedSession | None, problem: TportError) -> str:
        if signed is not None and self._clock() < signed.expires:
            return signed.credential
        raise Unavailable(f"the auth service can't be reached ({problem})") from problem

    def _keep(self, session: str, signed: SignedSession) -> None:
        self._signed.pop(session, None)
        self._signed[session] = signed
        now = self._clock()
        while self._signed:  # all live about as long: the first ended first
            first = next(iter(self._signed))
            if now < self._signed[first].expires and len(self._signed) <= MAX_CREDENTIALS:
                return
            del self._signed[first]


class _Asking:
    """A question to auth that others wait for too."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.problem: TportError | None = None
