"""Every ssl.SSLContext is made here.

    who                   certificate shown        certificate asked of the peer
    browsers              web                      none, ever
    CAs, for tls-alpn-01  a challenge's            none, ever
    tunnel, proxy's end   host CA: proxy           required, host CA
    tunnel, agent's end   host CA: agent           required, host CA
    auth                  host CA: auth            host CA, or none (to join)
    auth's clients        host CA, or none         required, host CA
    HTTPS to others       none, or a file's        the system's authorities, or a file's

The profile is Mozilla's "intermediate" (guideline 6.0): TLS 1.2 and 1.3, six ECDHE AEAD suites,
X25519, P-256 and P-384, the client's order of suites. Links between tport's own programs speak
TLS 1.3 only. Where a certificate of the peer says who it is, nothing is resumed: a resumed
handshake checks no certificate. (In TLS 1.2 OpenSSL resumes from a cache in the server even
without tickets, and Python can't turn that off.) A context that should verify and has nothing to verify by is
an error, never a context that verifies nothing.

Which context a connection gets is decided before TLS begins, from its ClientHello: swapping
contexts in a callback changes the certificate but leaves `verify_mode` as it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tport.engine.defaults import ALPN_ACME, ALPN_AUTH, ALPN_FOR, ALPN_HTTP, ALPN_TUNNEL
from tport.engine.errors import ConfigError
from tport.engine.pki.keys import KeyPair, load_certificate, load_private_key

CIPHERS: Final = ":".join(  # TLS 1.2; those of 1.3 are all good
    f"ECDHE-{key}-{suite}"
    for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
# The first list that libssl knows is taken: ML-KEM came with OpenSSL 3.5.
GROUPS: Final = ("X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384")

# X509_V_FLAG_…, openssl/x509_vfy.h; Python names neither.
_IGNORE_CRITICAL = 0x10  # unknown critical extensions: `identity_of` looks at them instead
_NO_CHECK_TIME = 0x200000
_CTRL_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST, openssl/ssl.h
_CTRL_SET_TICKET_KEYS = 59  # SSL_CTRL_SET_TLSEXT_TICKET_KEYS, ibid.
# Bytes: a name of 16, then a key of 32 for HMAC-SHA256 and one of 32 for AES-256.
TICKET_KEYS: Final = 80
_TLS_OPTIONS = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


# --- Servers ---------------------------------------------------------------------------------


def browser_context(*pairs: KeyPair) -> ssl.SSLContext:
    """The context for browsers: HTTP/1.1, tickets on, no certificate asked for.

    Args:
        pairs: one, or one for each kind of key: what a client can verify decides which it is shown.

    Raises:
        ConfigError: a pair can't be used; the message says why.
    """
    context = _server(pairs[0], ALPN_HTTP)
    for pair in pairs[1:]:
        _show(context, pair)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 1  # one is enough for browsers and saves 38 µs a handshake
    return context


def challenge_context(pair: KeyPair) -> ssl.SSLContext:
    """The context for a CA that looks whether a name is ours: its protocol and no other."""
    context = _server(pair, ALPN_ACME)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def tunnel_server_context(pair: KeyPair, host_authorities: Sequence[str]) -> ssl.SSLContext:
    """The proxy's end of a tunnel: a host certificate is required.

    Args:
        pair: the proxy's host certificate.
        host_authorities: PEM certificates of the host authority.

    Raises:
        ConfigError: the pair can't be used, or there are no authorities.
    """
    context = _server(pair, ALPN_TUNNEL)
    _verify_ours(context, host_authorities)
    return context


def auth_server_context(pair: KeyPair, host_authorities: Sequence[str]) -> ssl.SSLContext:
    """Auth's end: a host certificate is asked for, none is fine: that's how machines join.

    It lets through certificates that have expired, since these may be renewed for a while: their
    dates are judged by `identity_of`, which every call with a certificate goes through.
    """
    context = _server(pair, ALPN_AUTH)
    _verify_ours(context, host_authorities)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= _NO_CHECK_TIME
    return context


# --- Clients ---------------------------------------------------------------------------------


def tunnel_client_context(
    pair: KeyPair, host_authorities: Sequence[str], *, proxy_id: str = ""
) -> ssl.SSLContext:
    """The agent's end of a tunnel. The proxy is known by its identity and not by a name.

    A server that refuses our certificate says so only after the handshake (TLS 1.3): the
    first receive fails then.

    Args:
        proxy_id: the proxy that is meant, where several share an address; "": any will do.
    """
    context = _client(ALPN_TUNNEL)
    if proxy_id:
        context.set_alpn_protocols([ALPN_TUNNEL, f"{ALPN_FOR}{proxy_id}"])
    _verify_ours(context, host_authorities)
    _show(context, pair)
    return context


def auth_client_context(pair: KeyPair | None, host_authorities: Sequence[str]) -> ssl.SSLContext:
    """A connection to auth, known by its identity. Without a pair: to join."""
    context = _client(ALPN_AUTH)
    _verify_ours(context, host_authorities)
    if pair is not None:
        _show(context, pair)
    return context


def https_context(
    *,
    authorities: Sequence[str] = (),
    and_system: bool = False,
    insecure: bool = False,
    pair: KeyPair | None = None,
) -> ssl.SSLContext:
    """HTTPS to somebody else: an application, an identity provider, a proxy before joining.

    Args:
        authorities: PEM certificates (one or more in each text); none: the system's.
        and_system: trust the system's beside `authorities`, as a browser does.
        insecure: verify nothing. For an application whose definition says so, and to fetch
            what a pin will then prove.
        pair: the certificate to show where one is asked for.

    Raises:
        ConfigError: `authorities` holds no certificate, or the pair can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= _TLS_OPTIONS
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols([ALPN_HTTP])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities:
        _trust(context, authorities)
    if not insecure and (and_system or not authorities):
        context.load_default_certs()
    if pair is not None:
        _show(context, pair)
    return context


