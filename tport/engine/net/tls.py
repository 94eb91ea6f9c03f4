"""Handshakes: accept in a context, or connect; refuse with a word of why.

Everything that can go wrong comes out as ConnectionProblem or RemoteProtocolError, in words for
the person at the other end of the wire or for the operator, never as an OpenSSL code alone.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Final

import trio

from tport.engine.defaults import (
    HANDSHAKE_DEADLINE,
    READ_SIZE,
)
from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls_stream import TlsStream

_LINGER: Final = 1.0  # s that a refused client gets to read why
# A whole TLS record: alert (21), TLS 1.2 as RFC 8446 §5.1 wants it, 2 bytes: fatal, code 120.
_NO_APPLICATION_PROTOCOL: Final = bytes([21, 3, 3, 0, 2, 2, 120])

_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_CLOCKS: Final = "compare the clocks of both machines: timedatectl"

# What an alert or an error of OpenSSL's means, by a part of its name. The first that fits.
_MEANINGS: Final = (
    ("CERTIFICATE_REQUIRED", "the server wants a certificate and was shown none", ""),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "the client showed no certificate", ""),
    (
        "ALERT_CERTIFICATE_EXPIRED",
        "the other side says that our certificate has expired",
        "compare the clocks of both machines; an agent that was off for over 30 days joins anew",
    ),
    (
        "ALERT_UNKNOWN_CA",
        "the other side does not know the authority of our certificate",
        "is this the proxy of another cluster?",
    ),
    ("ALERT_BAD_CERTIFICATE", "the other side does not accept our certificate", ""),
    ("ALERT_CERTIFICATE_UNKNOWN", "the other side does not accept our certificate", ""),
    (
        "ALERT_NO_APPLICATION_PROTOCOL",
        "the other side does not speak the protocol we asked for",
        "is this the address of a tport proxy?",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "what answers there does not speak TLS",
        "is it http:// and not https://?",
    ),
    ("ALERT_PROTOCOL_VERSION", "both sides have no version of TLS in common", ""),
    ("UNSUPPORTED_PROTOCOL", "both sides have no version of TLS in common", ""),
    ("NO_SHARED_CIPHER", "both sides have no cipher suite in common", ""),
    ("HANDSHAKE_FAILURE", "both sides have no cipher suite or key type in common", ""),
)


async def refuse_protocols(stream: trio.abc.HalfCloseableStream) -> None:
    """Answer a ClientHello none of whose protocols we speak, RFC 7301 §3.2, and close."""
    await _say_last(stream, _NO_APPLICATION_PROTOCOL)


async def refuse_plain_http(stream: trio.abc.HalfCloseableStream, answer: bytes) -> None:
    """Answer plain HTTP (see HTTPS_ONLY), and close."""
    await _say_last(stream, answer)


async def refuse_handshake(stream: trio.abc.HalfCloseableStream) -> None:
    """Close once the client has had the time to read the alert that it was sent."""
    await _say_last(stream, b"")


async def accept_tls(
    stream: trio.abc.HalfCloseableStream,
    context: ssl.SSLContext,
    *,
    deadline: float = HANDSHAKE_DEADLINE,
    ragged_end: bool = False,
) -> TlsStream:
    """Shake hands as the server. `stream` belongs to the one returned; on an error it is closed.

    Args:
        deadline: seconds.
        ragged_end: for HTTP; see TlsStream.

    Raises:
        RemoteProtocolError: the handshake failed, and the client was told.
        ConnectionProblem: the client left, or took too long.
    """
    received, transport = b"", stream
    if isinstance(stream, PrefixedStream):  # its bytes go straight into TLS: a layer less
        received, transport = stream.take_prefix(), stream.transport
    tls = TlsStream(transport, context, server_side=True, received=received, ragged_end=ragged_end)
    if (problem := await _shake(tls, deadline)) is not None:
        await refuse_handshake(transport)
        words, _ = tls_problem(problem)
        raise RemoteProtocolError(f"TLS handshake failed: {words}")
    return tls


async def connect_tls(
    stream: trio.abc.Stream,
    context: ssl.SSLContext,
    *,
    server_name: str | None,
    alpn: str | None = None,
    deadline: float = HANDSHAKE_DEADLINE,
    ragged_end: bool = False,
) -> TlsStream:
    """Shake hands as the client. `stream` belongs to the one returned; on an error it is closed.

    In TLS 1.3 a server that doesn't like our certificate says so after the handshake: the first
    receive then fails with BrokenResourceError, whose cause `tls_problem` explains.

    Args:
        server_name: whom we mean: SNI, and what the certificate must say where the context
            checks names. Addresses are fine.
        alpn: the protocol without which there is no point in going on.
        deadline: seconds.
        ragged_end: for HTTP; see TlsStream.

    Raises:
        ConnectionProblem: whatever went wrong, in words, with a hint where there is one; its
            cause is the ssl.SSLError, if that was it.
    """
    tls = TlsStream(
        stream, context, server_side=False, server_name=server_name, ragged_end=ragged_end
    )
    if (problem := await _shake(tls, deadline)) is not None:
        await trio.aclose_forcefully(tls)
        words, hint = tls_problem(problem)
        raise ConnectionProblem(f"TLS handshake failed: {words}", hint=hint) from problem
    if alpn is not None and tls.alpn != alpn:
        await trio.aclose_forcefully(tls)
        raise ConnectionProblem(
            f"what answers there does not speak {alpn}",
            hint="is this the address of a tport proxy, with nothing before it that ends TLS?",
        )
    return tls


def tls_problem(error: BaseException) -> tuple[str, str]:
    """Return what an error of TLS means, in words, and a hint ("": none).

    Takes what a TlsStream raised too: the ssl.SSLError behind it is what counts.
    """
    while not isinstance(error, ssl.SSLError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLCertVerificationError):
        words = f"the certificate does not verify: {error.verify_message}"
        if error.verify_code in _OF_TIME:
            # OpenSSL went by the system's clock, whatever clock we are given.
            now = datetime.now(UTC)
            return f"{words}, by the clock of this machine, {now:%FT%TZ}", _CLOCKS
        return words, ""
    # Of some alerts Python's table knows no name: then OpenSSL's text is all there is.
    reason = (getattr(error, "reason", None) or str(error)).upper().replace(" ", "_")
    for part, words, hint in _MEANINGS:
        if part in reason:
            return words, hint
    return reason.lower().replace("_", " "), ""


async def _shake(tls: TlsStream, deadline: float) -> ssl.SSLError | None:
    """Return why the handshake failed, with the transport open still; None: it is done."""
    problem = f"TLS handshake not done within {deadline:g} s"
    try:
        with trio.move_on_after(deadline):
            await tls.do_handshake()
            return None
    except ssl.SSLError as error:
        return error
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        problem = "the other side hung up during the TLS handshake"
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    await trio.aclose_forcefully(tls)
    raise ConnectionProblem(problem)


async def _say_last(stream: trio.abc.HalfCloseableStream, data: bytes) -> None:
    """Send, say that this was all, and wait a moment for the peer to hang up.

    Closed at once, with bytes of the peer's unread, TCP would reset the connection, and the
    peer might lose what was said.
    """
    try:
        with trio.move_on_after(_LINGER):
            await stream.send_all(data)
            await stream.send_eof()
            while await stream.receive_some(READ_SIZE):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)
