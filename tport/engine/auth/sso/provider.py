"""Identity providers at the other end of HTTPS: carries out what `proto.oidc` and `proto.github` say."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode, urlsplit

import trio

from tport.engine.access.claims import PROTOCOL
from tport.engine.errors import ConnectionProblem, LimitExceeded
from tport.engine.net.https_client import HttpsClient
from tport.engine.pki.contexts import https_context
from tport.engine.pki.id_token import (
    ProviderKeys,
    UnknownKey,
    check_access_token_hash,
    check_id_token,
    check_logout_token,
    read_header,
    verified_claims,
)
from tport.engine.proto import github, oidc
from tport.engine.proto.oidc import (
    MAX_ANSWER,
    Callback,
    Discovery,
    ProviderAnswer,
    ProviderProblem,
    ProviderRequest,
)
from tport.engine.types.connector import GithubConnector, OidcConnector

KEPT: Final = (
    3600.0  # s that discovery and keys are believed; a key that is new is asked for at once
)
# s for which a provider that couldn't be asked isn't asked again, nor what it said of itself when that
# can't be meant: else each who signs in meanwhile would wait as long as the first.
FAILED: Final = 10.0
FAILING: Final = 3.0  # s without an answer that count as none when nobody waits for it any more
KEYS_AGAIN: Final = 30.0  # s between two askings for keys because of a token that none fits
MAX_PROVIDERS: Final = 100  # whose answers are kept
AT_ONCE: Final = 16  # requests to providers
MOST_WAITING: Final = 64  # for one of them to end; each takes DEADLINE at most
DEADLINE: Final = 6.0  # s for one request: a person waits before a blank page

T = TypeVar("T")
Clock = Callable[[], datetime]


class Transport(Protocol):
    """Who carries requests to providers."""

    def __call__(self, request: ProviderRequest) -> Awaitable[ProviderAnswer]:
        """Return the answer. Raises ConnectionProblem: there was none."""
        ...


class HttpsTransport:
    """Requests over HTTPS, by the authorities that this machine trusts."""

    @cached_property
    def _client(self) -> HttpsClient:
        """Made when it is first asked: to read whom this machine trusts takes 20 ms, which most clusters don't need."""
        return HttpsClient(
            https_context(),
            who="the identity provider",
            why="OpenID Connect",
            limit=MAX_ANSWER,
            deadline=DEADLINE,
        )

    async def __call__(self, request: ProviderRequest) -> ProviderAnswer:
        headers = dict(request.headers)
        content = b""
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(request.form).encode()
        answer = await self._client.ask(
            request.method, request.url, headers=headers, content=content
        )
        return ProviderAnswer(status=answer.status, body=answer.body)


class Proven:
    """Whom a provider proved.

    Attributes:
        subject: how it tells this person from all others.
        claims: all that it said of them.
        id_token: "": it makes none.
    cut: claims of which it said more than was asked for, with how much was.
    """

    def __init__(
        self,
        subject: str,
        claims: dict[str, Any],
        id_token: str = "",
        cut: Mapping[str, str] | None = None,
    ) -> None:
        self.subject = subject
        self.claims = claims
        self.id_token = id_token
        self.cut = cut or {}


class _Known:
    """What is remembered of a provider."""

    def __init__(self, found: Discovery, until: float) -> None:
        self.found = found
        self.until = until
        self.keys: ProviderKeys | None = None
        self.keys_asked = -float("inf")


class Failed:
    """Which providers failed a moment ago, and how."""

    def __init__(self) -> None:
        self._by_place: OrderedDict[str, tuple[float, ConnectionProblem | ProviderProblem]] = (
            OrderedDict()
        )

    def note(self, place: str, problem: ConnectionProblem | ProviderProblem) -> None:
        self._by_place[place] = (trio.current_time() + FAILED, problem)
        self._by_place.move_to_end(place)
        while len(self._by_place) > MAX_PROVIDERS:
            self._by_place.popitem(last=False)

    def check(self, *places: str) -> None:
        """Raise anew what went wrong at one of these a moment ago."""
        for place in places:
            until, problem = self._by_place.get(place, (0.0, None))
            if problem is not None and trio.current_time() < until:
                raise type(problem)(str(problem), hint=problem.hint)


