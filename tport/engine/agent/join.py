"""Entering a cluster through its proxy, and staying in it.

    GET /webapi/cas      the cluster's authorities, over a connection that proves nothing by itself:
                         the pin in the token, or the web's PKI, or an operator's pin, must vouch;
                         joining by approval, a person may instead: see `approval`
    join                 over a second connection, now verified against these authorities

Nothing is trusted at first use; only `--insecure` says so, and says it loudly.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
import trio

from tport.engine.agent.state import AgentState, joined_state
from tport.engine.api.remote import check_is_auth, open_remote_auth
from tport.engine.config.address import Address
from tport.engine.defaults import ALPN_AUTH, CLOCK_SKEW
from tport.engine.errors import AccessDenied, ConnectionProblem, RemoteProtocolError
from tport.engine.net.dial import dial_through_proxy
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.net.tls import connect_tls
from tport.engine.pki.authority import check_bundle
from tport.engine.pki.contexts import auth_client_context, https_context
from tport.engine.pki.keys import KeyPair, make_csr, make_key_and_csr
from tport.engine.pki.renewal import prove_renewal
from tport.engine.proto.framing import NO_BODY
from tport.engine.types.token import split_join_token

logger = logging.getLogger(__name__)

FETCH_DEADLINE = 15.0  # s to fetch the authorities, dialling included
MAX_BUNDLE = 256 * 1024  # bytes; two certificates are 2 KiB
_IS_IT_THE_PROXY = "give the proxy's address, host:port as in its public_addr"
# X509_V_ERR_*: no issuer that is known (2, 20, 21), self-signed (18), by an authority of its own (19)
_SIGNED_BY_NOBODY_KNOWN: Final = (2, 18, 19, 20, 21)

Clock = Callable[[], datetime]
Dial = Callable[[], Awaitable[trio.abc.Stream]]


class Bundle(msgspec.Struct):
    """The public side of a cluster's authorities, as a proxy shows them."""

    cluster: str
    host: tuple[str, ...]
    web: tuple[str, ...]


async def join_cluster(
    proxy: Address,
    token: str,
    *,
    hostname: str,
    pins: Sequence[str],
    insecure: bool,
    clock: Clock,
) -> AgentState:
    """Enter the cluster behind `proxy` with a token.

    Args:
        pins: 64 hex digits each; what `--ca-pin` gave, beside the one in the token.
        insecure: believe whoever answers, when there is no pin.

    Raises:
        ConnectionProblem: the proxy can't be reached, what answers is none, or its clock is another.
        AccessDenied: its authorities aren't the pinned ones, or auth refuses the token.
        InvalidRequest: the token is none.
    """
    secret, pin = split_join_token(token)
    sources = _given(pins) | ({pin: "the join token"} if pin else {})
    bundle = await _authorities(proxy, sources, clock, insecure=insecure)
    key, csr = make_key_and_csr()
    async with open_remote_auth(auth_dial(proxy, None, bundle.host, clock)) as auth:
        joined = await auth.join(token=secret, csr=csr, role="app", hostname=hostname)
    return joined_state(joined, key, str(proxy))


async def renew_identity(state: AgentState, proxy: Address, clock: Clock) -> AgentState:
    """Get the next certificate, for `next_key`, by proving that we hold the last one's.

    Raises:
        ConnectionProblem, Unavailable: not now; try again.
        AccessDenied: never again: locked, removed, or off for too long.
    """
    csr = make_csr(state.next_key)
    proof = prove_renewal(state.key, csr)
    dial = auth_dial(proxy, None, state.authorities.host, clock)
    async with open_remote_auth(dial) as auth:
        joined = await auth.renew(certificate=state.certificate, csr=csr, proof=proof)
    return joined_state(joined, state.next_key, state.proxy)


def auth_dial(
    proxy: Address, pair: KeyPair | None, host_authorities: Sequence[str], clock: Clock
) -> Dial:
    """Return how to reach auth through a proxy: its port relays, TLS ends at auth.

    Args:
        pair: our certificate; None: we have none that counts.
    """
    context = auth_client_context(pair, host_authorities)

    async def dial() -> trio.abc.Stream:
        stream = await dial_through_proxy(proxy.host, proxy.port)
        tls = await connect_tls(stream, context, server_name=proxy.host, alpn=ALPN_AUTH)
        try:
            check_is_auth(tls.peer_certificate, host_authorities, clock())
        except AccessDenied as denied:
            await trio.aclose_forcefully(tls)
            raise ConnectionProblem(
                f"what answers at {proxy} is not auth: {denied.reason}"
            ) from None
        return tls

    return dial


async def found_authorities(
    proxy: Address, pins: Sequence[str], clock: Clock
) -> tuple[Bundle, bool]:
    """Fetch the cluster's authorities, and tell whether a pin or the web's PKI vouches for them.

    Without a pin, what no public authority signed is fetched all the same: a person must vouch.

    Raises:
        ConnectionProblem: as `shown_authorities`; or a public authority signed for another name or time.
        AccessDenied, InvalidRequest: as `join_cluster`.
    """
    try:
        return await _authorities(proxy, _given(pins), clock, insecure=False), True
    except ConnectionProblem as problem:
        if pins or not _is_signed_by_nobody_known(problem):
            raise
    return await shown_authorities(proxy, clock), False


