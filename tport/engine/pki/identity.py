"""Identity ⇄ X.509: what a certificate says of its holder, and whether to believe it.

The identity is JSON in one critical extension of our own, never a delimited string and never
the subject: `a,role=admin` is a strange name here and no role. Being critical, it makes
every verifier that doesn't know it refuse the certificate; OpenSSL is one of those, so our own
contexts tell it to pass over critical extensions it doesn't know (`contexts`), and
`identity_of`, which runs after each handshake, looks at every one of them.

`identity_of` trusts nothing that the handshake found: it checks the signature of the authority
again, on the certificate itself. A context that was made wrongly therefore opens nothing. Whom it
believed is remembered by the exact bytes, by whom we trust and by who may come through that door, for as
long as the certificate and its authority are valid. The time is looked at each time.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Protocol, get_args

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from tport.engine.errors import AccessDenied, InvalidRequest, OutOfTime
from tport.engine.pki.keys import load_certificate
from tport.engine.types.identity import Identity, IdentityKind

# An arc that belongs to whoever drew the UUID 01dfd2df-8113-4176-9a37-98c1ffbd890f: ITU-T X.667.
IDENTITY_OID: Final = x509.ObjectIdentifier("2.25.2491387209082034964978317633796278543")
MAX_NAME: Final = 255  # characters, for every text in an identity
MAX_APPS: Final = 256
_MAX_CERTIFICATE = 64 * 1024  # bytes

_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
KEY_USAGES: Final[Mapping[IdentityKind, Sequence[x509.ObjectIdentifier]]] = {
    "agent": (_CLIENT,),
    "proxy": (_SERVER, _CLIENT),  # serves tunnels, and is a client of auth
    "auth": (_SERVER,),
    "admin": (_CLIENT,),
    "user": (_CLIENT,),
}
_KNOWN = frozenset(
    {
        IDENTITY_OID,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
    }
)


class Trusted(Protocol):
    """The public side of the authorities; `api.answers.Authorities` is one."""

    @property
    def cluster(self) -> str: ...
    @property
    def host(self) -> Sequence[str]:
        """PEM certificates of the host authority."""

    @property
    def user(self) -> Sequence[str]:
        """PEM certificates of the user authority."""


class _Strict(Identity, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As read from a certificate: a field we don't know may be a limit we would not keep."""


def authority_of(kind: IdentityKind) -> Literal["host", "user"]:
    """Return which authority vouches for this kind, and no other does."""
    return "user" if kind == "user" else "host"


def identity_extension(identity: Identity) -> x509.UnrecognizedExtension:
    """Write an identity down for a certificate.

    Raises:
        InvalidRequest: a name is empty, too long, or holds control characters.
    """
    if problem := _problem(identity):
        raise InvalidRequest(f"no certificate can say this: {problem}")
    return x509.UnrecognizedExtension(IDENTITY_OID, msgspec.json.encode(identity))


def identity_of(
    certificate: bytes,
    *,
    authorities: Trusted,
    expected_kinds: Collection[IdentityKind],
    now: datetime,
    grace: timedelta = timedelta(0),
    early: bool = False,
) -> Identity:
    """Return who the peer is, by its certificate (DER), as the handshake delivered it.

    Call it once the handshake is done, before anything the peer says is believed: TLS has
    then proved that the peer holds the key, and this proves the rest.

    Args:
        authorities: whom we trust now.
        expected_kinds: who may come through this door.
        now: aware.
        grace: how long ago the certificate may have expired; only renewing a host's
            certificate gives any.
        early: it counts before its time, too, as one does that was made while the issuer's clock was
            ahead; only renewing allows that.

    Raises:
        OutOfTime: it, or the authority that issued it, is not valid now.
        AccessDenied: not issued directly by the right authority, for another purpose or
            cluster, or of another kind; `reason` says which.
    """
    question = _question(certificate, authorities, expected_kinds)
    known = _believed.get(question)
    if known is not None and known.since <= now < known.until:
        return known.identity
    cert, identity, issuers = _anchored(certificate, authorities, expected_kinds, now)
    if identity.kind not in expected_kinds:
        wanted = " or ".join(sorted(expected_kinds))
        raise _refused(f"it is {_article(identity.kind)}'s, expected {_article(wanted)}'s")
    if identity.cluster != authorities.cluster:
        raise _refused(f"it is of cluster {identity.cluster!r}, this is {authorities.cluster!r}")
    if problem := _problem(identity):
        raise _refused(problem)
    _check_profile(cert, identity.kind)
    if now < cert.not_valid_before_utc and not early:
        raise _out_of_time(f"it is valid from {cert.not_valid_before_utc:%FT%TZ} on", now)
    if now >= cert.not_valid_after_utc + grace:
        raise _out_of_time(f"it expired at {cert.not_valid_after_utc:%FT%TZ}", now)
    if len(issuers) == 1:
        _believe(question, identity, (cert, *issuers))
    return identity


class _Belief(NamedTuple):
    """Whom a certificate was found to be, and when that is so: not before `since`, and before `until`."""

    identity: Identity
    since: datetime
    until: datetime


_Question = tuple[bytes, str, tuple[str, ...], tuple[str, ...], frozenset[IdentityKind]]

# Each watch asks every second, for each machine. Nobody fills it but who has a certificate of ours.
_MAX_BELIEVED: Final = 10_000
_believed: dict[_Question, _Belief] = {}


def _question(
    certificate: bytes, authorities: Trusted, expected_kinds: Collection[IdentityKind]
) -> _Question:
    """Return all that the answer depends on, but for the time."""
    return (
        sha256(certificate).digest(),
        authorities.cluster,
        tuple(authorities.host),
        tuple(authorities.user),
        frozenset(expected_kinds),
    )