class Providers:
    """Asks providers, and remembers what they said of themselves."""

    def __init__(self, clock: Clock, transport: Transport) -> None:
        self._clock = clock
        self._transport = transport
        self._known: OrderedDict[str, _Known] = OrderedDict()  # by issuer, the newest last
        self._failed = Failed()
        self._turns = trio.CapacityLimiter(AT_ONCE)

    # --- OpenID Connect ------------------------------------------------------------------------------

    async def discovery(self, issuer: str) -> Discovery:
        """Return what a provider says of itself; asked for once an hour.

        Raises:
            ConnectionProblem: it can't be reached.
            ProviderProblem: what it says can't be meant.
        """
        return (await self._of(issuer)).found

    async def prove(
        self,
        connector: OidcConnector,
        callback: Callback,
        *,
        redirect_url: str,
        nonce: str,
        verifier: str,
    ) -> Proven:
        """Trade a callback's code for who the person is.

        Raises:
            AccessDenied: the ID token is not for this sign-in; `reason` says why.
            ProviderProblem, ConnectionProblem: the provider.
        """
        known = await self._of(connector.issuer)
        oidc.check_issuer(callback, known.found)
        tokens = oidc.read_tokens(
            await self._ask(
                oidc.token_request(
                    connector,
                    known.found,
                    code=callback.code,
                    redirect_url=redirect_url,
                    verifier=verifier,
                )
            )
        )
        algorithm, claims = await self._verified(known, tokens.id_token)
        subject = check_id_token(
            claims,
            issuer=known.found.issuer,
            client_id=connector.client_id,
            nonce=nonce,
            now=self._clock(),
            max_age=connector.max_age,
            acr_values=connector.acr_values,
        )
        check_access_token_hash(claims, tokens.access_token, algorithm)
        if tokens.access_token and known.found.userinfo_endpoint:
            answer = await self._ask(oidc.user_info_request(known.found, tokens.access_token))
            more = oidc.read_user_info(answer, subject)
            # An address and who vouches for it come from one place.
            other = more if "email" in claims else claims if "email" in more else {}
            other.pop("email_verified", None)
            # What is signed counts; user info adds to it.
            claims = {n: v for n, v in more.items() if n not in PROTOCOL} | claims
        return Proven(subject, claims, tokens.id_token)

    async def logged_out(self, connector: OidcConnector, logout_token: str) -> tuple[str, str]:
        """Return subject and provider's session that a logout token ends; either may be "".

        Raises:
            AccessDenied: it is no such token.
        """
        known = await self._of(connector.issuer)
        _, claims = await self._verified(known, logout_token)
        return check_logout_token(
            claims,
            issuer=known.found.issuer,
            client_id=connector.client_id,
            now=self._clock(),
        )

    async def _of(self, issuer: str) -> _Known:
        known = self._known.get(issuer)
        if known is not None and trio.current_time() < known.until:
            return known
        request = oidc.discovery_request(issuer)
        answer = await self._ask(request)
        try:
            found = oidc.read_discovery(answer, issuer)
        except ProviderProblem as problem:
            self._failed.note(request.url, problem)
            raise
        fresh = _Known(found, trio.current_time() + KEPT)
        self._known[issuer] = fresh
        self._known.move_to_end(issuer)
        while len(self._known) > MAX_PROVIDERS:
            self._known.popitem(last=False)
        return fresh

    async def _verified(self, known: _Known, token: str) -> tuple[str, dict[str, Any]]:
        """Return a token's algorithm and claims; keys are asked for anew when none fits."""
        algorithms = known.found.id_token_signing_alg_values_supported
        read_header(token, algorithms)
        keys = known.keys or await self._ask_keys(known)
        try:
            return verified_claims(token, keys, algorithms)
        except UnknownKey:
            if trio.current_time() < known.keys_asked + KEYS_AGAIN:
                raise
        return verified_claims(token, await self._ask_keys(known), algorithms)

    async def _ask_keys(self, known: _Known) -> ProviderKeys:
        known.keys_asked = trio.current_time()
        answer = await self._ask(ProviderRequest(method="GET", url=known.found.jwks_uri))
        if answer.status != 200 or len(answer.body) > MAX_ANSWER:
            raise ProviderProblem(f"the provider did not send its keys: it said {answer.status}")
        try:
            known.keys = ProviderKeys(answer.body)
        except (ValueError, RecursionError):
            raise ProviderProblem("the provider's keys can't be read") from None
        return known.keys

    # --- GitHub --------------------------------------------------------------------------------------

    async def prove_github(
        self, connector: GithubConnector, callback: Callback, *, redirect_url: str, verifier: str
    ) -> tuple[Proven, list[tuple[str, str]]]:
        """Trade a code for who the person is, and their `(organization, team)`.

        An organization that they are in, of whose teams they are in none, comes with team "".
        """
        token = github.read_token(
            await self._ask(
                github.token_request(
                    connector, code=callback.code, redirect_url=redirect_url, verifier=verifier
                )
            )
        )
        user = github.read_user(await self._ask(github.user_request(connector, token)))
        cut: dict[str, str] = {}
        organizations = await self._pages(
            partial(github.organizations_request, connector, token),
            github.read_organizations,
            partial(cut.__setitem__, "github_orgs"),
        )
        teams = await self._pages(
            partial(github.teams_request, connector, token),
            github.read_teams,
            partial(cut.__setitem__, "github_teams"),
        )
        claims = github.claims_of(user, organizations, teams)
        proven = Proven(str(user.id), claims, cut=cut)
        return proven, [*teams, *((each, "") for each in organizations)]

    async def _pages(
        self,
        request: Callable[[int], ProviderRequest],
        read: Callable[[ProviderAnswer], list[T]],
        cut: Callable[[str], None],
    ) -> list[T]:
        """Return what all pages hold, MAX_PAGES of them at most; `cut` is told when the last is full."""
        found: list[T] = []
        for page in range(1, github.MAX_PAGES + 1):
            more = read(await self._ask(request(page)))
            found += more
            if len(more) < github.PER_PAGE:
                return found
        cut(f"only the first {len(found)} were asked for")
        return found

    # --- Parts ---------------------------------------------------------------------------------------

    async def _ask(self, request: ProviderRequest) -> ProviderAnswer:
        """Ask when it is our turn.

        Raises:
            LimitExceeded: too many wait for theirs.
            ConnectionProblem: there was no answer, now or a moment ago.
            ProviderProblem: what it said a moment ago can't be meant.
        """
        place = urlsplit(request.url).netloc
        self._failed.check(place, request.url)
        if self._turns.statistics().tasks_waiting >= MOST_WAITING:
            raise LimitExceeded("too many people sign in at once", retry_after=DEADLINE)
        async with self._turns:
            self._failed.check(place, request.url)  # others may have found out meanwhile
            began = trio.current_time()
            try:
                return await self._transport(request)
            except ConnectionProblem as problem:
                self._failed.note(place, problem)
                raise
            except trio.Cancelled:
                if trio.current_time() >= began + FAILING:
                    self._failed.note(
                        place, ConnectionProblem("the identity provider does not answer in time")
                    )
                raise