def _is_signed_by_nobody_known(problem: ConnectionProblem) -> bool:
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__
    return cause is not None and cause.verify_code in _SIGNED_BY_NOBODY_KNOWN


async def shown_authorities(proxy: Address, clock: Clock | None = None) -> Bundle:
    """Fetch what a proxy shows, believed by nobody yet: a person must compare what follows from it.

    Args:
        clock: must agree with the proxy's; None: it need not.

    Raises:
        ConnectionProblem: it can't be reached, is no proxy, or its clock is another.
    """
    bundle, theirs = await _fetch(proxy, https_context(insecure=True), verified=False)
    if clock is not None:
        _check_clock(proxy, theirs, clock())
    return bundle


def _given(pins: Sequence[str]) -> dict[str, str]:
    return dict.fromkeys(pins, "the CA pin")


async def _authorities(
    proxy: Address, pins: Mapping[str, str], clock: Clock, *, insecure: bool
) -> Bundle:
    """Fetch the cluster's authorities, and see that somebody vouches for them; `pins`: pin → what had it."""
    unverified = bool(pins) or insecure
    bundle, theirs = await _fetch(
        proxy, https_context(insecure=unverified), verified=not unverified
    )
    _check_clock(proxy, theirs, clock())
    if pins:
        _check_pins(pins, bundle)
    elif insecure:
        logger.warning(
            "INSECURE: %s was believed without proof; whoever sits between can take over"
            " every application of this agent",
            proxy,
        )
    return bundle


def _check_pins(pins: Mapping[str, str], bundle: Bundle) -> None:
    """Raise AccessDenied unless every pin is the bundle's: a wrong one is never outvoted."""
    for pin, source in pins.items():
        check_bundle(pin, bundle.host, bundle.web, source=source)


def _check_clock(proxy: Address, theirs: datetime | None, ours: datetime) -> None:
    """Raise ConnectionProblem when our clock is so far off the proxy's that nothing would be believed.

    It may be put right meanwhile: that is no reason to give up.
    """
    if theirs is None or abs(theirs - ours) <= CLOCK_SKEW:
        return
    apart = abs(theirs - ours).total_seconds()
    raise ConnectionProblem(
        f"the clock of this machine says {ours:%FT%TZ}, that of {proxy} {theirs:%FT%TZ}: they are"
        f" {apart:.0f} s apart, {CLOCK_SKEW.total_seconds():.0f} s at most will do",
        hint="have both clocks kept: sudo timedatectl set-ntp true",
    )


async def _fetch(
    proxy: Address, context: ssl.SSLContext, *, verified: bool
) -> tuple[Bundle, datetime | None]:
    """Return what a proxy shows, and its clock; None: it tells none."""
    with trio.move_on_after(FETCH_DEADLINE):
        stream = await dial_through_proxy(proxy.host, proxy.port)
        try:
            tls = await connect_tls(stream, context, server_name=proxy.host, ragged_end=True)
        except ConnectionProblem as problem:
            hint = _IS_IT_THE_PROXY
            if verified:
                hint = (
                    "a join token with its pin (<secret>.<pin>) or --ca-pin vouches for a"
                    " proxy whose certificate no public authority signed"
                )
            raise ConnectionProblem(f"{proxy}: {problem}", hint=hint) from problem
        try:
            return await _get_bundle(ClientConnection(tls), proxy)
        finally:
            await trio.aclose_forcefully(tls)
    raise ConnectionProblem(f"{proxy} did not answer within {FETCH_DEADLINE:.0f} s")


async def _get_bundle(
    connection: ClientConnection, proxy: Address
) -> tuple[Bundle, datetime | None]:
    body = bytearray()
    try:
        await connection.send_head(
            b"GET", b"/webapi/cas", [(b"host", proxy.host.encode("ascii"))], NO_BODY
        )
        head = await connection.receive_head()
        while (piece := await connection.receive_body()) and len(body) < MAX_BUNDLE:
            body += piece
        if head.status == 200:
            return msgspec.json.decode(bytes(body), type=Bundle), _date(head.headers)
        what = f"it answers {head.status}"
    except (UpstreamGone, RemoteProtocolError, msgspec.DecodeError) as problem:
        what = str(problem)
    raise ConnectionProblem(
        f"what answers at {proxy} is no tport proxy: {what}",
        hint=_IS_IT_THE_PROXY,
    )


def _date(headers: Sequence[tuple[bytes, bytes]]) -> datetime | None:
    """Return when an answer was made, by its maker's clock, to the second."""
    for name, value in headers:
        if name == b"date":
            try:
                date = parsedate_to_datetime(value.decode("ascii", "replace")[:64])
            except ValueError:
                return None
            return date.replace(tzinfo=UTC) if date.tzinfo is None else date
    return None