def system_authorities() -> frozenset[tuple[str, ...]]:
    """Return the names of the authorities that this machine trusts: each the values of its subject.

    Takes 10 ms.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    found = set()
    for authority in context.get_ca_certs():  # read by OpenSSL: some of them no other parser likes
        subject: Any = authority["subject"]  # (((kind, value), …), …)
        found.add(tuple(value for part in subject for _, value in part))
    return frozenset(found)


# --- What they share -------------------------------------------------------------------------


def _server(pair: KeyPair, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _profile(context, alpn)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _show(context, pair)
    return context


def _client(alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _profile(context, alpn)
    context.check_hostname = False  # hosts are known by their identity: `identity_of`
    return context


def _profile(context: ssl.SSLContext, alpn: str) -> None:
    context.options |= _TLS_OPTIONS
    # Whether an end without close_notify is an end or a cut, the stream must be able to tell.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([alpn])
    restrict_groups(context)


def _verify_ours(context: ssl.SSLContext, host_authorities: Sequence[str]) -> None:
    """Require a certificate of the host authority, checked again by `identity_of`."""
    _trust(context, host_authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT | _IGNORE_CRITICAL
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # else there are stateful ones


def _trust(context: ssl.SSLContext, authorities: Sequence[str]) -> None:
    try:
        context.load_verify_locations(cadata="\n".join(authorities))
    except (ssl.SSLError, ValueError) as error:
        # Also when there is none: a context that verified by nothing would refuse everybody at best.
        raise ConfigError(f"the authorities' certificates can't be read: {error}") from None


def _show(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Load the certificate to show.

    Raises:
        ConfigError: no certificate, no key, an encrypted key, or two that don't match.
    """
    key = load_private_key(pair.key)
    if load_certificate(pair.chain).public_key() != key.public_key():
        raise ConfigError("the certificate and the private key don't belong together")
    with _as_file(f"{pair.chain}\n{pair.key}".encode()) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise ConfigError(f"certificate or key can't be used: {error}") from None


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Lend `data` a path, since OpenSSL by way of Python reads keys from nowhere else.

    On Linux it is memory and on no disk; elsewhere a file of ours alone, for a moment.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create("tport")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory() as folder:  # mode 0700
            path = Path(folder, "pair.pem")
            path.touch(mode=0o600)
            path.write_bytes(data)
            yield str(path)


def restrict_groups(context: ssl.SSLContext) -> bool:
    """Offer the groups of the profile and no other; say whether it could be done.

    Python has no word for it before 3.15, so libssl is asked by way of the library `_ssl` is
    linked to. Where that is built into Python, nothing changes: OpenSSL's own list is then in
    force, which is longer and not weaker than P-256.
    """
    if hasattr(context, "set_groups"):
        with contextlib.suppress(ssl.SSLError):
            context.set_groups(GROUPS[0])
            return True
        context.set_groups(GROUPS[1])
        return True
    control = _control(context)
    if control is None:
        return False
    return any(control(_CTRL_SET_GROUPS_LIST, 0, groups.encode()) == 1 for groups in GROUPS)


def share_tickets(context: ssl.SSLContext, keys: bytes) -> bool:
    """Have a server's context seal its tickets by TICKET_KEYS bytes; say whether it could be done.

    Every process that has the same keys resumes what another began. Where it can't be done, by the
    same way as in `restrict_groups`, each keeps keys of its own: then a browser that comes to
    another process shakes hands in full.
    """
    control = _control(context)
    return control is not None and control(_CTRL_SET_TICKET_KEYS, len(keys), keys) == 1


def _control(context: ssl.SSLContext) -> Callable[[int, int, bytes], int] | None:
    """Return SSL_CTX_ctrl for a context: a command, a number, bytes; None: libssl can't be asked."""
    library = getattr(sys.modules.get("_ssl"), "__file__", None)
    if library is None or sys.implementation.name != "cpython":
        return None
    try:
        control = ctypes.CDLL(library).SSL_CTX_ctrl  # found through the libssl _ssl itself uses
    except (OSError, AttributeError):
        return None
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    control.restype = ctypes.c_long
    # struct { PyObject_HEAD SSL_CTX *ctx; … }, the same in CPython 3.7 to 3.14: Modules/_ssl.c
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    return partial(control, pointer)