def _believe(question: _Question, identity: Identity, chain: Sequence[x509.Certificate]) -> None:
    """Remember an answer for as long as all of these are valid."""
    if len(_believed) >= _MAX_BELIEVED:
        _believed.clear()
    since = max(each.not_valid_before_utc for each in chain)
    until = min(each.not_valid_after_utc for each in chain)
    _believed[question] = _Belief(identity, since, until)


def _anchored(
    certificate: bytes,
    authorities: Trusted,
    expected_kinds: Collection[IdentityKind],
    now: datetime,
) -> tuple[x509.Certificate, Identity, Collection[x509.Certificate]]:
    """Parse, find the issuer among the authorities, and only then read what the holder is.

    Returns also the issuer of each kind that there is: one, unless two authorities share a key.
    """
    if len(certificate) > _MAX_CERTIFICATE:
        raise _refused("it is too large")
    try:
        with warnings.catch_warnings():  # of oddities that the signature's check below refuses
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            cert = x509.load_der_x509_certificate(certificate)
            extension = cert.extensions.get_extension_for_oid(IDENTITY_OID)
    except x509.ExtensionNotFound:
        raise _refused("it holds no tport identity") from None
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
        raise _refused("it can't be read") from None
    # The number of unused bits before the signature, which is in whole bytes. Where its last bit is 0
    # the library takes a 1 here for the same signature: two encodings of one certificate.
    if certificate[-len(cert.signature) - 1] != 0:
        raise _refused("it can't be read")
    issuers = {authority_of(kind) for kind in expected_kinds}
    issued = {
        kind: by
        for kind in issuers
        if (by := _issuer(cert, getattr(authorities, kind), now)) is not None
    }
    issuer = next((kind for kind, by in issued.items() if _is_valid(by, now)), None)
    if issuer is None:
        for by in issued.values():
            when = f"{by.not_valid_before_utc:%FT%TZ} to {by.not_valid_after_utc:%FT%TZ}"
            raise _out_of_time(f"the authority that issued it is valid from {when}", now)
        raise _refused(f"no {' or '.join(sorted(issuers))} authority of this cluster issued it")
    value = extension.value
    assert isinstance(value, x509.UnrecognizedExtension)
    try:
        strict = msgspec.json.decode(value.value, type=_Strict)
    except msgspec.DecodeError:  # ValidationError is one
        raise _refused("its identity can't be read") from None
    identity = Identity(**{name: getattr(strict, name) for name in Identity.__struct_fields__})
    if authority_of(identity.kind) != issuer:
        raise _refused(f"the {issuer} authority does not vouch for {_article(identity.kind)}")
    return cert, identity, issued.values()


def _issuer(
    cert: x509.Certificate, authorities: Sequence[str], now: datetime
) -> x509.Certificate | None:
    """Return which authority signed it: one that is valid now, if any of them is."""
    signed = [issuer for pem in authorities if _signed(cert, issuer := load_certificate(pem))]
    return max(signed, key=lambda issuer: _is_valid(issuer, now), default=None)


def _is_valid(authority: x509.Certificate, now: datetime) -> bool:
    return authority.not_valid_before_utc <= now < authority.not_valid_after_utc


def _signed(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether this authority signed the certificate, whatever the time is now."""
    try:
        cert.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_profile(cert: x509.Certificate, kind: IdentityKind) -> None:
    """Check that the certificate is a leaf made for this kind, with nothing critical beside."""
    extensions = cert.extensions
    unknown = [e.oid.dotted_string for e in extensions if e.critical and e.oid not in _KNOWN]
    if unknown:
        raise _refused(f"it holds critical extensions unknown here ({', '.join(unknown)})")
    if not extensions.get_extension_for_oid(IDENTITY_OID).critical:
        raise _refused("its identity is not critical")
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise _refused(f"it lacks {error.oid._name}") from None
    if basic.ca or usage.key_cert_sign:
        raise _refused("it is an authority's own")
    if not usage.digital_signature:
        raise _refused("its key may not sign")
    if set(purposes) != set(KEY_USAGES[kind]):
        raise _refused(f"its extended key usage is not {_article(kind)}'s")


def _problem(identity: Identity) -> str:
    """Return what is wrong with the texts of an identity, "" when nothing is."""
    if identity.apps is not None and len(identity.apps) > MAX_APPS:
        return f"more than {MAX_APPS} applications"
    required = {"name": identity.name, "cluster": identity.cluster}
    for what, text in required.items():
        if not text:
            return f"the {what} is empty"
    for text in (*required.values(), identity.hostname, *(identity.apps or ())):
        if len(text) > MAX_NAME:
            return f"a text of {len(text)} characters, at most {MAX_NAME} are allowed"
        # C…: control, format, surrogate, unassigned. Zl, Zp: line and paragraph separator.
        if any(
            unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp")
            for c in text
        ):
            return f"control characters in {text!r}"
    return ""


def _refused(why: str) -> AccessDenied:
    return AccessDenied(f"certificate refused: {why}")


def _out_of_time(why: str, now: datetime) -> OutOfTime:
    return OutOfTime(
        f"certificate refused: {why}, by our clock it is {now:%FT%TZ}",
        hint="compare the clocks of both machines",
    )


def _article(kinds: str) -> str:
    return f"an {kinds}" if kinds[0] in "aeiou" else f"a {kinds}"


assert KEY_USAGES.keys() == set(get_args(IdentityKind))
